# SPDX-License-Identifier: GPL-2.0-only
"""Precision, recall and their kin, against counting byte by byte."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.simulate import accuracy
from pagepulse.simulate.accuracy import Accuracy
from pagepulse.simulate.damon_rules import DAMON_REGION
from pagepulse.simulate.truth import TRUTH

SECOND = 1_000_000_000


@st.composite
def cut_up(draw):
    """Ranges in [0, 60), each with a number."""
    borders = sorted(draw(st.sets(st.integers(0, 60), max_size=14)))
    kept = [(a, b) for a, b in pairwise(borders) if draw(st.booleans())]
    return [(a, b, draw(st.integers(0, 9))) for a, b in kept]


def truth(rows, share=1.0):
    result = np.zeros(len(rows), TRUTH)
    for at, (start, end, rate) in enumerate(rows):
        result[at] = (start, end, rate, share, 0)
    return result


def snapshot(rows):
    result = np.zeros(len(rows), DAMON_REGION)
    for at, (start, end, count) in enumerate(rows):
        result[["start", "end", "nr_accesses"]][at] = (start, end, count)
    return result


def by_byte(rows):
    result = np.zeros(60, int)
    for start, end, number in rows:
        result[start:end] += number
    return result


@given(st.lists(cut_up(), min_size=1, max_size=4), st.integers(0, 12), cut_up())
def test_hot_bytes_are_compared_byte_by_byte(snapshots, above, real):
    found = accuracy.hot_ranges([snapshot(rows) for rows in snapshots], above)
    reported = np.sum([by_byte(rows) for rows in snapshots], axis=0) > above
    hot = by_byte([(a, b, 1) for a, b, _ in real]) > 0
    result = accuracy.measure(found, truth(real))
    assert result.found_bytes == reported.sum()
    assert result.hot_bytes == hot.sum()
    assert result.right_bytes == pytest.approx((reported & hot).sum())


def test_a_sparse_truth_counts_by_its_share():
    result = accuracy.measure(np.array([[0, 20]], np.uint64), truth([(10, 30, 1)], share=0.25))
    assert (result.found_bytes, result.hot_bytes, result.right_bytes) == (20, 5, 2.5)
    assert result.precision == 0.125
    assert result.recall == 0.5


def test_nothing_found_has_no_precision_and_nothing_to_find_no_recall():
    nothing = np.zeros((0, 2), np.uint64)
    assert accuracy.measure(nothing, truth([(0, 9, 1)])).precision is None
    assert accuracy.measure(nothing, truth([(0, 9, 1)])).recall == 0
    assert accuracy.measure(nothing, truth([])).recall is None
    assert accuracy.hot_ranges([]).shape == (0, 2)


def test_the_error_of_a_working_set_is_relative_and_signed():
    assert accuracy.wss_error(90, 100) == pytest.approx(-0.1)
    assert accuracy.wss_error(5, 0) is None


def test_recall_counts_as_reached_when_it_holds():
    def seen(*recalls):
        return [(at * SECOND, Accuracy(1, 100, 100 * recall)) for at, recall in enumerate(recalls, start=1)]

    assert accuracy.seconds_to_recall_90(seen(0.2, 0.95, 0.5, 0.9, 1.0), 0) == 4
    assert accuracy.seconds_to_recall_90(seen(0.2, 0.95, 0.5), 0) is None
