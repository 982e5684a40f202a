# SPDX-License-Identifier: GPL-2.0-only
"""The heat matrix: means over time and address, and not-known that stays not known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import BASE, MIB, SECOND, region, series, snapshot, touched_region
from pagepulse.report.folding import fold
from pagepulse.report.heat import heat, shade
from pagepulse.report.overview import overview


def heat_of(snapshots, cells, rows):
    summed = overview(snapshots)
    return heat(snapshots, fold(summed.spans, cells), rows, summed.start_ns, summed.end_ns, summed.aggregation_ns)


def test_each_cell_is_the_share_touched_there_at_that_time():
    drawn = heat_of(series([0, 1, .5, .25], [1, 0, 0, 0]), cells=4, rows=2)
    assert drawn.touched_share == pytest.approx(np.array([[0, 1, .5, .25], [1, 0, 0, 0]]))
    assert drawn.rate_hz[0] == pytest.approx([0, 10, 5, 2.5])


@given(st.lists(st.lists(st.sampled_from([0, .25, .5, 1]), min_size=4, max_size=4), min_size=1, max_size=9),
       st.integers(1, 12), st.integers(1, 9))
def test_the_mean_of_all_cells_is_the_mean_of_all_memory_whatever_the_resolution(heats, rows, cells):
    drawn = heat_of(series(*heats), cells=cells, rows=rows)
    assert drawn.touched_share.mean() == pytest.approx(np.mean(heats))


def test_fewer_snapshots_than_rows_leave_no_row_empty():
    assert not np.isnan(heat_of(series([1], [0]), cells=1, rows=7).touched_share).any()


def test_a_pause_in_the_recording_is_not_known_and_not_idle():
    drawn = heat_of([snapshot(start_ns=SECOND), snapshot(start_ns=2 * SECOND)], cells=1, rows=11)
    assert np.isnan(drawn.touched_share[:, 0]).tolist() == [False] + 9 * [True] + [False]


@pytest.mark.parametrize("changes", [{"unknown_bytes": 2 * MIB}, {"unclearable_bytes": 2 * MIB}, {"present_bytes": 0}])
def test_memory_that_cannot_be_watched_is_not_known_and_not_idle(changes):
    drawn = heat_of([snapshot(region(BASE, **changes), region(BASE + 2 * MIB))], cells=2, rows=1)
    assert np.isnan(drawn.touched_share[0, 0])
    assert np.isnan(drawn.rate_hz[0, 0])
    assert drawn.touched_share[0, 1] == 0


def test_a_mapping_that_comes_later_is_not_known_before():
    drawn = heat_of([snapshot(region(BASE), start_ns=SECOND),
                     snapshot(region(BASE), touched_region(BASE + 2 * MIB), start_ns=SECOND + SECOND // 10)], 2, 2)
    assert np.isnan(drawn.touched_share[0, 1])
    assert drawn.touched_share[1].tolist() == [0, 1]


def test_what_is_partly_unknown_counts_its_known_part():
    row = region(BASE, unknown_bytes=MIB, touched_bytes=MIB // 2)
    assert heat_of([snapshot(row)], 1, 1).touched_share[0, 0] == pytest.approx(.5)


def test_warm_memory_is_drawn_clearly_brighter_than_idle():
    idle, warm, hot = shade(np.array([0, .01, 1]))
    assert (idle, hot) == (0, 1)
    assert warm > .2
