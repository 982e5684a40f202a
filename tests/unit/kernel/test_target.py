# SPDX-License-Identifier: GPL-2.0-only
"""Target: the parts that need no kernel. What a clear does with each of the kernel's answers; what tables mean."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.kernel import layout, target
from pagepulse.kernel.reader import Identity, TableCopy
from pagepulse.kernel.syscalls import IOVECS_PER_CALL, MADV_COLD
from pagepulse.kernel.target import Target
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, WindowRead

BASE = 0x7F00_0000_0000
GIB = 1 << 30
OWN = Identity(4242, 0xFFFF_8880_0000_0000, 1)
MAPS = (f"{BASE:x}-{BASE + CHUNK:x} rw-p 00000000 00:00 0 [heap]\n"
        f"{BASE + CHUNK:x}-{BASE + 2 * CHUNK:x} rw-p 00000000 00:00 0 [anon:locked]\n")


class FakeReader:
    """Answers as the BPF programs would: one identity, windows and tables as a test sets them."""

    def __init__(self) -> None:
        self.windows_read = WindowRead(*(np.zeros(0, t) for t in (np.uint64, np.uint64, np.uint8)), 0)
        self.tables: list[TableCopy] = []

    def identity(self, _pidfd: int) -> Identity:
        return OWN

    def windows(self, _pidfd: int, _addresses: np.ndarray, _expected: Identity) -> WindowRead:
        return self.windows_read

    def middle_tables(self, _pidfd: int, start: int, end: int, _expected: Identity) -> list[TableCopy]:
        return [copy for copy in self.tables if start <= copy.start < end]


class FakeProbes:
    """Hands over what another agent is said to have taken."""

    def __init__(self) -> None:
        self.sees_taken = True
        self.taken_lost = 0
        self.own_clear = nullcontext()
        self.taken: dict[int, int] = {}

    def watch(self, _identity: Identity) -> None:
        pass

    def drain_taken(self) -> tuple[np.ndarray, np.ndarray]:
        taken, self.taken = self.taken, {}
        return np.array([*taken], np.uint64), np.array([*taken.values()], np.uint64)


class Kernel:
    """process_madvise(2), with ranges that it refuses, and why."""

    def __init__(self) -> None:
        self.refused: dict[int, int] = {}
        self.locked = (0, 0)
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, _pidfd: int, iovecs: np.ndarray, advice: int) -> int:
        assert advice == MADV_COLD
        assert len(iovecs) <= IOVECS_PER_CALL
        assert iovecs.flags.c_contiguous
        self.calls.append([(start, size) for start, size in iovecs.tolist()])
        done = 0
        for start, size in iovecs.tolist():
            is_locked = start < self.locked[1] and self.locked[0] < start + size
            if start in self.refused or is_locked:
                if done:
                    return done
                raise OSError(self.refused.get(start, errno.EINVAL), "refused")
            done += size
        return done


@pytest.fixture(name="kernel")
def _kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(target, "process_madvise", kernel)
    return kernel


@pytest.fixture(name="watched")
def _watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(target, "_page_flags", lambda _process: SimpleNamespace(close=lambda: None))
    process = SimpleNamespace(pid=4242, pidfd=7, maps_text=lambda: MAPS, name="x")
    found = Target(process, FakeReader(), FakeProbes())  # type: ignore[arg-type]
    found.mappings()
    return found


def ranges(count: int, size: int = WINDOW, step: int = 2 * WINDOW, start: int = BASE) -> np.ndarray:
    starts = np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(step)
    return np.column_stack((starts, starts + np.uint64(size)))


def sent(kernel: Kernel) -> list[tuple[int, int]]:
    return [piece for call in kernel.calls for piece in call]


# --- clearing ------------------------------------------------------------------------------------------------------

def test_what_the_kernel_takes_in_one_call_needs_one_call(watched, kernel):
    assert watched.clear(ranges(5)) == (1, 0)
    assert sent(kernel) == [(BASE + n * 2 * WINDOW, WINDOW) for n in range(5)]


@pytest.mark.parametrize(("count", "calls"), [(0, 0), (1, 1), (128, 1), (129, 2), (300, 3)])
def test_a_call_has_at_most_128_ranges(watched, kernel, count, calls):
    assert watched.clear(ranges(count)) == (calls, 0)
    assert len(sent(kernel)) == count


def test_a_refused_range_in_the_middle_is_skipped_and_all_others_are_cleared(watched, kernel):
    kernel.refused[BASE + 4 * WINDOW] = errno.ENOMEM
    assert watched.clear(ranges(6)) == (3, 1)
    assert [len(call) for call in kernel.calls] == [6, 4, 3]  # stopped before it; refused; the rest


def test_every_range_may_be_refused(watched, kernel):
    wanted = ranges(3)
    kernel.refused = dict.fromkeys(wanted[:, 0].tolist(), errno.ENOMEM)
    assert watched.clear(wanted) == (3, 3)


@given(st.lists(st.sampled_from((0, errno.ENOMEM, errno.EINVAL)), max_size=400))
def test_each_range_is_cleared_or_counted_as_refused_whatever_the_kernel_says(answers):
    kernel = Kernel()
    wanted = ranges(len(answers), size=PAGE, step=PAGE)
    kernel.refused = {int(start): answer for (start, _), answer in zip(wanted, answers, strict=True) if answer}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "process_madvise", kernel)
        patch.setattr(target, "_page_flags", lambda _process: None)
        process = SimpleNamespace(pid=4242, pidfd=7, maps_text=lambda: MAPS)
        result = Target(process, FakeReader(), FakeProbes()).clear(wanted)  # type: ignore[arg-type]
    assert result.refused == sum(bool(answer) for answer in answers)
    assert result.calls == len(kernel.calls)
    first_of_calls = [call[0][0] for call in kernel.calls]
    assert first_of_calls == sorted(set(first_of_calls))


def test_a_mapping_that_is_locked_is_remembered_as_unclearable(watched, kernel):
    kernel.refused[BASE + CHUNK + WINDOW] = errno.EINVAL
    watched.clear(ranges(1, start=BASE + CHUNK + WINDOW))
    assert [(m.name, m.clearable) for m in watched.mappings()] == [("[heap]", True), ("[anon: locked]", False)]


def test_what_lies_behind_a_part_that_was_locked_meanwhile_is_cleared_and_the_locked_part_alone_is_remembered(
        watched, kernel):
    """The kernel cuts the heap in three: a look at the mappings will show it, the clear comes before."""
    edges = [BASE + n * WINDOW for n in (0, 2, 3, 8)]
    watched.process.maps_text = lambda: "".join(
        f"{start:x}-{end:x} rw-p 00000000 00:00 0 [heap]\n" for start, end in pairwise(edges))
    kernel.locked = (edges[1], edges[2])
    assert watched.clear(np.array([[BASE, edges[3]]], np.uint64)).refused == 1
    assert sent(kernel)[-1] == (edges[2], 5 * WINDOW)
    assert [m.clearable for m in watched.mappings()] == [True, False, True]


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES])
def test_a_clear_that_is_not_permitted_is_no_refusal_but_an_error_for_people(watched, kernel, error):
    """Taken for a refusal, all memory would look as if it were in use."""
    kernel.refused[BASE] = error
    with pytest.raises(PagepulseError, match="may not be cleared") as raised:
        watched.clear(ranges(1))
    assert "CAP_SYS_NICE" in raised.value.hint


def test_a_range_that_was_unmapped_makes_no_mapping_unclearable(watched, kernel):
    kernel.refused[BASE] = errno.ENOMEM
    watched.clear(ranges(1))
    assert all(m.clearable for m in watched.mappings())


def test_another_mapping_at_the_place_of_a_locked_one_is_not_taken_for_it(watched, kernel):
    kernel.refused[BASE + CHUNK] = errno.EINVAL
    watched.clear(ranges(1, start=BASE + CHUNK))
    heap, locked = MAPS.splitlines(keepends=True)
    watched.process.maps_text = lambda: heap
    assert [m.name for m in watched.mappings()] == ["[heap]"]
    watched.process.maps_text = lambda: MAPS
    assert all(m.clearable for m in watched.mappings())
    watched.clear(ranges(1, start=BASE + CHUNK))
    assert [m.clearable for m in watched.mappings()] == [True, False]
    watched.process.maps_text = lambda: heap + locked.replace("locked", "other")  # both between two looks
    assert all(m.clearable for m in watched.mappings())


def test_a_target_that_ends_during_a_clear_is_gone(watched, kernel):
    kernel.refused[BASE] = errno.ESRCH
    with pytest.raises(TargetGone, match="has exited"):
        watched.clear(ranges(1))


def test_a_target_without_any_mapping_has_exited(watched):
    watched.process.maps_text = lambda: ""
    with pytest.raises(TargetGone):
        watched.mappings()


def test_a_program_that_took_the_place_of_the_target_is_not_acted_on(watched):
    watched.check_identity()
    watched._reader.identity = lambda _pidfd: OWN._replace(exec_id=2)
    with pytest.raises(TargetGone, match="exec"):
        watched.check_identity()


def test_flags_that_cannot_be_opened_say_whether_the_process_ended(monkeypatch):
    def fails(_pid: int) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file")
    monkeypatch.setattr(target, "PageFlags", fails)
    gone = SimpleNamespace(pid=1, name="x", ends_within=lambda _s: True)
    with pytest.raises(TargetGone):
        target._page_flags(gone)
    with pytest.raises(PagepulseError, match="cannot be watched any more"):
        target._page_flags(SimpleNamespace(pid=1, name="x", ends_within=lambda _s: False))


# --- what another agent took ---------------------------------------------------------------------------------------

def shown(watched: Target, addresses: list[int]) -> list[int]:
    n = len(addresses)
    present = np.full(n, 0xFF, np.uint64)
    watched._reader.windows_read = WindowRead(np.zeros(n, np.uint64), present, np.ones(n, np.uint8), 1)
    return watched.read_windows(np.array(addresses, np.uint64)).young.tolist()


def test_bits_that_another_agent_took_show_until_we_clear_them_and_only_on_resident_pages(watched, kernel):
    watched._probes.taken = {BASE: 0b101, BASE + WINDOW: 0xF00F}
    assert shown(watched, [BASE]) == [0b101]
    assert shown(watched, [BASE, BASE + WINDOW]) == [0b101, 0xF]
    watched.clear(np.array([[BASE, BASE + PAGE]], np.uint64))
    assert shown(watched, [BASE, BASE + WINDOW]) == [0b100, 0xF]


def test_bits_taken_right_before_a_clear_end_with_it(watched, kernel):
    watched._probes.taken = {BASE: 0b11}
    watched.clear(np.array([[BASE, BASE + WINDOW]], np.uint64))
    assert shown(watched, [BASE]) == [0]


def test_bits_taken_twice_before_a_read_add_up(watched):
    watched._probes.taken = {BASE: 0b01}
    shown(watched, [BASE + WINDOW])
    watched._probes.taken = {BASE: 0b10}
    assert shown(watched, [BASE]) == [0b11]


def test_small_mappings_that_share_a_window_both_see_what_was_taken(watched):
    watched._probes.taken = {BASE: 0b11}
    assert shown(watched, [BASE, BASE]) == [0b11, 0b11]


def test_where_we_clear_nothing_each_read_shows_what_was_taken_once(watched):
    watched.keeps_taken = False
    watched._probes.taken = {BASE: 0b101}
    assert shown(watched, [BASE, BASE + WINDOW]) == [0b101, 0]
    assert shown(watched, [BASE]) == [0]
    watched._probes.taken = {BASE: 0b1}
    assert shown(watched, [BASE]) == [0b1]


def test_what_was_taken_in_a_window_that_two_mappings_share_stays_for_the_other(watched, monkeypatch):
    text = (f"{BASE:x}-{BASE + PAGE:x} rw-p 00000000 00:00 0 a\n"
            f"{BASE + PAGE:x}-{BASE + CHUNK:x} rw-p 00000000 00:00 0 b\n")
    monkeypatch.setattr(watched.process, "maps_text", lambda: text)
    watched.mappings()
    watched.keeps_taken = False
    watched._probes.taken = {BASE: 0b11, BASE + WINDOW: 0b11}
    assert shown(watched, [BASE, BASE + WINDOW]) == [0b11, 0b11]
    assert shown(watched, [BASE, BASE + WINDOW]) == [0b11, 0]


def test_once_taken_bits_were_lost_nothing_counts_as_untouched_until_the_model_was_told(watched, monkeypatch):
    table = np.zeros((1, 512), np.uint64)
    table[0, :2] = layout.PRESENT
    watched._reader.page_tables = lambda *_: [TableCopy(BASE, table, np.array([TABLE], np.uint64))]
    assert not watched.read_pages(BASE, BASE + 4 * PAGE).young.any()
    watched._probes.taken_lost = 7
    for _ in range(2):
        assert watched.read_pages(BASE, BASE + 4 * PAGE).young.tolist() == [True, True, False, False]
    shown(watched, [])
    assert not watched.read_pages(BASE, BASE + 4 * PAGE).young.any()


def test_a_read_says_once_that_taken_bits_were_lost_and_is_as_late_as_the_last_of_them(watched):
    watched._probes.taken_lost = 7
    reads = [watched.read_windows(np.empty(0, np.uint64)) for _ in range(2)]
    assert [read.blind for read in reads] == [True, False]
    assert reads[0].taken_ns > reads[1].taken_ns == 0


def test_what_was_taken_of_memory_that_is_unmapped_is_not_kept(watched):
    watched._probes.taken = {BASE: 0b1, BASE + CHUNK: 0b1, BASE + 2 * CHUNK: 0b1}
    shown(watched, [BASE])
    watched.process.maps_text = lambda: MAPS.splitlines(keepends=True)[0]
    watched.mappings()
    assert len(watched._taken) == 1


def test_without_clearing_probes_reads_are_passed_on_as_they_are(watched):
    watched._probes.sees_taken = False
    watched._probes.taken = {BASE: 0b1}
    assert shown(watched, [BASE]) == [0]


# --- what page tables mean -----------------------------------------------------------------------------------------

PRESENT, ACCESSED, LEAF, PROTNONE = layout.PRESENT, layout.ACCESSED, layout.LEAF, layout.PROTNONE
TABLE = PRESENT | ACCESSED | 0x1234_5000


def bits(parent: int, **entries: int) -> tuple[list[bool], ...]:
    """Present, young and huge, and swapped and lost, of the first four pages of a table with these entries."""
    table = np.zeros((1, 512), np.uint64)
    table[0, : len(entries)] = [*entries.values()]
    return tuple(column[:4].tolist() for column in target._page_bits(table, np.array([parent], np.uint64)))


def test_pages_of_a_table_are_present_and_young_one_by_one():
    present, young, huge, _, lost = bits(TABLE, a=PRESENT | ACCESSED, b=PRESENT, c=ACCESSED, d=PROTNONE | ACCESSED)
    assert present == [True, True, False, True]
    assert young == [True, False, False, True]
    assert huge == lost == [False] * 4


def test_only_an_entry_of_a_swap_file_is_swapped_not_one_of_a_page_that_moves_nor_an_empty_one():
    swapped = bits(TABLE, a=1 << 59 | 1 << 40, b=30 << 59 | 1 << 40, c=0, d=PROTNONE)[3]
    assert swapped == [True, False, False, False]


@pytest.mark.parametrize("parent", [layout.PARENT_LOST, 30 << 59 | 1 << 40])
def test_of_a_table_that_was_replaced_or_a_huge_page_that_moves_nothing_is_known(parent):
    present, _, _, swapped, lost = bits(parent, a=PRESENT, b=1 << 59 | 1 << 40)
    assert (present, swapped, lost) == ([False] * 4, [False] * 4, [True] * 4)


@pytest.mark.parametrize(("parent", "is_young"), [(PRESENT | LEAF | ACCESSED, True), (PRESENT | LEAF, False)])
def test_a_huge_page_is_present_throughout_and_has_one_accessed_bit(parent, is_young):
    present, young, huge, _, _ = bits(parent, a=0, b=PRESENT)  # entries are left over from another table
    assert (present, young, huge) == ([True] * 4, [is_young] * 4, [True] * 4)


@pytest.mark.parametrize("parent", [0, ACCESSED, layout.PARENT_LOST])
def test_without_a_table_or_with_one_that_was_replaced_nothing_is_present(parent):
    assert bits(parent, a=PRESENT | ACCESSED) [:3] == ([False] * 4,) * 3


def populated(parent: int, *entries: int) -> list[bool]:
    table = np.zeros((1, 512), np.uint64)
    table[0, : len(entries)] = entries
    return target._is_populated(table, np.array([parent], np.uint64))[0, :4].tolist()


def test_chunks_with_a_table_or_a_huge_page_are_populated():
    assert populated(TABLE, TABLE, PRESENT | LEAF, 0, LEAF | PROTNONE) == [True, True, False, True]


def test_all_chunks_of_a_gib_page_are_populated_and_none_of_an_absent_table():
    assert populated(PRESENT | LEAF, 0, 0) == [True] * 4
    assert populated(0, TABLE, TABLE) == [False] * 4  # left over from another table


def spans(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array([(BASE + a * CHUNK, BASE + b * CHUNK) for a, b in pairs], np.uint64).reshape(-1, 2)


def chunks(*places: int) -> np.ndarray:
    return np.array([BASE + n * CHUNK for n in places], np.uint64)


def test_chunks_that_overlap_a_span_are_inside():
    half = np.array([[BASE + CHUNK // 2, BASE + CHUNK + PAGE], [BASE + 3 * CHUNK, BASE + 4 * CHUNK]], np.uint64)
    assert target._inside(chunks(0, 1, 2, 3, 4), half).tolist() == chunks(0, 1, 3).tolist()


@given(st.sets(st.integers(0, 40)), st.lists(st.integers(0, 30 * 512), unique=True, max_size=12))
def test_inside_is_what_comparing_each_with_each_gives(places, edges):
    ends = sorted(edges)[: len(edges) // 2 * 2]
    wanted = [(BASE + a * PAGE, BASE + b * PAGE) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    found = target._inside(chunks(*sorted(places)), np.array(wanted, np.uint64).reshape(-1, 2))
    assert found.tolist() == [c for c in chunks(*sorted(places)).tolist()
                              if any(start < c + CHUNK and c < end for start, end in wanted)]


def test_populated_reads_each_gib_once_however_many_spans_lie_in_it(watched):
    table = np.zeros((1, 512), np.uint64)
    table[0, [0, 3, 511]] = TABLE
    watched._reader.tables = [TableCopy(BASE, table, np.array([TABLE], np.uint64)),
                              TableCopy(BASE + GIB, table, np.array([TABLE], np.uint64))]
    found = watched.populated(spans((0, 1), (2, 4), (511, 513)))
    assert found.tolist() == [BASE, BASE + 3 * CHUNK, BASE + 511 * CHUNK, BASE + GIB]


# --- clear_refs ----------------------------------------------------------------------------------------------------

WITH_FILE = MAPS.replace("00:00 0 [anon:locked]", "00:01 77 /dev/zero (deleted)")


class FakeRefs:
    """/proc/PID/clear_refs."""

    def __init__(self, _pid: int, *, with_file_only: bool) -> None:
        self.with_file_only = with_file_only
        self.calls = 0

    def clear(self) -> None:
        self.calls += 1


@pytest.fixture(name="shared")
def _shared(watched: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(target, "ClearRefs", FakeRefs)
    watched.process.maps_text = lambda: WITH_FILE
    watched.clear_shared_together()
    watched.mappings()
    return watched


def test_memory_with_a_file_is_cleared_together_and_anonymous_memory_by_itself(shared, kernel):
    assert [(m.name, m.together) for m in shared.mappings()] == [("[heap]", False), ("/dev/zero (deleted)", True)]
    assert shared.clear(np.concatenate((ranges(3), ranges(2, start=BASE + CHUNK)))) == (2, 0)
    assert sent(kernel) == [(BASE + n * 2 * WINDOW, WINDOW) for n in range(3)]
    assert shared.refs.calls == 1
    assert shared.refs.with_file_only


def test_a_clear_of_anonymous_memory_alone_leaves_all_else_as_it_is(shared, kernel):
    shared.clear(ranges(3))
    assert shared.refs.calls == 0


def test_a_locked_mapping_is_cleared_together_with_the_others(watched, kernel, monkeypatch):
    kernel.refused[BASE + CHUNK] = errno.EINVAL
    watched.clear(ranges(1, start=BASE + CHUNK))
    monkeypatch.setattr(target, "ClearRefs", FakeRefs)
    watched.process.maps_text = lambda: WITH_FILE
    watched.clear_shared_together()
    assert all(m.clearable for m in watched.mappings())


def test_a_mapping_that_refused_is_asked_again_in_time_and_then_as_far_as_a_huge_page_reaches(watched, kernel,
                                                                                              monkeypatch):
    kernel.refused[BASE + CHUNK] = errno.EINVAL
    watched.clear(ranges(1, start=BASE + CHUNK))
    now_ns = watched.now_ns()
    kernel.calls.clear()
    monkeypatch.setattr(watched, "now_ns", lambda: now_ns + 5_000_000_000)
    assert not watched.mappings()[1].clearable
    assert kernel.calls == []
    monkeypatch.setattr(watched, "now_ns", lambda: now_ns + 11_000_000_000)
    assert not watched.mappings()[1].clearable  # it is locked still
    assert kernel.calls == [[(BASE + CHUNK, CHUNK)]]
    kernel.refused.clear()
    monkeypatch.setattr(watched, "now_ns", lambda: now_ns + 22_000_000_000)
    assert watched.mappings()[1].clearable
