# SPDX-License-Identifier: GPL-2.0-only
"""The reader against programs that know what they touched. Counts are primes: no other number comes out by accident."""

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from live.machine import huge_page_pool, wait_until
from pagepulse.errors import TargetGone, UsageError
from pagepulse.kernel.process import Process
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.target import Target
from pagepulse.model.memory import CHUNK, LEVEL_CHUNK, LEVEL_GIB, LEVEL_NONE, LEVEL_PAGE, PAGE, WINDOW, WINDOW_PAGES
from pagepulse.model.windows import popcount
from workload import Workload

pytestmark = pytest.mark.live

PAGES = 1009
MAP_1_GIB = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 30 << 26  # MAP_HUGETLB | MAP_HUGE_1GB


def windows_of(start: int, end: int) -> np.ndarray:
    return np.arange(start // WINDOW * WINDOW, end, WINDOW, dtype=np.uint64)


def masks_of(pages: np.ndarray, start: int, windows: np.ndarray) -> np.ndarray:
    """The masks that windows have if exactly these pages of an area are set."""
    masks = np.zeros(len(windows), np.uint64)
    number = (start + pages * PAGE - int(windows[0])) // PAGE
    np.bitwise_or.at(masks, number // WINDOW_PAGES, np.uint64(1) << (number % WINDOW_PAGES).astype(np.uint64))
    return masks


def inside(masks: np.ndarray, start: int, end: int, windows: np.ndarray) -> np.ndarray:
    """The masks without pages outside of the area, which neighbouring mappings may have."""
    return masks & masks_of(np.arange((end - start) // PAGE), start, windows)


def clear(target: Target, start: int, end: int) -> None:
    target.clear(np.array([[start, end]], np.uint64))


def young_count(target: Target, start: int, end: int) -> int:
    return int(np.count_nonzero(target.read_pages(start, end).young))


def test_a_window_read_counts_every_resident_page_and_each_of_them_as_young(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        windows = windows_of(start, end)
        read = target.read_windows(windows)
        expected = masks_of(np.arange(PAGES), start, windows)
        assert (inside(read.present, start, end, windows) == expected).all()
        assert (inside(read.young, start, end, windows) == expected).all()
        assert (read.level == LEVEL_PAGE).all()
        assert popcount(expected).sum() == PAGES


def test_only_pages_that_were_ever_touched_are_resident(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}:lazy") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        assert not target.read_pages(start, end).present.any()
        touch.command("touch a 3 83 12")
        present = target.read_pages(start, end).present
        assert np.flatnonzero(present).tolist() == list(range(3, 3 + 83 * 12, 12))


def test_memory_without_a_page_table_reads_as_nothing(watch):
    with Workload("touch", "--area", f"a:{4 * CHUNK}:thp:lazy") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        read = target.read_windows(windows_of(start, end))
        assert (read.level == LEVEL_NONE).all()
        assert not read.present.any()
        assert not read.young.any()


def test_both_reads_find_exactly_the_pages_that_were_touched_after_a_clear(watch, one_cpu):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        windows = windows_of(start, end)
        clear(target, start, end)
        assert young_count(target, start, end) == 0
        assert not inside(target.read_windows(windows).young, start, end, windows).any()
        touch.command("touch a 5 97 7")
        touched = np.arange(5, 5 + 97 * 7, 7)
        bits = target.read_pages(start, end)
        assert np.flatnonzero(bits.young).tolist() == touched.tolist()
        assert bits.present.all()
        assert (inside(target.read_windows(windows).young, start, end, windows)
                == masks_of(touched, start, windows)).all()


def test_reading_is_touching_too_and_our_own_reads_are_not(watch, one_cpu):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        clear(target, start, end)
        for _ in range(3):
            assert young_count(target, start, end) == 0
        touch.command("read a 0 13")
        assert young_count(target, start, end) == 13


def test_more_windows_than_one_run_reads_come_back_in_order(watch, one_cpu):
    pages = 65537  # 1025 windows; a run takes 512
    with Workload("touch", "--area", f"a:{pages * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        clear(target, start, end)
        touch.command("touch a 11 641 101")
        windows = windows_of(start, end)
        young = inside(target.read_windows(windows).young, start, end, windows)
        assert (young == masks_of(np.arange(11, 11 + 641 * 101, 101), start, windows)).all()


def test_windows_may_be_asked_for_in_any_order(watch, one_cpu):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        clear(target, start, end)
        touch.command("touch a 0 31 31")
        windows = windows_of(start, end)
        order = np.random.default_rng(1).permutation(len(windows))
        assert (target.read_windows(windows[order]).young == target.read_windows(windows).young[order]).all()


def test_a_copy_longer_than_one_run_is_seamless(watch, one_cpu):
    size = 640 << 20  # a run copies 512 MiB
    with Workload("touch", "--area", f"a:{size}:lazy") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        touch.command("touch a 17 1999 71")
        present = target.read_pages(start, end).present
        assert np.flatnonzero(present).tolist() == list(range(17, 17 + 1999 * 71, 71))


def test_the_bulk_read_starts_and_ends_at_any_page(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}:lazy") as touch, watch(touch.pid) as target:
        start, _ = touch.area("a")
        touch.command("touch a 700 7")
        bits = target.read_pages(start + 699 * PAGE, start + 706 * PAGE)
        assert bits.start == start + 699 * PAGE
        assert bits.present.tolist() == [False] + [True] * 6


def test_a_huge_page_is_seen_as_one_and_its_bit_is_that_of_all_its_pages(watch, one_cpu):
    with Workload("touch", "--area", f"a:{3 * CHUNK}:thp") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        windows = windows_of(start, end)
        assert (target.read_windows(windows).level == LEVEL_CHUNK).all()
        clear(target, start, end)
        assert not target.read_windows(windows).young.any()
        touch.command("touch a 700 1")  # in the second huge page
        young = target.read_windows(windows).young
        assert (young == np.repeat(np.array([0, ~np.uint64(0), 0], np.uint64), 8)).all()
        bits = target.read_pages(start, end)
        assert bits.huge.all()
        assert np.flatnonzero(bits.young).tolist() == list(range(512, 1024))


def test_hugetlb_pages_are_read_as_huge_pages(watch, huge_pages):
    with Workload("touch", "--area", f"a:{3 * CHUNK}:hugetlb:lazy") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        touch.command("touch a 512 1")
        read = target.read_windows(windows_of(start, end))
        assert read.level.tolist() == [LEVEL_NONE] * 8 + [LEVEL_CHUNK] * 8 + [LEVEL_NONE] * 8
        bits = target.read_pages(start, end)
        assert np.flatnonzero(bits.present).tolist() == list(range(512, 1024))


def test_a_page_of_1_gib_is_one_for_both_reads(watch):
    code = f"import mmap; m = mmap.mmap(-1, 1 << 30, flags={MAP_1_GIB}); m[5] = 1; print('ready', flush=True); input()"
    with huge_page_pool(1, size_kib=1 << 20), subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout.readline() == "ready\n"
        with watch(user.pid) as target:
            mapping = next(m for m in target.mappings() if m.end - m.start == 1 << 30)
            assert not mapping.clearable
            read = target.read_windows(windows_of(mapping.start, mapping.end))
            bits = target.read_pages(mapping.start, mapping.end)
            populated = target.populated(np.array([[mapping.start, mapping.end]], np.uint64))
        user.kill()
    assert (read.level == LEVEL_GIB).all()
    assert (popcount(read.present) == WINDOW_PAGES).all()
    assert (popcount(read.young) == WINDOW_PAGES).all()
    assert bits.present.all()
    assert bits.young.all()
    assert bits.huge.all()
    assert len(populated) == 512


def test_a_huge_page_pool_is_as_it_was_after_a_test_that_was_killed():
    before = Path("/proc/sys/vm/nr_hugepages").read_text()
    free = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    code = (f"from live.machine import huge_page_pool\nwith huge_page_pool({free} + 3):\n"
            "    print(open('/proc/sys/vm/nr_hugepages').read(), flush=True)\n    input()")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}) as holder:
        assert int(holder.stdout.readline()) == int(before) + 3
        holder.kill()
    assert wait_until(lambda: Path("/proc/sys/vm/nr_hugepages").read_text() == before)


def test_populated_chunks_are_those_with_a_page_in_them(watch):
    with Workload("touch", "--area", f"a:{11 * CHUNK}:thp:lazy") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        spans = np.array([[start, end]], np.uint64)
        assert len(target.populated(spans)) == 0
        for chunk in (1, 4, 10):
            touch.command(f"touch a {chunk * 512 + 5} 1")
        assert ((target.populated(spans) - np.uint64(start)) // np.uint64(CHUNK)).tolist() == [1, 4, 10]


def test_a_mapping_that_goes_away_between_reads_reads_as_nothing(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        windows = windows_of(start, end)
        assert any(m.start <= start < m.end for m in target.mappings())
        touch.command("unmap a")
        assert not inside(target.read_windows(windows).present, start, end, windows).any()
        assert not target.read_pages(start, end).present.any()
        assert not any(m.start < end and m.end > start for m in target.mappings())
        clear(target, start, end)  # ENOMEM from the kernel is no error of ours


def test_a_stopped_target_is_read_and_cleared_like_any_other(watch, one_cpu):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        touch.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, touch.pid, os.WSTOPPED | os.WNOWAIT)
        start, end = touch.area("a")
        assert young_count(target, start, end) == PAGES
        clear(target, start, end)
        assert young_count(target, start, end) == 0
        touch.signal(signal.SIGCONT)
        touch.command("touch a 0 19")
        assert young_count(target, start, end) == 19


def test_exit_is_seen_by_every_kind_of_read(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        touch.finish()
        spans = np.array([[start, end]], np.uint64)
        for attempt in (lambda: target.read_windows(windows_of(start, end)), lambda: target.read_pages(start, end),
                        lambda: target.populated(spans), lambda: target.clear(spans), target.mappings,
                        target.rss_bytes, target.check_identity):
            with pytest.raises(TargetGone):
                attempt()


def test_a_zombie_is_gone_before_anybody_has_waited_for_it(reader, watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        touch.process.stdin.write("quit\n")
        touch.process.stdin.flush()
        assert wait_until(target.process.has_exited)
        assert target.process.stat().state == "Z"
        with pytest.raises(TargetGone):
            target.read_windows(windows_of(*touch.area("a")))
        with pytest.raises(TargetGone):
            reader.identity(target.process.pidfd)


def become(touch: Workload, program: str, *arguments: str) -> None:
    touch.command(" ".join(("exec", program, *arguments)))
    assert wait_until(lambda: Path(f"/proc/{touch.pid}/comm").read_text().strip() == Path(program).name)


def test_exec_is_seen_by_every_kind_of_read(watch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        become(touch, "sleep", "60")
        for attempt in (lambda: target.read_windows(windows_of(start, end)), lambda: target.read_pages(start, end),
                        lambda: target.populated(np.array([[start, end]], np.uint64)), target.check_identity):
            with pytest.raises(TargetGone, match="another program"):
                attempt()


def test_each_of_two_execs_makes_another_program_of_the_same_process(reader, tmp_path):
    """The second may get the same mm back from the slab: exec_id tells them apart all the same."""
    twice = tmp_path / "twice"
    twice.write_text("#!/bin/sh\nread -r _\nexec sleep 60\n")
    twice.chmod(0o755)
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch:
        process = Process(touch.pid)
        identities = [reader.identity(process.pidfd)]
        become(touch, str(twice))
        identities.append(reader.identity(process.pidfd))
        touch.process.stdin.write("go\n")
        touch.process.stdin.flush()
        assert wait_until(lambda: Path(f"/proc/{touch.pid}/comm").read_text() == "sleep\n")
        identities.append(reader.identity(process.pidfd))
        process.close()
    assert {identity.tgid for identity in identities} == {touch.pid}
    assert len({identity.exec_id for identity in identities}) == 3


def test_a_new_process_never_reads_as_the_old_one_whatever_memory_it_was_given(reader, watch):
    """mm_structs are reused at once. The pidfd is what counts: a dead target stays dead."""
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as first, watch(first.pid) as target:
        first.finish()
        with Workload("touch", "--area", f"a:{PAGES * PAGE}"), pytest.raises(TargetGone):
            target.read_windows(windows_of(*first.area("a")))


def test_a_child_is_another_target_than_its_parent(reader, watch, one_cpu):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch:
        child = touch.command("fork")["pid"]
        start, end = touch.area("a")
        with watch(child) as target:
            touch.command("touch a 0 7")  # copied on write: in the parent alone
            assert target.identity.tgid == child
            entries = next(reader.page_tables(target.process.pidfd, start // CHUNK * CHUNK, end, target.identity))
            frames_of_child = entries.entries.copy()
        with watch(touch.pid) as target:
            entries = next(reader.page_tables(target.process.pidfd, start // CHUNK * CHUNK, end, target.identity))
            first = (start % CHUNK) // PAGE
            frame = np.uint64(((1 << 40) - 1) << 12)
            same = (entries.entries.reshape(-1) & frame) == (frames_of_child.reshape(-1) & frame)
        assert np.flatnonzero(~same[first : first + 512 - first]).tolist() == list(range(7))


def test_a_kernel_thread_is_refused():
    kthreadd = 2
    with pytest.raises(UsageError, match="kernel thread"):
        Process(kthreadd)


def test_the_reader_itself_says_that_a_kernel_thread_has_no_memory(reader):
    pidfd = os.pidfd_open(2)
    try:
        with pytest.raises(TargetGone):
            reader.identity(pidfd)
    finally:
        os.close(pidfd)


def test_a_thread_is_refused_by_name():
    code = ("import threading, time; t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start()\n"
            "print(t.native_id, flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as python, \
            pytest.raises(UsageError, match="is a thread"):
        Process(int(python.stdout.readline()))


def test_two_calibrations_find_the_same_direct_map(programs, reader):
    assert Reader(programs).direct_map == reader.direct_map
    assert reader.direct_map % (1 << 30) == 0
