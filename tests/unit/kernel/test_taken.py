# SPDX-License-Identifier: GPL-2.0-only
"""What others took, against a set of pages that says the same more slowly."""

from __future__ import annotations

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


def test_of_windows_that_nobody_took_from_nothing_is_kept():
    assert Taken().among(np.array([BASE], np.uint64)).tolist() == [0]
