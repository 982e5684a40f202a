# SPDX-License-Identifier: GPL-2.0-only
"""The probes: every fault of the target counted once, nobody else's, and what does not fit counted as lost."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pagepulse.kernel.probes import CLEARING_FUNCTIONS, Probes
from pagepulse.model.memory import PAGE, WINDOW, WINDOW_PAGES
from workload import Workload

pytestmark = pytest.mark.live

PAGES = 1009
TABLE = 16384  # PP_FAULTS


def faults_in(drained, start: int, end: int) -> int:
    """Faults in the windows of a range that begins and ends with one."""
    windows, counts = drained
    return int(counts[(windows >= start) & (windows < end)].sum())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(name="touch")
def _touch():
    """A program with an area of small pages that nobody has touched yet; its own code is warm."""
    with Workload("touch", "--area", f"a:{(PAGES + 2 * WINDOW_PAGES) * PAGE}:lazy", "--area", f"warm:{PAGE}:lazy",
                  ) as touch:
        touch.command("read warm 0 1")
        touch.command("touch warm 0 1")
        yield touch


def whole_windows(touch: Workload) -> tuple[int, int, int]:
    """The area without the windows that it shares with its neighbours: first page, start, end."""
    start, end = touch.area("a")
    first = -(-start // WINDOW) * WINDOW
    return (first - start) // PAGE, first, end // WINDOW * WINDOW


def test_each_first_touch_is_one_fault(touch, watch, probes):
    page, start, end = whole_windows(touch)
    with watch(touch.pid):
        probes.drain_faults()
        touch.command(f"read a {page} 499 2")
        assert faults_in(probes.drain_faults(), start, end) == 499
        touch.command(f"read a {page + 1} 503 2")
        assert faults_in(probes.drain_faults(), start, end) == 503


def test_a_second_touch_is_none(touch, watch, probes):
    page, start, end = whole_windows(touch)
    touch.command(f"read a {page} {PAGES}")
    with watch(touch.pid):
        probes.drain_faults()
        touch.command(f"read a {page} {PAGES}")
        assert faults_in(probes.drain_faults(), start, end) == 0


def test_faults_are_counted_where_they_happened(touch, watch, probes):
    page, start, end = whole_windows(touch)
    with watch(touch.pid):
        probes.drain_faults()
        touch.command(f"read a {page} 7 131")
        windows, counts = probes.drain_faults()
    found = (windows >= start) & (windows < end)
    assert sorted(windows[found].tolist()) == [start + n * 131 // WINDOW_PAGES * WINDOW for n in range(7)]
    assert (counts[found] == 1).all()


def test_a_page_that_is_cleared_and_touched_again_is_no_fault(touch, watch, probes, one_cpu):
    page, start, end = whole_windows(touch)
    touch.command(f"touch a {page} {PAGES}")
    with watch(touch.pid) as target:
        probes.drain_faults()
        target.clear(np.array([[start, end]], np.uint64))
        touch.command(f"touch a {page} {PAGES}")
        assert faults_in(probes.drain_faults(), start, end) == 0


def test_an_unrelated_process_adds_nothing(touch, watch, probes):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}:lazy") as other, watch(touch.pid):
        probes.drain_faults()
        other.command(f"touch a 0 {PAGES}")
        assert probes.drain_faults()[0].tolist() == []


FAMILY = f"""
import ctypes, mmap, os, threading
m = mmap.mmap(-1, {(PAGES + 2 * WINDOW_PAGES) * PAGE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(mmap.MADV_NOHUGEPAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(m))
first = -address % {WINDOW}
def work(n, step):
    for page in range(n, {PAGES}, step):
        m[first + page * {PAGE}]
def threads():
    started = [threading.Thread(target=work, args=(n, 4)) for n in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
def child():
    pid = os.fork()
    if not pid:
        work(0, 1)
        os._exit(0)
    os.waitpid(pid, 0)
print(address + first, flush=True)
input()
{{what}}()
print('done', flush=True)
input()
"""


@pytest.mark.parametrize(("what", "expected"), [("threads", PAGES), ("child", 0)])
def test_every_thread_of_the_target_counts_and_no_child_of_it(watch, probes, what, expected):
    with subprocess.Popen([sys.executable, "-c", FAMILY.format(what=what)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as python:
        start = int(python.stdout.readline())
        with watch(python.pid):
            probes.drain_faults()
            python.stdin.write("\n")
            python.stdin.flush()
            assert python.stdout.readline() == "done\n"
            found = faults_in(probes.drain_faults(), start, start + -(-PAGES // WINDOW_PAGES) * WINDOW)
        python.kill()
    assert found == expected


def test_what_does_not_fit_is_counted_as_lost(watch, probes):
    """One fault in each of more windows than the table holds: none of them vanishes."""
    windows = TABLE + PAGES
    with Workload("touch", "--area", f"a:{(windows + 2) * WINDOW}:lazy", "--area", f"warm:{PAGE}:lazy") as touch:
        touch.command("read warm 0 1")
        page, start, end = whole_windows(touch)
        with watch(touch.pid):
            probes.drain_faults()
            lost_before = probes.lost
            touch.command(f"read a {page} {windows} 64")
            lost = probes.lost - lost_before
            assert lost >= PAGES
            assert faults_in(probes.drain_faults(), start, end) + lost == windows
            touch.command(f"read a {page + 1} 7")  # after a drain there is room again
            assert faults_in(probes.drain_faults(), start, end) == 7
            assert probes.lost - lost_before == lost


def test_after_the_end_nothing_is_counted_and_nothing_is_left_open(touch, programs, watch, probes):
    own = Probes(programs)
    open_before = open_files()
    with watch(touch.pid):
        own.drain_faults()
        own.close()
        touch.command(f"read a 0 {PAGES}")
        assert own.drain_faults()[0].tolist() == []
    assert open_files() == open_before - len(own.attached)


def test_every_probe_says_whether_it_is_attached_and_what_is_lost_without_it(probes):
    states = {state.name: state for state in probes.states}
    assert {f"kprobe:{function}" for function in CLEARING_FUNCTIONS} <= set(states)
    assert all(state.reason and state.without for state in probes.states)
    assert probes.attached == [state.name for state in probes.states if state.available]
    has_kprobes = Path("/sys/bus/event_source/devices/kprobe").exists()
    assert probes.sees_taken == has_kprobes
    assert states["kprobe:handle_mm_fault"].available == has_kprobes
    if not has_kprobes:
        assert states["kprobe:handle_mm_fault"].reason == "this kernel was built without kprobes"
        assert states["raw_tracepoint:page_fault_user"].available
