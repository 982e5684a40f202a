# SPDX-License-Identifier: GPL-2.0-only
"""Clearing: what clears, what does not, and that nothing of the target's memory is the worse for it."""

import mmap
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from live.measuring import measure, new_engine, pages_in, touched_bytes
from pagepulse.kernel.syscalls import MADV_NOHUGEPAGE
from pagepulse.kernel.target import Target
from pagepulse.model.memory import CHUNK, LEVEL_CHUNK, PAGE, WINDOW, WINDOW_PAGES
from workload import Workload

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("one_cpu")]

PAGES = 1009
SMALL = f"a:{PAGES * PAGE}"


def clear(target: Target, *ranges: tuple[int, int]):
    return target.clear(np.array(ranges, np.uint64))


def young(target: Target, start: int, end: int) -> list[int]:
    """Numbers of the young pages."""
    return np.flatnonzero(target.read_pages(start, end).young).tolist()


def huge_bytes(pid: int, start: int) -> int:
    """AnonHugePages of the mapping that begins here."""
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    mapping = smaps[smaps.index(f"{start:x}-"):]
    return int(re.search(r"^AnonHugePages:\s+(\d+) kB", mapping, re.MULTILINE)[1]) * 1024


def huge_frames(reader, target: Target, start: int, end: int) -> list[int]:
    """Where in physical memory the huge pages are: one that was split, and made anew, is elsewhere."""
    copies = reader.page_tables(target.process.pidfd, start, end, target.identity)
    return [int(parent) >> 21 & 0x7FFF_FFFF for copy in copies for parent in copy.parents]


def test_only_what_was_asked_for_is_cleared(watch):
    with Workload("touch", "--area", SMALL) as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        result = clear(target, (start + 7 * PAGE, start + 20 * PAGE), (start + 101 * PAGE, start + 102 * PAGE))
        assert (result.calls, result.refused) == (1, 0)
        cleared = [*range(7, 20), 101]
        assert young(target, start, end) == [page for page in range(PAGES) if page not in cleared]


def test_more_ranges_than_one_call_takes_are_all_cleared(watch):
    with Workload("touch", "--area", SMALL) as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        ranges = [(start + page * PAGE, start + (page + 1) * PAGE) for page in range(0, 2 * 263, 2)]
        assert clear(target, *ranges).calls == 3  # of at most 128
        assert young(target, start, end) == [page for page in range(PAGES) if page % 2 or page >= 526]


def test_ranges_behind_one_that_is_refused_are_cleared_all_the_same(watch):
    with Workload("touch", "--area", f"a:{13 * PAGE}", "--area", f"b:{13 * PAGE}:locked", "--area", f"c:{13 * PAGE}",
                  ) as touch, watch(touch.pid) as target:
        target.mappings()
        assert clear(target, *sorted(touch.area(name) for name in "abc")).refused == 1
        assert [len(young(target, *touch.area(name))) for name in "abc"] == [0, 13, 0]
        unclearable = [(m.start, m.end) for m in target.mappings() if not m.clearable]
        assert unclearable == [touch.area("b")]


