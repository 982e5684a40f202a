# SPDX-License-Identifier: GPL-2.0-only
"""Plan: what is chosen to be cleared, and what must never be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import BASE, MIB, SECOND, FakeMemory
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, Mapping
from pagepulse.model.plan import (
    SWEEP_AGAIN_NS,
    choose_probes,
    choose_sweep,
    nearest_watched,
    pages_of,
    patrol_order,
    ranges_of,
    slices_of,
    tick_times_ns,
    without_cut_huge_pages,
)
from pagepulse.model.regions import STATE, areas_of, fit, split_at
from pagepulse.model.structure import edges_of, owners
from pagepulse.model.windows import Windows

NOW_NS = 1000 * SECOND


class Scene:
    """Memory of which everything was read once and nothing was cleared: two regions, cut in the middle."""

    def __init__(self, size_bytes: int = 8 * MIB, *, huge_chunks: tuple[int, ...] = (), clearable: bool = True) -> None:
        self.memory = FakeMemory(size_bytes)
        self.memory.map(BASE, size_bytes, clearable=clearable)
        for chunk in huge_chunks:
            self.memory.huge[self.memory.slice(BASE + chunk * CHUNK, 512)] = True
        mappings = self.memory.mappings()
        chunks = self.memory.populated(np.array([[BASE, BASE + size_bytes]], np.uint64))
        self.windows = Windows(mappings, spread(mappings, chunks, 1 << 20))
        self.read()
        regions = fit(np.empty(0, STATE), areas_of(mappings, 10), NOW_NS)
        self.regions = split_at(regions, np.array([BASE + size_bytes // 2], np.uint64))
        self.owner = owners(edges_of(self.regions, self.windows))
        self.swept_ns = np.zeros(len(self.windows), np.int64)

    def read(self) -> None:
        self.windows.observe(np.arange(len(self.windows)), self.memory.read_windows(self.windows.tile))

    def clear(self, first: int, last: int) -> None:
        """Clear and read back these windows."""
        self.memory.clear(np.array([[self.windows.first[first], self.windows.last[last - 1]]], np.uint64))
        self.read()

    def probes(self, count: int, seed: int = 0) -> np.ndarray:
        return choose_probes(self.windows, self.regions, self.owner, count, np.random.default_rng(seed))

    def sweep(self, pages: int = 1 << 20, now_ns: int = NOW_NS) -> np.ndarray:
        return choose_sweep(self.windows, self.regions, self.owner, self.swept_ns, now_ns, pages)


# --- probes --------------------------------------------------------------------------------------------------------

def test_only_windows_with_dirty_pages_are_probed():
    scene = Scene()
    scene.clear(0, 30)
    assert set(scene.probes(64, seed=1).tolist()) == {30, 31}


def test_nothing_is_probed_where_nothing_is_dirty_or_nothing_may_be_spent():
    scene = Scene()
    assert len(scene.probes(0)) == 0
    scene.clear(0, 32)
    assert len(scene.probes(16)) == 0


def test_few_windows_are_probed_where_all_regions_are_known_well():
    scene = Scene()
    scene.regions["trials"] = scene.regions["hits"] = scene.regions["quick_hits"] = 1e6
    assert 1 <= len(scene.probes(64)) <= 4
    scene.regions["trials"] = scene.regions["hits"] = scene.regions["quick_hits"] = 0
    assert 9 <= len(scene.probes(64)) <= 20


def test_most_probes_go_to_the_region_that_is_uncertain():
    scene = Scene()
    scene.regions["trials"], scene.regions["quick_hits"] = (1e6, 0), (1e6, 0)
    scene.regions["probed_ns"] = NOW_NS
    of_first = sum(int((scene.owner[scene.probes(64, seed=seed)] == 0).sum()) for seed in range(50))
    of_second = sum(int((scene.owner[scene.probes(64, seed=seed)] == 1).sum()) for seed in range(50))
    assert of_second > 2 * of_first


def test_each_region_is_probed_where_there_are_enough_probes_however_well_it_is_known():
    scene = Scene(32 * MIB)
    scene.regions = split_at(scene.regions, BASE + np.arange(1, 16, dtype=np.uint64) * np.uint64(CHUNK))
    scene.owner = owners(edges_of(scene.regions, scene.windows))
    scene.regions["trials"] = scene.regions["hits"] = scene.regions["quick_hits"] = 1e6
    assert set(scene.owner[scene.probes(64)].tolist()) == set(range(16))
    assert len(scene.probes(8)) == 8


# --- patrols -------------------------------------------------------------------------------------------------------

@given(st.integers(0, 100))
def test_a_patrol_sees_each_chunk_before_it_sees_any_of_them_twice(seed):
    windows = Scene().windows
    order = patrol_order(windows, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(windows)))
    for turn in range(8):
        assert len(set((windows.tile[order[4 * turn:4 * turn + 4]] // CHUNK).tolist())) == 4


def test_the_watched_windows_nearest_to_one_that_woke_are_read():
    scene = Scene()
    scene.clear(0, 24)
    woke, read = np.array([4, 20]), np.array([4, 5, 20])
    assert nearest_watched(scene.windows, woke, read, 5).tolist() == [2, 3, 19, 21, 22]
    assert nearest_watched(scene.windows, woke, read, 100).tolist() == sorted({*range(24)} - {4, 5, 20})


@given(st.integers(1, 16), st.integers(0, 100))
def test_the_region_probed_longest_ago_is_always_among_the_probed(count, seed):
    scene = Scene()
    scene.regions["probed_ns"] = NOW_NS, NOW_NS - SECOND
    chosen = scene.probes(count, seed)
    assert 1 in scene.owner[chosen]
    assert len(chosen) <= count


def test_memory_that_cannot_be_cleared_is_never_probed_nor_swept():
    scene = Scene(clearable=False)
    assert len(scene.probes(16)) == len(scene.sweep()) == 0


def test_windows_of_which_every_dirty_page_was_refused_are_not_probed_nor_swept():
    scene = Scene()
    scene.windows.refuse(np.arange(31), scene.windows.mask[:31])
    assert scene.probes(16).tolist() == scene.sweep().tolist() == [31]


@pytest.mark.parametrize("seed", range(10))
def test_of_a_huge_page_all_windows_are_probed_or_none(seed):
    scene = Scene(huge_chunks=(0, 2))
    chosen = scene.probes(3, seed)
    for chunk in (0, 2):
        assert np.count_nonzero(chosen // 8 == chunk) in {0, 8}
    assert (np.diff(chosen) > 0).all()


# --- sweeps --------------------------------------------------------------------------------------------------------

def test_unknown_memory_is_swept_first_and_no_more_than_allowed():
    scene = Scene()
    scene.clear(0, 16)
    scene.memory.touch(BASE, 10)
    scene.read()
    scene.regions["trials"][0] = 100  # ... and probes found nothing touched: idle
    assert scene.sweep(3 * 64).tolist() == [16, 17, 18]
    assert scene.sweep().tolist() == [0, *range(16, 32)]


def test_a_sweep_is_priced_by_the_pages_that_windows_have_and_not_by_those_that_they_could_have():
    scene = Scene()
    scene.memory.present[:] = False
    scene.memory.present[::64] = True  # one page of each window
    scene.read()
    assert len(scene.sweep(20)) == 20


def test_an_active_region_is_not_swept_again():
    scene = Scene()
    scene.clear(0, 32)
    scene.memory.touch(BASE, 2048)
    scene.read()
    scene.regions["trials"], scene.regions["hits"] = 100, 10
    assert len(scene.sweep()) == 0


def test_few_probes_do_not_make_a_region_idle():
    scene = Scene()
    scene.clear(0, 32)
    scene.memory.touch(BASE, 2048)
    scene.read()
    scene.regions["trials"] = 10
    assert len(scene.sweep()) == 0


def test_memory_that_stays_unknown_is_swept_again_only_after_a_while():
    scene = Scene()
    scene.swept_ns[:] = NOW_NS
    assert len(scene.sweep(now_ns=NOW_NS + SWEEP_AGAIN_NS - 1)) == 0
    assert len(scene.sweep(now_ns=NOW_NS + SWEEP_AGAIN_NS)) == 32


@given(st.integers(0, 3000))
def test_a_sweep_never_cuts_a_huge_page_wherever_it_must_stop(pages):
    scene = Scene(huge_chunks=(1, 3))
    chosen = scene.sweep(pages)
    assert pages_of(scene.windows, chosen) <= pages
    for chunk in (1, 3):
        assert np.count_nonzero(chosen // 8 == chunk) in {0, 8}


def test_a_huge_page_counts_as_whole_where_windows_are_spread():
    scene = Scene(huge_chunks=(0, 1, 2, 3))
    mappings, chunks = scene.memory.mappings(), np.unique(scene.windows.tile // CHUNK * CHUNK).astype(np.uint64)
    windows = Windows(mappings, spread(mappings, chunks, 16))
    everything = np.arange(len(windows))
    windows.observe(everything, scene.memory.read_windows(windows.tile))
    assert set(windows.weight.tolist()) == {2}
    assert without_cut_huge_pages(windows, everything).tolist() == everything.tolist()
    cut = without_cut_huge_pages(windows, everything[1:])
    assert (windows.tile[cut] >= BASE + CHUNK).all()
    assert len(cut) == np.count_nonzero(windows.tile >= BASE + CHUNK)


@given(st.sets(st.integers(0, 31)), st.integers(1, 12))
def test_slices_hold_every_window_once_and_no_chunk_is_in_two(chosen, size):
    scene = Scene()
    parts = slices_of(scene.windows, np.array(sorted(chosen), np.intp), size)
    assert np.concatenate([np.empty(0, np.intp), *parts]).tolist() == sorted(chosen)
    assert all(len(part) for part in parts)
    assert all(a[-1] // 8 < b[0] // 8 for a, b in pairwise(parts))
    assert all(len(part) <= size + 7 for part in parts)


# --- ranges --------------------------------------------------------------------------------------------------------

def test_touching_windows_are_one_range_and_others_are_not():
    scene = Scene()
    ranges = ranges_of(scene.windows, np.array([0, 1, 2, 5, 7, 8]))
    assert ((ranges - np.uint64(BASE)) // np.uint64(WINDOW)).tolist() == [[0, 3], [5, 6], [7, 9]]


def test_the_range_of_a_huge_page_is_the_page_whichever_of_its_windows_are_chosen():
    scene = Scene(huge_chunks=(1,))
    ranges = ranges_of(scene.windows, np.array([7, 9, 12, 17]))
    assert ranges.tolist() == [[BASE + 7 * WINDOW, BASE + 2 * CHUNK], [BASE + 17 * WINDOW, BASE + 18 * WINDOW]]


def test_ranges_end_where_the_mapping_ends():
    mappings = [Mapping(BASE + PAGE, BASE + 3 * PAGE, "a"), Mapping(BASE + 5 * PAGE, BASE + 6 * PAGE, "b")]
    windows = Windows(mappings, spread(mappings, np.array([BASE], np.uint64), 100))
    assert ranges_of(windows, np.array([0, 1])).tolist() == [[BASE + PAGE, BASE + 3 * PAGE],
                                                            [BASE + 5 * PAGE, BASE + 6 * PAGE]]


def test_no_range_goes_from_one_mapping_into_the_next():
    middle = BASE + WINDOW + 13 * PAGE
    mappings = [Mapping(BASE, middle, "a"), Mapping(middle, middle + PAGE, "a"),
                Mapping(middle + PAGE, BASE + CHUNK, "a")]
    windows = Windows(mappings, spread(mappings, np.array([BASE], np.uint64), 100))
    assert ranges_of(windows, np.arange(len(windows))).tolist() == [[m.start, m.end] for m in mappings]


def test_no_window_has_no_range():
    assert ranges_of(Scene().windows, np.empty(0, np.intp)).shape == (0, 2)


@pytest.mark.parametrize(("aggregation_ms", "ticks_ms"), [(5, []), (10, []), (11, [5]), (100, [5, 40]),
                                                          (1000, [5, 40, 320])])
def test_probes_are_read_at_growing_distances_and_not_shortly_before_the_end(aggregation_ms, ticks_ms):
    assert list(tick_times_ns(5_000_000, aggregation_ms * 1_000_000)) == [ms * 1_000_000 for ms in ticks_ms]
