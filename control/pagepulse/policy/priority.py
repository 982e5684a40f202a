# SPDX-License-Identifier: GPL-2.0-only
"""What comes first under a quota: DAMON's priority, with a weight for the size that counts.

DAMON takes a size weight and ignores it; and it orders page-out and migration alone, so that its hugepage works in the
order of addresses. Here every action has an order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE
from pagepulse.model.snapshot import Snapshot
from pagepulse.policy.limits import Weights

_NEVER = 0.01
"""A page touched in less than this share of the sampling intervals is idle, and grows colder with age, not hotter."""
_HALF_LOG = 32.0
"""An age of 2**31 s, or a size of 2**32 pages, is as much as counts."""

Scores = npt.NDArray[np.float64]


def priorities(snapshot: Snapshot, shares: Scores, weights: Weights, *, hot: bool) -> Scores:
    """How soon each region is to be treated, 0 to 1: the higher the sooner. Shape (n,).

    After damon_hot_score() and damon_cold_score() in mm/damon/ops-common.c: the rate as a share, the age on a
    logarithmic scale of seconds that counts against heat where nothing is touched, weighed. Not rounded as there, so
    regions of nearly the same pattern keep their order; coldness is 1 - heat; a larger region comes first either way.

    Args:
        snapshot: Of the target.
        shares: Share of the sampling intervals in which a page is touched, shape (n,).
        weights: Of size, rate and age.
        hot: The hottest first; else the coldest.
    """
    regions = snapshot.regions
    total = weights.size + weights.rate + weights.age
    if not total:
        return np.zeros(len(regions))
    rate = np.clip(shares, 0, 1)
    heat_of_age = _heat_of_age(snapshot, rate)
    size = np.log2((regions["end"] - regions["start"]) / PAGE + 1) / _HALF_LOG
    if not hot:
        rate, heat_of_age = 1 - rate, 1 - heat_of_age
    scores: Scores = (weights.size * np.minimum(size, 1) + weights.rate * rate + weights.age * heat_of_age) / total
    return scores


def _heat_of_age(snapshot: Snapshot, rate: Scores) -> Scores:
    age_s = np.maximum(snapshot.end_ns - snapshot.regions["since_ns"], 0) / 1e9
    grown = np.minimum(np.log2(age_s + 1), _HALF_LOG)
    heat: Scores = (np.where(rate < _NEVER, -grown, grown) + _HALF_LOG) / (2 * _HALF_LOG)
    return heat
