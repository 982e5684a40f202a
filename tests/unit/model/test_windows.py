# SPDX-License-Identifier: GPL-2.0-only
"""Windows: what is known of each page, and never more than was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes import BASE, MIB, SECOND, FakeMemory
from pagepulse.model.idle import idle_bytes
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, LEVEL_LOST, PAGE, WINDOW, Mapping, WindowRead
from pagepulse.model.observation import Observation
from pagepulse.model.windows import ALL_PAGES, NEVER_IDLE_NS, Windows

WHOLE = int(ALL_PAGES)


def chunks(count: int, start: int = BASE) -> np.ndarray:
    return np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(CHUNK)


def windows_of(*mappings: Mapping, populated: int = 1, limit: int = 1 << 20) -> Windows:
    return Windows(mappings, spread(mappings, chunks(populated), limit))


def one_window() -> Windows:
    return windows_of(Mapping(BASE, BASE + WINDOW, "[heap]"))


def show(windows: Windows, taken_ns: int, *, young: int, present: int = WHOLE, level: int = 1,
         index: Sequence[int] = (0,)) -> Observation:
    """Let all these windows be read with the same bits."""
    n = len(index)
    read = WindowRead(np.full(n, young, np.uint64), np.full(n, present, np.uint64), np.full(n, level, np.uint8),
                      taken_ns)
    return windows.observe(np.array(index, np.intp), read)


def everything(memory: FakeMemory, windows: Windows) -> Observation:
    return windows.observe(np.arange(len(windows)), memory.read_windows(windows.tile))


# --- where windows lie ---------------------------------------------------------------------------------------------

def test_a_populated_chunk_has_eight_windows_and_an_empty_one_none():
    windows = windows_of(Mapping(BASE, BASE + 4 * CHUNK, "[heap]"), populated=2)
    assert len(windows) == 16
    assert windows.tile[-1] + np.uint64(WINDOW) == BASE + 2 * CHUNK
    assert (windows.mask == ALL_PAGES).all()


def test_small_mappings_that_share_a_tile_share_no_page():
    mappings = (Mapping(BASE, BASE + 3 * PAGE, "a"), Mapping(BASE + 3 * PAGE, BASE + 4 * PAGE, "b"),
                Mapping(BASE + 60 * PAGE, BASE + 70 * PAGE, "c"))
    windows = windows_of(*mappings)
    assert windows.mapping.tolist() == [0, 1, 2, 2]
    assert windows.tile.tolist() == [BASE, BASE, BASE, BASE + WINDOW]
    assert windows.mask.tolist() == [0b111, 0b1000, 0xF << 60, 0x3F]
    assert windows.first.tolist() == [BASE, BASE + 3 * PAGE, BASE + 60 * PAGE, BASE + WINDOW]
    assert windows.last.tolist() == [BASE + 3 * PAGE, BASE + 4 * PAGE, BASE + WINDOW, BASE + 70 * PAGE]


@given(st.data())
def test_each_populated_page_of_a_mapping_lies_in_exactly_one_window(data):
    edges = sorted(data.draw(st.sets(st.integers(0, 3 * 512), min_size=2, max_size=12)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    mappings = [Mapping(BASE + a * PAGE, BASE + b * PAGE, str(a)) for a, b in pairs]
    populated = data.draw(st.sets(st.integers(0, 2), min_size=1))
    windows = Windows(mappings, spread(mappings, chunks(3)[sorted(populated)], 1 << 20))
    found = [(int(tile) - BASE) // PAGE + bit for tile, mask in zip(windows.tile, windows.mask, strict=True)
             for bit in range(64) if int(mask) >> bit & 1]
    wanted = [page for m in mappings for page in range((m.start - BASE) // PAGE, (m.end - BASE) // PAGE)
              if page // 512 in populated]
    assert found == wanted


@pytest.mark.parametrize(("limit", "stride"), [(4096, 1), (4095, 2), (2048, 2), (2047, 4), (100, 64)])
def test_above_the_limit_windows_are_spread_evenly(limit, stride):
    windows = windows_of(Mapping(BASE, BASE + 512 * CHUNK, "[heap]"), populated=512, limit=limit)
    assert set(windows.weight.tolist()) == {stride}
    assert len(windows) == pytest.approx(4096 / stride, abs=3, rel=0.1)
    assert np.diff(windows.tile).max() <= 3 * stride * WINDOW


@pytest.mark.parametrize("spacing", [CHUNK, 4 * CHUNK, 9 * CHUNK])
def test_equally_spaced_small_mappings_are_not_missed_together(spacing):
    mappings = [Mapping(start, start + 4 * PAGE, "[stack]") for start in range(BASE, BASE + 256 * spacing, spacing)]
    populated = np.array([m.start // CHUNK * CHUNK for m in mappings], np.uint64)
    windows = Windows(mappings, spread(mappings, populated, 64))
    assert set(windows.weight.tolist()) == {4}
    assert len(windows) == pytest.approx(64, rel=0.3)


def test_of_many_tiny_mappings_in_a_row_the_right_share_is_seen_wherever_one_looks():
    mappings = [Mapping(BASE + n * 2 * PAGE, BASE + n * 2 * PAGE + PAGE, str(n)) for n in range(20_000)]
    windows = Windows(mappings, spread(mappings, chunks(-(-40_000 // 512)), 10_000))
    seen = np.zeros(20_000)
    seen[windows.mapping] = windows.weight
    in_a_row = np.convolve(seen, np.ones(1009), mode="valid")
    assert set(windows.weight.tolist()) == {2}
    assert in_a_row == pytest.approx(1009, rel=0.03)


def test_no_mapping_has_no_windows():
    assert len(windows_of(populated=0)) == 0
    assert idle_bytes(windows_of(populated=0), (0, SECOND), 5 * SECOND) == (0, 0)


# --- what a read shows ---------------------------------------------------------------------------------------------

def test_a_young_page_that_was_never_seen_clear_is_unknown_and_dirty():
    windows = one_window()
    show(windows, SECOND, young=0b11)
    assert windows.unknown()[0] == windows.dirty()[0] == 0b11
    assert windows.watched[0] == windows.known[0] == WHOLE & ~0b11


def test_a_page_that_reads_clear_is_watched_and_known_from_then_on():
    windows = one_window()
    show(windows, SECOND, young=WHOLE)
    show(windows, 2 * SECOND, young=0)
    assert windows.watched[0] == windows.known[0] == WHOLE
    assert windows.idle_since_ns(BASE, BASE + PAGE).tolist() == [2 * SECOND]


def test_a_watched_page_that_turns_young_has_woken_since_the_read_before():
    windows = one_window()
    show(windows, SECOND, young=0)
    seen = show(windows, 3 * SECOND, young=0b101)
    assert (seen.watched[0], seen.woken[0], seen.since_ns[0], seen.taken_ns) == (WHOLE, 0b101, SECOND, 3 * SECOND)
    assert windows.dirty()[0] == 0b101
    assert windows.unknown()[0] == 0


def test_a_page_that_is_young_still_does_not_wake_again():
    windows = one_window()
    show(windows, SECOND, young=0)
    show(windows, 2 * SECOND, young=1)
    assert show(windows, 3 * SECOND, young=1).woken[0] == 0


def test_a_page_that_is_gone_is_neither_watched_nor_dirty_nor_woken():
    windows = one_window()
    show(windows, SECOND, young=0)
    seen = show(windows, 2 * SECOND, young=0, present=WHOLE & ~1)
    assert seen.woken[0] == 0
    assert windows.watched[0] == windows.present[0] == WHOLE & ~1
    assert windows.idle_since_ns(BASE, BASE + PAGE).tolist() == [NEVER_IDLE_NS]


def test_a_page_that_comes_back_after_it_was_gone_starts_its_idle_time_anew():
    windows = one_window()
    show(windows, SECOND, young=0)
    show(windows, 2 * SECOND, young=0, present=WHOLE & ~1)
    show(windows, 3 * SECOND, young=0)
    assert windows.idle_since_ns(BASE, BASE + 2 * PAGE).tolist() == [3 * SECOND, SECOND]


@pytest.mark.parametrize(("anonymous", "unknown"), [(False, 0b111), (True, 0)])
def test_pages_of_a_file_that_come_back_young_may_be_neighbours_of_a_fault_and_others_were_touched(anonymous, unknown):
    windows = windows_of(Mapping(BASE, BASE + WINDOW, "x", anonymous=anonymous))
    show(windows, SECOND, young=0)
    show(windows, 2 * SECOND, young=0, present=WHOLE & ~0b111)
    seen = show(windows, 3 * SECOND, young=0b111)
    assert seen.woken[0] == 0
    assert windows.dirty()[0] == 0b111
    assert windows.unknown()[0] == unknown


def test_a_lost_read_changes_nothing_and_is_counted():
    windows = one_window()
    show(windows, SECOND, young=1)
    before = {name: getattr(windows, name).copy() for name in ("present", "watched", "known", "read_ns")}
    seen = show(windows, 2 * SECOND, young=0, present=0, level=LEVEL_LOST | 1)
    assert (seen.lost, len(seen.windows)) == (1, 0)
    assert all((getattr(windows, name) == values).all() for name, values in before.items())


def test_bits_of_a_neighbouring_mapping_in_the_tile_are_not_taken_for_ours():
    windows = windows_of(Mapping(BASE, BASE + 4 * PAGE, "a"), Mapping(BASE + 4 * PAGE, BASE + 8 * PAGE, "b"))
    seen = show(windows, SECOND, young=0xFF, present=0xFF, index=(0, 1))
    assert seen.young.tolist() == windows.present.tolist() == [0x0F, 0xF0]


def test_what_reads_clear_can_be_cleared_after_all():
    windows = one_window()
    show(windows, SECOND, young=WHOLE)
    windows.refuse(np.array([0]), np.array([0b11], np.uint64))
    assert windows.dirty()[0] == WHOLE & ~0b11
    show(windows, 2 * SECOND, young=0b10)
    assert windows.refused[0] == 0b10


def test_young_pages_of_a_mapping_that_cannot_be_cleared_are_refused_at_once():
    windows = windows_of(Mapping(BASE, BASE + WINDOW, "/anon_hugepage", clearable=False))
    show(windows, SECOND, young=0b11)
    assert windows.refused[0] == 0b11
    assert windows.dirty()[0] == windows.unknown()[0] == 0


# --- idle time -----------------------------------------------------------------------------------------------------

def test_clearing_a_window_again_for_its_hot_page_keeps_the_idle_time_of_its_cold_ones():
    windows = one_window()
    show(windows, SECOND, young=0)
    for second in range(2, 30):
        show(windows, second * SECOND, young=1)
        show(windows, second * SECOND + SECOND // 2, young=0)
    cold, hot = windows.idle_since_ns(BASE + PAGE, BASE + 2 * PAGE), windows.idle_since_ns(BASE, BASE + PAGE)
    assert cold.tolist() == [SECOND]
    assert hot.tolist() == [29 * SECOND + SECOND // 2]


def test_pages_that_fell_asleep_lately_do_not_shorten_the_idle_time_of_older_ones():
    windows = one_window()
    show(windows, SECOND, young=0b11)
    show(windows, 20 * SECOND, young=0b01)
    show(windows, 21 * SECOND, young=0)
    assert windows.idle_since_ns(BASE, BASE + 3 * PAGE).tolist() == [21 * SECOND, 21 * SECOND, SECOND]


def test_pages_that_fell_asleep_long_ago_are_not_taken_for_younger_for_the_sake_of_a_little():
    windows = one_window()
    show(windows, SECOND, young=0b11)
    show(windows, 2 * SECOND, young=0b01)
    show(windows, 21 * SECOND, young=0)
    assert windows.idle_since_ns(BASE, BASE + 3 * PAGE).tolist() == [21 * SECOND, 2 * SECOND, 2 * SECOND]


def test_idle_bytes_count_each_page_at_the_edges_that_it_reached():
    windows = one_window()
    show(windows, 10 * SECOND, young=0b1)
    show(windows, 15 * SECOND, young=0)
    edges = (0, SECOND, 5 * SECOND, 10 * SECOND, 11 * SECOND)
    assert idle_bytes(windows, edges, 20 * SECOND) == (64 * PAGE, 64 * PAGE, 64 * PAGE, 63 * PAGE, 0)


def test_unknown_and_refused_pages_are_in_no_idle_bytes():
    windows = one_window()
    show(windows, 10 * SECOND, young=0b111)
    windows.refuse(np.array([0]), np.array([0b1], np.uint64))
    assert idle_bytes(windows, (0, SECOND), 20 * SECOND) == (61 * PAGE, 61 * PAGE)


def test_idle_times_of_a_range_cover_pages_without_windows_as_unknown():
    windows = windows_of(Mapping(BASE + WINDOW, BASE + 2 * WINDOW, "a"), populated=1)
    show(windows, SECOND, young=0)
    since = windows.idle_since_ns(BASE + WINDOW - 2 * PAGE, BASE + 2 * WINDOW + PAGE)
    assert since.tolist() == [NEVER_IDLE_NS] * 2 + [SECOND] * 64 + [NEVER_IDLE_NS]


PAGES = st.sampled_from((0, 1, 2, 40, 63, 64, 100, 127))
STEPS = st.lists(st.one_of(
    st.tuples(st.just("touch"), PAGES, st.integers(1, 30)),
    st.tuples(st.just("read"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("clear"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("out"), PAGES, st.integers(1, 20)),
), max_size=40)


@settings(max_examples=500, deadline=None)
@given(STEPS)
@example([("clear", 1, 0), ("touch", 0, 1), ("clear", 1, 0), ("touch", 1, 1), ("clear", 1, 0), ("touch", 2, 1),
          ("clear", 1, 0)])
def test_idle_time_is_never_overstated(steps):
    memory = FakeMemory(2 * MIB)
    memory.map(BASE, 2 * WINDOW)
    windows = Windows(memory.mappings(), spread(memory.mappings(), chunks(1), 1 << 20))

    def read(chosen: np.ndarray) -> None:
        windows.observe(chosen, memory.read_windows(windows.tile[chosen]))
        for window in chosen:
            first = int(windows.first[window])
            since = windows.idle_since_ns(first, first + WINDOW)
            pages = memory.slice(first, 64)
            assert (since >= memory.touched_ns[pages]).all()
            assert ((since == NEVER_IDLE_NS) | memory.present[pages]).all()
            assert ((since == NEVER_IDLE_NS) == (memory.young[pages] | ~memory.present[pages])).all()

    for what, where, size in steps:
        memory.advance(SECOND)
        if what == "touch":
            memory.touch(BASE + where * PAGE, min(size, 128 - where))
        elif what == "out":
            memory.page_out(BASE + where * PAGE, min(size, 128 - where))
        else:
            chosen = np.flatnonzero([where & 1, where & 2])
            read(chosen)
            if what == "clear":
                memory.clear(np.column_stack((windows.first[chosen], windows.last[chosen])))
                read(chosen)


# --- carrying over -------------------------------------------------------------------------------------------------

def test_what_is_known_survives_a_new_layout_where_the_memory_is_the_same():
    old = windows_of(Mapping(BASE, BASE + CHUNK, "a"))
    show(old, SECOND, young=0b1, index=range(8))
    new = windows_of(Mapping(BASE, BASE + CHUNK, "a"), Mapping(BASE + CHUNK, BASE + 2 * CHUNK, "b"), populated=2)
    new.carry_over(old)
    assert (new.watched[:8] == old.watched).all()
    assert new.idle_since_ns(BASE + PAGE, BASE + 2 * PAGE).tolist() == [SECOND]
    assert not new.present[8:].any()
    assert not new.read_ns[8:].any()


def test_a_window_whose_mapping_changed_shape_is_not_carried_over():
    old = windows_of(Mapping(BASE, BASE + 10 * PAGE, "a"))
    show(old, SECOND, young=0, present=0x3FF)
    new = windows_of(Mapping(BASE, BASE + 12 * PAGE, "a"))
    new.carry_over(old)
    assert new.watched[0] == new.read_ns[0] == 0


def test_what_is_known_of_another_file_or_of_freed_memory_says_nothing_of_what_is_mapped_there_now():
    heap = Mapping(BASE, BASE + WINDOW, "[heap]")
    old = windows_of(heap)
    show(old, SECOND, young=0)
    old.mark_evicted(np.array([[BASE, BASE + PAGE]], np.uint64), SECOND)
    grown = windows_of(replace(heap, end=BASE + CHUNK, name="[anon: x]"))
    grown.carry_over(old)
    assert grown.evicted[0] == 1
    file = windows_of(replace(heap, anonymous=False, file="8:1:7"))
    file.carry_over(old)
    assert file.watched[0] == file.evicted[0] == 0
    assert not show(file, 2 * SECOND, young=1).returned.any()


def test_what_comes_back_within_ten_seconds_of_going_is_told_apart():
    windows = windows_of(Mapping(BASE, BASE + 2 * WINDOW, "a"))
    show(windows, SECOND, young=0, index=(0, 1))
    windows.mark_evicted(np.array([[BASE, BASE + 2 * PAGE]], np.uint64), SECOND, 60 * SECOND)
    show(windows, 64 * SECOND, young=0, present=0b10)
    seen = show(windows, 90 * SECOND, young=1, present=0b11)
    assert (seen.returned[0], seen.returned_soon[0]) == (1, 0)
    windows.mark_evicted(np.array([[BASE, BASE + PAGE]], np.uint64), SECOND, 91 * SECOND)
    assert show(windows, 95 * SECOND, young=1, present=0b11).returned_soon[0] == 1


def test_nothing_is_carried_over_from_nothing_to_nothing():
    nothing = windows_of(populated=0)
    nothing.carry_over(one_window())
    one = one_window()
    one.carry_over(nothing)
    assert len(nothing) == 0
    assert one.present[0] == 0


def test_a_target_that_grows_past_the_limit_keeps_what_is_known_of_the_windows_that_stay():
    old = windows_of(Mapping(BASE, BASE + 8 * CHUNK, "a"), populated=8, limit=32)
    show(old, SECOND, young=0, index=range(len(old)))
    new = windows_of(Mapping(BASE, BASE + 16 * CHUNK, "a"), populated=16, limit=32)
    new.carry_over(old)
    assert (old.weight[0], new.weight[0]) == (2, 4)
    assert len(new)
    assert (new.watched[new.tile < BASE + 8 * CHUNK] == ALL_PAGES).all()


def test_a_new_small_mapping_below_does_not_move_the_spread_windows_of_the_others():
    large = Mapping(BASE + CHUNK, BASE + 9 * CHUNK, "large")
    old = windows_of(large, populated=9, limit=40)
    show(old, SECOND, young=0, index=range(len(old)))
    new = windows_of(Mapping(BASE, BASE + WINDOW, "small"), large, populated=9, limit=40)
    new.carry_over(old)
    assert (new.watched[new.tile >= large.start] == ALL_PAGES).all()


# --- evictions and evidence ----------------------------------------------------------------------------------------

def test_pages_that_were_paged_out_and_are_resident_again_have_returned_once():
    windows = one_window()
    show(windows, SECOND, young=0)
    windows.mark_evicted(np.array([[BASE, BASE + 2 * PAGE], [BASE + 63 * PAGE, BASE + 64 * PAGE]], np.uint64), SECOND)
    assert windows.evicted[0] == 0b11 | 1 << 63
    assert show(windows, 2 * SECOND, young=0, present=WHOLE & ~0b11 & ~(1 << 63)).returned[0] == 0
    assert show(windows, 3 * SECOND, young=0b1, present=WHOLE & ~0b10).returned[0] == 0b1 | 1 << 63
    assert windows.evicted[0] == 0b10


def test_evicted_pages_outside_of_every_window_are_left_out():
    windows = windows_of(Mapping(BASE, BASE + 4 * PAGE, "a"), Mapping(BASE + 8 * PAGE, BASE + 12 * PAGE, "b"))
    windows.mark_evicted(np.array([[BASE - PAGE, BASE + 10 * PAGE]], np.uint64), 0)
    assert windows.evicted.tolist() == [0b1111, 0b11 << 8]


def test_what_came_back_has_to_be_idle_twice_as_long_as_it_was_before():
    windows = windows_of(Mapping(BASE, BASE + 3 * WINDOW, "a"))
    assert windows.patience_of(BASE + PAGE, BASE + WINDOW).tolist() == [0] * 63
    everything = np.arange(3)
    level = np.ones(3, np.uint8)
    windows.mark_evicted(np.array([[BASE + WINDOW, BASE + 2 * WINDOW]], np.uint64), 10 * SECOND)
    windows.observe(everything, WindowRead(np.zeros(3, np.uint64), np.array([ALL_PAGES, 1, ALL_PAGES], np.uint64),
                                           level, 40 * SECOND))
    patience_ns = windows.patience_of(BASE, BASE + 3 * WINDOW).reshape(3, 64)
    assert np.unique(patience_ns, axis=1).tolist() == [[0], [60 * SECOND], [0]]
    windows.mark_evicted(np.array([[BASE + WINDOW, BASE + 2 * WINDOW]], np.uint64), 41 * SECOND)
    windows.observe(everything, WindowRead(np.zeros(3, np.uint64), np.full(3, ALL_PAGES), level, 42 * SECOND))
    assert windows.patience_ns.tolist() == [0, 60 * SECOND, 0]


def test_of_windows_with_evicted_pages_those_read_long_ago_come_first():
    windows = windows_of(Mapping(BASE, BASE + 4 * WINDOW, "a"))
    for window in (2, 0, 1, 3):
        windows.observe(np.array([window]), WindowRead(np.zeros(1, np.uint64), np.zeros(1, np.uint64),
                                                       np.ones(1, np.uint8), (window + 1) * SECOND))
    windows.mark_evicted(np.array([[BASE + WINDOW, BASE + 4 * WINDOW]], np.uint64), 0)
    assert windows.with_evicted(None).tolist() == [1, 2, 3]
    assert windows.with_evicted(2).tolist() == [1, 2]


def test_old_evidence_fades_beside_new_evidence():
    windows = one_window()
    one, full = np.array([1.0]), np.ones(1)
    windows.book(np.array([0]), 5 * one, 1e9 * one, full)
    windows.book(np.array([0]), 0 * one, 1e9 * one, 0.1 * full)
    assert windows.touches[0] == pytest.approx(0.5)
    assert windows.exposure_ns[0] == pytest.approx(1.1e9)


def test_evidence_reaches_back_some_ten_seconds_at_an_unchanged_rate():
    windows = one_window()
    for _ in range(100):
        windows.book(np.array([0]), np.array([64.0]), np.array([64e9]), np.ones(1))
    assert windows.exposure_ns[0] == pytest.approx(64 * 10e9)
    assert windows.touches[0] / windows.exposure_ns[0] == pytest.approx(1e-9)


def wake(windows: Windows, watched: int, woken: int, seconds: float) -> None:
    windows.book_wakes(np.array([0]), np.array([watched]), np.array([woken]), np.array([seconds * 1e9]))


@pytest.mark.parametrize(("woken", "bounded"), [(64, True), (57, True), (56, False), (1, False), (0, False)])
def test_a_window_that_nearly_all_woke_up_has_a_lower_bound_of_a_rate(woken, bounded):
    windows = one_window()
    wake(windows, 64, woken, 8.0)
    assert (windows.bounded[0], windows.touches[0], windows.exposure_ns[0]) == (bounded, woken, 8e9)
    wake(windows, 64, 0, 8.0)
    assert not windows.bounded[0]


def test_a_lower_bound_says_nothing_where_a_higher_rate_is_known():
    windows = one_window()
    windows.book(np.array([0]), np.array([64.0]), np.array([1e9]), np.ones(1))
    wake(windows, 64, 64, 8.0)
    assert (windows.bounded[0], windows.touches[0], windows.exposure_ns[0]) == (False, 64, 1e9)


def test_a_window_that_fell_asleep_forgets_that_it_was_hot():
    windows = one_window()
    windows.book(np.array([0]), np.array([64.0]), np.array([1e9]), np.ones(1))
    wake(windows, 64, 1, 6.0)  # 384 were to be expected
    assert (windows.touches[0], windows.exposure_ns[0]) == (1, 6e9)


def test_a_window_that_was_watched_for_no_time_teaches_nothing():
    windows = one_window()
    wake(windows, 64, 64, 0.0)
    assert (windows.bounded[0], windows.touches[0]) == (False, 0)


def test_forgotten_rates_are_gone_and_idle_times_stay():
    windows = one_window()
    wake(windows, 64, 64, 8.0)
    windows.cleared_ns[0] = 5
    windows.forget_rates(np.array([0]))
    assert (windows.bounded[0], windows.touches[0], windows.exposure_ns[0], windows.cleared_ns[0]) == (False, 0, 0, 5)


def test_a_page_is_known_once_it_was_seen_clear_whatever_it_did_since():
    windows = one_window()
    show(windows, SECOND, young=0b110)
    show(windows, 2 * SECOND, young=WHOLE)
    assert np.flatnonzero(~windows.known_pages(BASE, BASE + WINDOW)).tolist() == [1, 2]
    assert windows.known_pages(BASE + 2 * PAGE, BASE + 4 * PAGE).tolist() == [False, True]
    assert not windows.known_pages(BASE + WINDOW, BASE + 3 * WINDOW).any()


def test_once_others_may_have_cleared_bits_unseen_nothing_is_known_but_what_is_read_from_then_on():
    memory = FakeMemory()
    memory.map(BASE, 4 * WINDOW)
    windows = windows_of(*memory.mappings())
    memory.young[:] = False
    everything(memory, windows)
    assert (windows.watched != 0).sum() == len(windows)
    later = 5 * SECOND
    read = memory.read_windows(windows.tile[:1])
    seen = windows.observe(np.array([0]), read._replace(taken_ns=later, blind=True))
    assert seen.woken.tolist() == seen.watched.tolist() == [0]
    assert windows.watched.tolist() == [int(ALL_PAGES), 0, 0, 0]
    assert windows.unknown().tolist() == [0] + 3 * [int(ALL_PAGES)]
    assert windows.tally.pages.unknown.sum() == 3 * 64
    assert windows.idle_since_ns(BASE, BASE + PAGE).tolist() == [later]
    assert windows.idle_since_ns(BASE + WINDOW, BASE + WINDOW + PAGE).tolist() == [NEVER_IDLE_NS]
