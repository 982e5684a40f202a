# SPDX-License-Identifier: GPL-2.0-only
"""Memory that several processes map: shown as unclearable, or cleared all at once by clear_refs, and then known."""

import json
import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

from live.machine import wait_until
from live.measuring import measure, new_engine, pages_in
from live.recorder import Recorder, pagepulse, snapshots
from pagepulse.capture import Recording
from pagepulse.kernel import target as target_module
from pagepulse.kernel.process import Process
from pagepulse.kernel.target import Target
from pagepulse.model.clearing import REFS, is_mostly_shared
from pagepulse.model.memory import PAGE
from workload import Workload

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("one_cpu")]

MIB = 1 << 20
PAGES = 2003
OTHERS = 16
"""Pages of which DAMON, where it samples the machine's physical memory, may clear the accessed bit meanwhile."""
POOL = f"pool:{PAGES * PAGE}:shared"


@pytest.fixture(name="refs")
def _refs(reader, probes):
    """Watch a process, and clear all of it by clear_refs."""
    @contextmanager
    def watch(pid):
        process = Process(pid)
        target = Target(process, reader, probes, REFS)
        yield target
        target.close()
        process.close()
    return watch


@contextmanager
def database(size: str = POOL):
    """A program with a buffer pool that another process maps, too."""
    with Workload("touch", "--area", size) as touch:
        touch.command("fork pool")
        yield touch


def young(target, start, end):
    return int(target.read_pages(start, end).young.sum())


def test_shared_memory_stays_young_after_a_clear_of_its_own_pages_and_not_after_one_of_all(watch, refs):
    with database() as touch:
        start, end = touch.area("pool")
        with watch(touch.pid) as target:
            target.clear(np.array([[start, end]], np.uint64))
            assert young(target, start, end) == PAGES
        with refs(touch.pid) as target:
            target.mappings()
            target.clear(np.array([[start, start + PAGE]], np.uint64))
            assert young(target, start, end) == 0
            assert target.refs.calls == 1
            assert target.refs.longest_ns > 0


def test_shared_memory_is_watched_page_by_page_where_all_is_cleared_together(refs):
    with database() as touch, refs(touch.pid) as target:
        start, end = touch.area("pool")
        engine = new_engine(target)
        snapshot = measure(engine, 10)
        assert pages_in(engine, engine.windows.watched, start, end) == PAGES
        assert pages_in(engine, engine.windows.refused, start, end) == 0
        assert snapshot.idle_bytes[0] >= PAGES * PAGE
        assert snapshot.unclearable_bytes < PAGES * PAGE // 10


def test_a_child_that_shares_copied_memory_does_not_hide_it_where_all_is_cleared_together(refs):
    with Workload("touch", "--area", f"heap:{PAGES * PAGE}") as touch, refs(touch.pid) as target:
        start, end = touch.area("heap")
        touch.command("fork")
        touch.command("touch heap 0 503")  # copied on write
        engine = new_engine(target)
        measure(engine, 10)
        assert pages_in(engine, engine.windows.watched, start, end) == PAGES


def test_of_copied_memory_the_copies_can_be_cleared_and_the_rest_is_shown_as_unclearable(watch):
    with Workload("touch", "--area", f"heap:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("heap")
        touch.command("fork")
        touch.command("touch heap 0 503")
        engine = new_engine(target)
        snapshot = measure(engine)
        assert 503 <= pages_in(engine, engine.windows.watched, start, end) <= 503 + OTHERS
        assert PAGES - 503 - OTHERS <= pages_in(engine, engine.windows.refused, start, end) <= PAGES - 503
        assert snapshot.unclearable_bytes >= (PAGES - 503 - OTHERS) * PAGE
        touch.command("reap")
        measure(engine)
        assert pages_in(engine, engine.windows.watched, start, end) == PAGES


def test_the_zero_page_that_no_clear_reaches_is_counted_as_unclearable(refs):
    with Workload("touch", "--area", f"zero:{PAGES * PAGE}:lazy") as touch, refs(touch.pid) as target:
        start, end = touch.area("zero")
        touch.command(f"read zero 0 {PAGES}")
        engine = new_engine(target)
        measure(engine, 60)
        assert pages_in(engine, engine.windows.refused, start, end) == PAGES


def test_locked_memory_is_watched_once_it_is_locked_no_more(watch, monkeypatch):
    monkeypatch.setattr(target_module, "_ASK_AGAIN_NS", 50_000_000)
    with Workload("touch", "--area", f"a:{PAGES * PAGE}:locked") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        engine = new_engine(target)
        measure(engine, 20)
        assert pages_in(engine, engine.windows.refused, start, end) == PAGES
        touch.command("unlock a")
        assert wait_until(lambda: measure(engine, 10) and pages_in(engine, engine.windows.watched, start, end) == PAGES)


def test_a_small_program_whose_libraries_are_shared_is_no_shared_memory(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        engine = new_engine(target)
        measure(engine)
        assert not is_mostly_shared(engine.windows, target.mappings(), target.rss_bytes())


def test_a_target_that_is_mostly_shared_is_cleared_as_a_whole_and_all_that_tells_of_it_says_so(output):
    hot = 8 * MIB // PAGE
    with database(f"pool:{48 * MIB}:shared") as touch, \
            Recorder("--pid", str(touch.pid), "--json", output=output) as recorder:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not _is_known(output):
            touch.command(f"touch pool 0 {hot}")
            time.sleep(0.02)
        recorder.send(signal.SIGINT)
        outcome = recorder.end()
    assert "most of the target is shared" in outcome.err
    assert outcome.json["clearing"]["how"] == "refs"
    assert outcome.json["clearing"]["clears"] > 0
    with Recording.open(output) as recording:
        assert [event.data["what"] for event in recording.events() if event.kind == "clear"] == ["memory with a file"]
        last = recording.last()
    assert last.wss_bytes == pytest.approx(8 * MIB, rel=0.1)
    assert last.idle_bytes[1] == pytest.approx(40 * MIB, rel=0.1)
    assert "clear_refs" in pagepulse("report", "wss", output).out
    assert json.loads(pagepulse("report", "idle", "--json", output).out)["clearing"]["how"] == "refs"


def _is_known(output):
    """Whether the newest snapshots tell hot from cold: the pool was cleared, and left alone since."""
    taken = snapshots(output)[-3:]
    return len(taken) == 3 and all(s.unclearable_bytes < MIB and abs(s.wss_bytes - 8 * MIB) < MIB // 2
                                   and s.idle_bytes[1] > 38 * MIB for s in taken)


def test_one_who_asks_for_pages_alone_gets_no_clear_of_all(output):
    with database(f"pool:{16 * MIB}:shared") as touch:
        outcome = pagepulse("record", "--pid", str(touch.pid), "--clear", "cold", "--duration", "5s", "--json",
                            "-o", output)
    assert outcome.json["clearing"] == {"how": "cold"}
    assert outcome.json["unclearable_bytes"] > 0


def test_a_target_that_ends_while_all_is_cleared_ends_the_recording_in_good_order(output):
    with database() as touch, Recorder("--pid", str(touch.pid), "--clear", "refs", "--aggregate", "100ms",
                                       output=output) as recorder:
        recorder.wait_for_snapshots()
        os.kill(touch.pid, signal.SIGKILL)
        assert recorder.end().status == 0