def test_what_lies_behind_a_locked_part_of_a_heap_is_watched_all_the_same(watch):
    code = (f"import ctypes, mmap; m = mmap.mmap(-1, {3 * WINDOW}, flags={mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS})\n"
            f"m.madvise({MADV_NOHUGEPAGE})\n"
            f"for page in range({3 * WINDOW // PAGE}): m[page * {PAGE}] = 1\n"
            f"start = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
            f"assert ctypes.CDLL(None).mlock(ctypes.c_void_p(start + {13 * PAGE}), {13 * PAGE}) == 0\n"
            "print(start, flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as python:
        start = int(python.stdout.readline())
        with watch(python.pid) as target:
            engine = new_engine(target)
            measure(engine, 5)
            known = [pages_in(engine, engine.windows.known, start + first * PAGE, start + end * PAGE)
                     for first, end in ((0, 13), (13, 26), (26, 3 * WINDOW // PAGE))]
        python.kill()
    assert known == [13, 0, 3 * WINDOW // PAGE - 26]


def test_a_mapping_that_shrank_since_it_was_looked_at_is_not_taken_for_locked(watch):
    """A heap does: the kernel says ENOMEM of the part that is gone, and the rest can be cleared."""
    code = (f"import mmap; m = mmap.mmap(-1, {PAGES * PAGE}, flags={mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS})\n"
            f"for page in range({PAGES}): m[page * {PAGE}] = 1\n"
            f"print('mapped', flush=True); input(); m.resize({503 * PAGE}); print('shrunk', flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as python:
        assert python.stdout.readline() == "mapped\n"
        with watch(python.pid) as target:
            before = target.mappings()
            python.stdin.write("\n")
            python.stdin.flush()
            assert python.stdout.readline() == "shrunk\n"
            result = clear(target, *((m.start, m.end) for m in before if m.clearable and m.anonymous))
            assert result.refused == 1
            assert all(m.clearable for m in target.mappings() if m.anonymous)
        python.kill()


def test_a_whole_huge_page_is_cleared_and_stays_huge(reader, watch):
    with Workload("touch", "--area", f"a:{7 * CHUNK}:thp") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        frames = huge_frames(reader, target, start, end)
        assert huge_bytes(touch.pid, start) == 7 * CHUNK
        clear(target, (start, end))
        assert young(target, start, end) == []
        assert huge_bytes(touch.pid, start) == 7 * CHUNK
        assert huge_frames(reader, target, start, end) == frames


def test_the_engine_never_splits_a_huge_page_whatever_it_probes_sweeps_and_cuts(reader, watch):
    with Workload("touch", "--area", f"a:{7 * CHUNK}:thp", "--area", SMALL.replace("a", "b")) as touch, \
            watch(touch.pid) as target:
        start, end = touch.area("a")
        frames = huge_frames(reader, target, start, end)
        engine = new_engine(target)
        for page in (0, 600, 3500):
            touch.command(f"touch a {page} 1")
            measure(engine, 5)
        assert pages_in(engine, engine.windows.known, start, end) == 7 * 512
        assert huge_bytes(touch.pid, start) == 7 * CHUNK
        assert huge_frames(reader, target, start, end) == frames
        read = target.read_windows(np.arange(start, end, WINDOW, dtype=np.uint64))
        assert (read.level == LEVEL_CHUNK).all()


def test_clear_memory_is_known_to_be_idle_page_by_page(watch):
    with Workload("touch", "--area", SMALL) as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        engine = new_engine(target)
        snapshot = measure(engine)
        assert pages_in(engine, engine.windows.watched, start, end) == PAGES
        assert touched_bytes(snapshot, start, end) == 0
        assert engine.take_work().pages_cleared >= PAGES


@pytest.fixture(name="unclearable", params=["forked", "locked", "hugetlb", "hugetlb shared", "zero pages"])
def _unclearable(request, huge_pages):
    """A program with an area that MADV_COLD skips or refuses, in which every page is young."""
    options = {"locked": ":locked", "hugetlb": ":hugetlb", "hugetlb shared": ":hugetlb:shared", "zero pages": ":lazy"}
    with Workload("touch", "--area", SMALL + options.get(request.param, "")) as touch:
        if request.param == "forked":
            touch.command("fork")
        if request.param == "zero pages":
            touch.command(f"read a 0 {PAGES}")
        yield touch


def test_what_cannot_be_cleared_is_counted_as_that_and_neither_hot_nor_cold(unclearable, watch):
    start, end = unclearable.area("a")
    with watch(unclearable.pid) as target:
        clear(target, (start, end))
        pages = (end - start) // PAGE
        for _ in range(5):  # what another monitor takes meanwhile, nobody sees where there are no kprobes
            unclearable.command(f"read a 0 {pages}")
            engine = new_engine(target)
            snapshot = measure(engine)
            windows = engine.windows
            if pages_in(engine, windows.refused, start, end) == pages:
                break
    assert pages_in(engine, windows.refused, start, end) == pages
    assert pages_in(engine, windows.dirty(), start, end) == 0
    assert pages_in(engine, windows.watched, start, end) == 0
    assert pages_in(engine, windows.unknown(), start, end) == 0
    assert touched_bytes(snapshot, start, end) == 0
    assert snapshot.unclearable_bytes >= pages * PAGE
    assert snapshot.idle_bytes[0] < pages * PAGE  # of the rest of the program


def test_memory_that_was_shared_is_watched_once_it_is_not(watch):
    """A database forks to save its data: what it shared meanwhile must not stay unknown for ever."""
    with Workload("touch", "--area", SMALL) as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        touch.command("fork")
        engine = new_engine(target)
        measure(engine)
        assert pages_in(engine, engine.windows.refused, start, end) == PAGES
        touch.command("reap")
        snapshot = measure(engine)
        assert pages_in(engine, engine.windows.refused, start, end) == 0
        assert pages_in(engine, engine.windows.watched, start, end) == PAGES
        assert snapshot.idle_bytes[0] >= PAGES * PAGE


def test_why_a_page_stayed_young_is_told_apart(watch):
    """The first half was skipped, because a child shares it. The second was cleared and touched again."""
    with Workload("touch", "--area", f"a:{2 * WINDOW}") as touch, watch(touch.pid) as target:
        touch.command("fork")
        start, end = touch.area("a")
        half = PAGE * ((end - start) // PAGE // 2)
        second_half = f"touch a {half // PAGE} {half // PAGE}"
        touch.command(second_half)  # copied: no longer shared
        clear(target, (start, end))
        touch.command(second_half)
        windows = np.arange(start // WINDOW * WINDOW, end, WINDOW, dtype=np.uint64)
        inside = target.read_windows(windows).young
        skipped = target.unclearable(windows, inside)
        pages = windows[:, None] + np.arange(WINDOW_PAGES, dtype=np.uint64) * np.uint64(PAGE)
        bits = (skipped[:, None] >> np.arange(WINDOW_PAGES, dtype=np.uint64)) & np.uint64(1)
        found = pages[(bits == 1) & (pages >= start) & (pages < end)]
        assert found.tolist() == list(range(start, start + half, PAGE))


def test_the_target_finds_its_memory_as_it_left_it(watch):
    with Workload("touch", "--area", SMALL) as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        with Path(f"/proc/{touch.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(start)
            content = memory.read(end - start)
            measure(new_engine(target), 20)
            memory.seek(start)
            assert memory.read(end - start) == content
