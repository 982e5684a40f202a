# SPDX-License-Identifier: GPL-2.0-only
"""Fault-around: a fault on a page of a file maps its neighbours with it, marked young. Nobody has touched those."""

from tempfile import NamedTemporaryFile

import numpy as np
import pytest

from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.memory import PAGE, WINDOW
from workload import Workload

pytestmark = pytest.mark.live

PAGES = 256
MS = 1_000_000


@pytest.fixture(name="touch")
def _touch(one_cpu):
    """A program with a file mapped of which nobody has touched a page yet; the file is in memory, in small pages."""
    with NamedTemporaryFile(dir="/dev/shm") as file:  # a disk's file system might have it in large folios
        file.write(b"x" * PAGES * PAGE)
        file.flush()
        with Workload("touch", "--area", f"a:{PAGES * PAGE}:lazy:file={file.name}") as touch:
            yield touch


def masks(target, start: int) -> tuple[int, int]:
    """Pages of the area that are mapped, and how many of them are young."""
    bits = target.read_pages(start, start + PAGES * PAGE)
    return int(bits.present.sum()), int(bits.young.sum())


def known(engine: Engine, inside) -> int:
    return int(np.bitwise_count(engine.windows.known[inside]).sum())


def test_one_fault_maps_neighbours_and_is_counted_as_one(touch, watch, probes, record_testsuite_property):
    start, end = touch.area("a")
    with watch(touch.pid) as target:
        assert masks(target, start) == (0, 0)
        probes.drain_faults()
        touch.command(f"read a {PAGES // 2} 1")
        present, young = masks(target, start)
        windows, counts = probes.drain_faults()
    record_testsuite_property("one fault on a file", f"{present} pages mapped, {young} of them young")
    assert present > 1
    assert int(counts[(windows >= start // WINDOW * WINDOW) & (windows < end)].sum()) == 1


def test_neighbours_that_a_fault_mapped_are_unknown_and_not_touched(touch, watch, probes):
    start, end = touch.area("a")
    touch.command("read a 0 1")
    with watch(touch.pid) as target:
        probes.drain_faults()
        engine = Engine(touch.pid, target, EngineOptions(5 * MS, 100 * MS, 10, 1000))
        engine.update()
        inside = (engine.windows.first >= start) & (engine.windows.first < end)
        engine.sweep(1 << 20)
        mapped, _ = masks(target, start)
        assert known(engine, inside) == mapped > 0
        touch.command(f"read a {PAGES // 2} 1")
        now_mapped, _ = masks(target, start)
        engine.hint(probes.drain_faults()[0])
        engine.patrol(1 << 20, target.now_ns())
        unknown = int(np.bitwise_count(engine.windows.unknown()[inside]).sum())
        assert now_mapped > mapped
        assert known(engine, inside) == mapped
        assert unknown == now_mapped - mapped
        # Once they were cleared, they are known, and idle.
        engine.sweep(1 << 20)
        engine.patrol(1 << 20, target.now_ns())
        assert known(engine, inside) == now_mapped
        assert not engine.windows.dirty()[inside].any()


def test_neighbours_that_were_reclaimed_and_mapped_again_are_unknown_again(touch, watch, probes):
    start, end = touch.area("a")
    touch.command("read a 0 1")
    with watch(touch.pid) as target:
        engine = Engine(touch.pid, target, EngineOptions(5 * MS, 100 * MS, 10, 1000))
        engine.update()
        inside = (engine.windows.first >= start) & (engine.windows.first < end)
        engine.sweep(1 << 20)
        mapped, _ = masks(target, start)
        assert known(engine, inside) == mapped > 1
        probes.drain_faults()
        touch.command("drop a")
        engine.patrol(1 << 20, target.now_ns())
        assert known(engine, inside) == 0
        touch.command("read a 0 1")
        engine.hint(probes.drain_faults()[0])
        engine.patrol(1 << 20, target.now_ns())
        assert int(np.bitwise_count(engine.windows.unknown()[inside]).sum()) == mapped
