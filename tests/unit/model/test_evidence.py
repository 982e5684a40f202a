# SPDX-License-Identifier: GPL-2.0-only
"""Likelihood ratios: zero for what is alike, large for what is not, and the cut where windows disagree."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.model.evidence import (
    Sums,
    disagreement,
    island_gains,
    log_likelihood,
    rate_log_likelihood,
    share_error,
    split_gains,
)


def one(*numbers):
    return [np.array([float(number)]) for number in numbers]


@given(st.integers(0, 200), st.integers(1, 200))
def test_log_likelihood_is_the_binomial_one(hits, more):
    trials = hits + more
    share = hits / trials
    expected = (hits * math.log(share) if hits else 0) + more * math.log(1 - share)

    assert log_likelihood(*one(hits, trials))[0] == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_disagreement_is_never_negative_and_zero_for_an_empty_sample(a, b, c, d):
    assert disagreement(*one(a, a + b, c, c + d))[0] >= 0
    assert disagreement(*one(a, a + b, 0, 0))[0] == pytest.approx(0, abs=1e-6)


def test_equal_shares_agree_and_opposite_ones_do_not():
    assert disagreement(*one(10, 100, 20, 200))[0] == pytest.approx(0, abs=1e-9)
    assert disagreement(*one(0, 64, 64, 64))[0] == pytest.approx(2 * 128 * math.log(2))


def test_equal_rates_agree_however_long_each_was_watched():
    assert disagreement(*one(4, 1e9, 40, 1e10), rate_log_likelihood)[0] == pytest.approx(0, abs=1e-6)
    assert disagreement(*one(0, 1e10, 40, 1e8), rate_log_likelihood)[0] > 100


@given(st.integers(1, 30), st.integers(1, 30))
def test_the_best_cut_is_where_windows_change(cold, hot):
    hits = np.concatenate((np.zeros(cold), np.full(hot, 64.0)))
    trials = np.full(cold + hot, 64.0)
    gains = split_gains(Sums.of(hits, trials, np.array([0]), log_likelihood))

    assert int(np.argmax(gains)) == cold - 1


def test_regions_are_cut_apart_from_each_other():
    hits = np.array([0.0, 64, 64, 64, 0, 0])
    gains = split_gains(Sums.of(hits, np.full(6, 64.0), np.array([0, 3]), log_likelihood))

    assert gains[[2, 5]] == pytest.approx([0, 0], abs=1e-6)
    assert np.argmax(gains[:3]) == 0
    assert np.argmax(gains[3:]) == 0


@given(st.integers(0, 50), st.integers(1, 4), st.integers(5, 50))  # a smaller rest would be an island itself
def test_an_island_is_found_where_it_is_and_as_large_as_it_is(before, length, after):
    touches = np.concatenate((np.zeros(before), np.full(length, 4.0), np.zeros(after)))
    exposure = np.concatenate((np.full(before, 100.0), np.full(length, 0.04), np.full(after, 100.0)))
    sums = Sums.of(touches, exposure, np.array([0]), rate_log_likelihood)
    gains = {size: island_gains(sums, size) for size in (1, 2, 3, 4)}
    best = max(gains, key=lambda size: gains[size].max())
    assert (best, int(np.argmax(gains[best]))) == (length, before)


def test_an_island_reaches_into_no_other_region_and_is_none_if_it_is_all():
    touches, exposure = np.array([4.0, 4, 4, 0, 0]), np.array([0.1, 0.1, 0.1, 9, 9])
    gains = island_gains(Sums.of(touches, exposure, np.array([0, 3]), rate_log_likelihood), 3)
    assert gains.tolist() == [0] * 5


def test_the_error_of_a_share_falls_with_what_was_seen_and_is_never_nothing():
    errors = share_error(np.array([0.0, 0, 0, 5000]), np.array([0.0, 64, 64_000, 10_000]))
    assert errors[0] == pytest.approx(0.25)
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[3] == pytest.approx(math.sqrt(0.25 / (10_000 / 16)), rel=0.01)
