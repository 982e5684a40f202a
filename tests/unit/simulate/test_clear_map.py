# SPDX-License-Identifier: GPL-2.0-only
"""What was cleared when: runs of pages against one number for each page."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagepulse.simulate import clears
from pagepulse.simulate.clears import PARTLY, ClearMap, cleared_at

PAGES = 200


@st.composite
def disjoint(draw):
    borders = sorted(draw(st.sets(st.integers(0, PAGES), min_size=2, max_size=12)))
    borders = borders[:len(borders) // 2 * 2]
    return np.array(borders[::2], np.int64), np.array(borders[1::2], np.int64)


@given(st.lists(disjoint(), max_size=8), disjoint(), st.integers(1, 7))
@settings(deadline=None)
def test_the_map_agrees_with_one_stamp_for_each_page(paints, asked, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clears, "_RECENT", 3)  # so that the small layer is worked into the large one
        every_page = np.zeros(PAGES + 8, np.int64)
        clear_map = ClearMap()
        for time, (starts, ends) in enumerate(paints):
            clear_map.paint(starts, ends, cleared_at(time))
            for start, end in zip(starts, ends, strict=True):
                every_page[start:end] = cleared_at(time)
        first = np.arange(PAGES)
        windows = np.stack([every_page[first + i] for i in range(count)])
        expected = np.where((windows == windows[0]).all(axis=0), windows[0], PARTLY)
        stamps = clear_map.stamps(first, count)
        # two runs of the same clear side by side may be told apart: PARTLY is then right, only slow
        assert ((stamps == expected) | ((stamps == PARTLY) & (count > 1))).all()
        assert (clear_map.stamps(first, 1) == every_page[:PAGES]).all()
        pieces = clear_map.pieces(*asked)
        covered = np.zeros(PAGES + 8, np.int64)
        for start, end, stamp in zip(*pieces, strict=True):
            assert not covered[start:end].any()
            covered[start:end] = stamp
        inside = np.zeros(PAGES + 8, bool)
        for start, end in zip(*asked, strict=True):
            inside[start:end] = True
        assert (covered == np.where(inside, every_page, 0)).all()


def test_clearing_the_same_windows_again_and_again_does_not_grow_the_map():
    clear_map = ClearMap()
    starts = np.arange(1000, dtype=np.int64) * 512
    for time in range(50):
        clear_map.paint(starts, starts + 64, cleared_at(time))
    assert clear_map.runs().starts.size == 1000
