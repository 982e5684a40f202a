# SPDX-License-Identifier: GPL-2.0-only
"""What others took, against a set of pages that says the same more slowly."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.kernel.taken import Taken
from pagepulse.model.memory import PAGE, WINDOW, WINDOW_PAGES

BASE = 0x7F00_0000_0000
PAGES = 5 * WINDOW_PAGES

keeps = st.lists(st.tuples(st.integers(0, 4), st.integers(1, (1 << WINDOW_PAGES) - 1)), min_size=1, max_size=4,
                 unique_by=lambda row: row[0])
ranges = st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES)), max_size=3)


def pages_of(taken: Taken) -> set[int]:
    windows = BASE + np.arange(5, dtype=np.uint64) * np.uint64(WINDOW)
    return {row * WINDOW_PAGES + bit for row, mask in enumerate(taken.among(windows).tolist())
            for bit in range(WINDOW_PAGES) if mask >> bit & 1}


@given(st.lists(st.tuples(keeps, ranges), max_size=4))
def test_a_page_is_kept_from_when_it_was_taken_until_it_is_cleared(steps):
    taken, expected = Taken(), set()
    for rows, cleared in steps:
        taken.keep(np.array([BASE + window * WINDOW for window, _ in rows], np.uint64),
                   np.array([mask for _, mask in rows], np.uint64))
        expected |= {window * WINDOW_PAGES + bit for window, mask in rows
                     for bit in range(WINDOW_PAGES) if mask >> bit & 1}
        spans = [(first, min(first + count, PAGES)) for first, count in cleared]
        taken.forget(np.array([(BASE + start * PAGE, BASE + end * PAGE) for start, end in spans],
                              np.uint64).reshape(-1, 2))
        expected -= {page for start, end in spans for page in range(start, end)}
        assert pages_of(taken) == expected
        first, end = 7, PAGES - 3  # within windows
        assert (first + np.flatnonzero(taken.pages(BASE + first * PAGE, BASE + end * PAGE))).tolist() == sorted(
            page for page in expected if first <= page < end)


def test_what_is_of_no_mapping_any_more_or_empty_is_dropped():
    taken = Taken()
    windows = BASE + np.arange(6, dtype=np.uint64) * np.uint64(WINDOW)
    taken.keep(windows[::-1], np.full(6, 0b11, np.uint64))
    taken.forget(np.array([[BASE, BASE + WINDOW]], np.uint64))
    taken.keep_within(np.array([[BASE, BASE + 2 * WINDOW], [BASE + 3 * WINDOW + PAGE, BASE + 4 * WINDOW]], np.uint64))
    assert taken.among(windows).tolist() == [0, 0b11, 0, 0b11, 0, 0]
    assert len(taken) == 2
    taken.keep_within(np.empty((0, 2), np.uint64))


def test_a_few_more_cost_little_however_many_are_kept():
    """All of them were sorted anew for each: 110 ms at 640 000."""
    taken = Taken()
    many = BASE + np.arange(640_000, dtype=np.uint64) * np.uint64(2 * WINDOW)
    taken.keep(many, np.ones(len(many), np.uint64))
    few = many[::10_000] + np.uint64(WINDOW)
    begun = time.process_time()
    taken.keep(few, np.ones(len(few), np.uint64))
    taken.keep(few, np.ones(len(few), np.uint64))
    taken.forget(np.column_stack((few, few + np.uint64(WINDOW))))
    assert time.process_time() - begun < 0.05
    assert not taken.among(few).any()


def test_of_windows_that_nobody_took_from_nothing_is_kept():
    assert Taken().among(np.array([BASE], np.uint64)).tolist() == [0]
