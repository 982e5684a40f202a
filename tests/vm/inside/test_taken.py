# SPDX-License-Identifier: GPL-2.0-only
"""Accessed bits that another agent clears: kept by the probes on the kernel's clearing functions, lost without them."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from fakes import NoProbes
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.process import Process
from pagepulse.kernel.shared_probes import SharedProbes
from pagepulse.kernel.target import Target
from pagepulse.model.clearing import COLD, REFS
from pagepulse.model.memory import PAGE, WINDOW, WINDOW_PAGES
from vm.inside.agents import AGENTS, ONCE, in_cgroup
from vm.inside.meanwhile import meanwhile
from workload import Workload

pytestmark = pytest.mark.live

PAGES = 4096
STEP, APART = 13, 130
"""Between hot pages: several in each window, and one in every second."""
HOT = list(range(0, PAGES, STEP))
TURNS = 4
"""In which all hot pages are touched, over and over."""
PASSES = 4
"""Of another agent, the last of them when nobody touches anything any more: it finds what it left."""


@pytest.fixture(name="touch")
def _touch(swap) -> Iterator[Workload]:
    """16 MiB in a cgroup of their own; all on one CPU, so that no page waits in another one's batch."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    with Workload("touch", "--area", f"a:{PAGES * PAGE}:lazy") as touch:
        in_cgroup(touch.pid)
        touch.command(f"touch a 0 {PAGES}")
        yield touch
    os.sched_setaffinity(0, before)


@contextmanager
def watched(touch: Workload, reader, probes, way: str = COLD) -> Iterator[Target]:
    process = Process(touch.pid)
    target = Target(process, reader, probes, way)
    yield target
    target.close()
    process.close()


