# SPDX-License-Identifier: GPL-2.0-only
"""What is counted as it changes is what counting everything anew would find."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import BASE, SECOND
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, LEVEL_LOST, WINDOW, Mapping, WindowRead
from pagepulse.model.tally import sums_between
from pagepulse.model.windows import Windows

MASKS = st.integers(0, 2**64 - 1)
COUNT = 4


def some_windows() -> Windows:
    """Two of memory without a file, one of a file, and one that nothing clears."""
    mappings = [Mapping(BASE, BASE + 2 * WINDOW, "[heap]"), Mapping(BASE + 2 * WINDOW, BASE + 3 * WINDOW, "/file"),
                Mapping(BASE + 3 * WINDOW, BASE + 4 * WINDOW, "/anon_hugepage", clearable=False)]
    return Windows(mappings, spread(mappings, np.array([BASE], np.uint64), 1 << 20))


STEPS = st.tuples(st.sets(st.integers(0, COUNT - 1), min_size=1), MASKS, MASKS, st.sampled_from([1, 2, LEVEL_LOST]),
                  st.sampled_from(["read", "refuse", "allow", "know", "evict", "anew"]))


@given(st.lists(STEPS, max_size=12))
@settings(deadline=None)
def test_the_tally_is_always_that_of_the_masks(steps):
    windows = some_windows()
    for step, (which, present, young, level, what) in enumerate(steps):
        index = np.array(sorted(which))
        masks = np.full(len(index), young & present, np.uint64)
        if what == "read":
            read = WindowRead(masks, np.full(len(index), present, np.uint64), np.full(len(index), level, np.uint8),
                              (step + 1) * SECOND)
            windows.observe(index, read)
        elif what == "evict":
            windows.mark_evicted(np.array([[BASE, BASE + WINDOW]], np.uint64), SECOND)
        elif what == "anew":
            old, windows = windows, some_windows()
            windows.carry_over(old)
        else:
            getattr(windows, what)(index, masks & windows.present[index] & ~windows.watched[index])
        counted = windows.tally.pages
        for name, wanted in (("present", windows.present), ("dirty", windows.dirty()), ("unknown", windows.unknown()),
                             ("refused", windows.refused), ("settled", windows.settled), ("watched", windows.watched)):
            assert getattr(counted, name).tolist() == np.bitwise_count(wanted).tolist(), name


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 3))
def test_sums_between_edges_are_those_of_the_slices(counts, rows):
    edges = np.concatenate(([0], np.cumsum(counts)))
    values = np.arange(1.0, rows * edges[-1] + 1).reshape(rows, edges[-1])
    wanted = [[row[low:high].sum() for low, high in pairwise(edges)] for row in values]
    assert sums_between(values, edges).tolist() == wanted


def test_what_a_window_stands_for_counts_as_often():
    mapping = Mapping(BASE, BASE + 64 * CHUNK, "[heap]")
    chunks = np.arange(BASE, BASE + 64 * CHUNK, CHUNK, dtype=np.uint64)
    windows = Windows([mapping], spread([mapping], chunks, 64))
    every = np.arange(len(windows))
    clear, small = np.zeros(len(every), np.uint64), np.ones(len(every), np.uint8)
    windows.observe(every, WindowRead(clear, windows.mask, small, SECOND))
    assert windows.weight.min() > 1
    assert windows.tally.by_region(np.array([0, len(every)])).watched == 64 * windows.weight.sum()