def touched_pages(target: Target, start: int, end: int) -> set[int]:
    """Numbers of the pages that count as touched, window by window."""
    windows = np.arange(start // WINDOW * WINDOW, end, WINDOW, dtype=np.uint64)
    young = target.read_windows(windows).young
    bits = (young[:, None] >> np.arange(WINDOW_PAGES, dtype=np.uint64)) & np.uint64(1)
    addresses = (windows[:, None] + np.arange(WINDOW_PAGES, dtype=np.uint64) * np.uint64(PAGE))[bits != 0]
    return {(address - start) // PAGE for address in addresses.tolist() if start <= address < end}


def recall(target: Target, touch: Workload, agent: str, step: int = STEP) -> float:
    """Share of the hot pages that count as touched, of those that are still in memory, with the agent at work."""
    start, end = touch.area("a")
    hot = set(range(0, PAGES, step))
    touch.command(f"touch a 0 {PAGES}")  # back from swap
    target.clear(np.array([[start, end]], np.uint64))

    def touch_hot(is_over: threading.Event) -> None:
        """All the time; and each of them twice at least."""
        for turn in itertools.count():
            if is_over.wait(0.01) and turn >= 2 * TURNS:
                return
            touch.command(f"touch a {turn % TURNS * step} {len(hot) // TURNS} {TURNS * step}")
    with meanwhile(touch_hot):
        for _ in range(0 if agent in ONCE else PASSES - 1):
            AGENTS[agent](touch.pid)
    AGENTS[agent](touch.pid)
    found = touched_pages(target, start, end)
    resident = set(np.flatnonzero(target.read_pages(start, end).present).tolist()) & hot
    assert found <= resident
    assert len(resident) > 0.25 * len(hot)  # 7.2 reclaims the half that was asked for by address, hot or not
    return len(found) / len(resident)


@pytest.mark.parametrize("step", [STEP, APART])
@pytest.mark.parametrize("agent", AGENTS)
def test_what_another_agent_takes_is_kept(touch, reader, probes, record_testsuite_property, agent, step):
    with watched(touch, reader, NoProbes()) as target:
        without = recall(target, touch, agent, step)
    with watched(touch, reader, probes) as target:
        with_probes = recall(target, touch, agent, step)
    record_testsuite_property(f"recall, {agent}, one page in {step} hot",
                              f"{with_probes:.4f} with probes, {without:.4f} without")
    assert without < 0.9  # otherwise the agent did nothing, and this proves nothing
    assert with_probes >= 0.99


def test_what_was_taken_stays_touched_until_we_clear_it(touch, reader, probes):
    start, end = touch.area("a")
    with watched(touch, reader, probes) as target:
        recall(target, touch, "clear_refs")
        assert touched_pages(target, start, end) == set(HOT)  # a second read finds it, too
        bits = target.read_pages(start, end)
        assert np.flatnonzero(bits.young).tolist() == HOT
        target.clear(np.array([[start, start + 2048 * PAGE]], np.uint64))
        assert touched_pages(target, start, end) == {page for page in HOT if page >= 2048}


def test_what_we_clear_ourselves_is_not_taken(touch, reader, probes):
    start, end = touch.area("a")
    with watched(touch, reader, probes) as target:
        target.clear(np.array([[start, end]], np.uint64))
        touch.command(f"touch a 0 {len(HOT)} {STEP}")
        target.clear(np.array([[start, end]], np.uint64))
        assert touched_pages(target, start, end) == set()


def test_an_unrelated_process_leaves_no_trace(touch, reader, probes):
    with Workload("touch", "--area", f"b:{PAGES * PAGE}") as other, watched(touch, reader, probes):
        AGENTS["clear_refs"](other.pid)
        assert probes.drain_taken()[0].tolist() == []


def test_of_two_targets_each_keeps_what_was_taken_from_it_whoever_is_read_first(touch, reader, programs):
    shared = SharedProbes(programs)
    with Workload("touch", "--area", f"b:{PAGES * PAGE}") as other:
        one, two = shared.of_one(), shared.of_one()
        with watched(touch, reader, one) as first, watched(other, reader, two) as second:
            for target, process, area, step in ((first, touch, "a", STEP), (second, other, "b", 2 * STEP)):
                start, end = process.area(area)
                target.clear(np.array([[start, end]], np.uint64))
                process.command(f"touch {area} 0 {len(range(0, PAGES, step))} {step}")
            for process in (touch, other):
                AGENTS["clear_refs"](process.pid)
            assert touched_pages(first, *touch.area("a")) == set(HOT)
            assert touched_pages(second, *other.area("b")) == set(range(0, PAGES, 2 * STEP))
            two.close()
            AGENTS["clear_refs"](other.pid)
            assert one.drain_taken()[0].tolist() == []
        one.close()
    shared.close()


def clearing_ns(pid: int) -> float:
    """What clear_refs of a process costs for each page: the least of some passes."""
    least = float("inf")
    with Path(f"/proc/{pid}/clear_refs").open("w") as file:
        for _ in range(20):
            begun = time.perf_counter_ns()
            file.write("1")
            file.flush()
            least = min(least, time.perf_counter_ns() - begun)
    return least / PAGES


def test_an_unrelated_process_pays_little_for_being_looked_past(touch, reader, programs, record_testsuite_property):
    """How much is recorded, not judged: the processor is emulated."""
    with Workload("touch", "--area", f"b:{PAGES * PAGE}") as other:
        without_ns = clearing_ns(other.pid)
        own = Probes(programs)
        with watched(touch, reader, own):
            with_ns = clearing_ns(other.pid)
            assert own.drain_taken()[0].tolist() == []
        own.close()
    record_testsuite_property("clear_refs of an unrelated process, ns a page",
                              f"{with_ns:.0f} with probes, {without_ns:.0f} without")


def sweep_ns(touch: Workload, target: Target, sweep: Callable[[], object]) -> float:
    """What a sweep of memory that was all touched costs, a page: the least of some."""
    least = float("inf")
    for _ in range(10):
        touch.command(f"touch a 0 {PAGES}")
        begun = time.perf_counter_ns()
        sweep()
        least = min(least, time.perf_counter_ns() - begun)
    return least / PAGES


@pytest.mark.parametrize("way", [COLD, REFS])
def test_whether_a_clear_that_tells_what_it_found_is_cheaper_than_a_read_before_it(
        touch, reader, programs, record_testsuite_property, way):
    """In one pass, the probes hear of our own clears. What is cheaper is recorded, not judged: it is an emulation."""
    start, end = touch.area("a")
    windows = np.arange(start // WINDOW * WINDOW, end, WINDOW, dtype=np.uint64)
    probes, found = Probes(programs), []
    with watched(touch, reader, probes, way) as target:
        target.mappings()

        def in_two_passes() -> None:
            target.read_windows(windows)
            target.clear(np.array([[start, end]], np.uint64))

        def in_one_pass() -> None:
            target.clear(np.array([[start, end]], np.uint64))
            found.append(sum(int(mask).bit_count() for mask in probes.drain_taken()[1].tolist()))

        two_ns = sweep_ns(touch, target, in_two_passes)
        probes.own_clear = nullcontext()  # our own clears are told, too
        one_ns = sweep_ns(touch, target, in_one_pass)
    probes.close()
    tells = max(found) >= PAGES
    assert tells or way == COLD  # MADV_COLD asks the function that is probed from some kernel on: not in 6.1
    record_testsuite_property(f"a sweep by {way}, ns a page", f"{two_ns:.0f} with a read first, " + (
        f"{one_ns:.0f} in one pass" if tells else "one pass shows nothing"))
