# SPDX-License-Identifier: GPL-2.0-only
"""Paired comparison: the same program, in the same run, with and without something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workload import Event

_RESAMPLES = 10_000


class Change(NamedTuple):
    """Mean change of paired measurements with their 95 % confidence interval, as fractions of 1."""

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        """`-0.21 % (95 % of -0.50 to +0.07 %, 20 pairs)`."""
        return (f"{self.mean * 100:+.2f} % (95 % confidence: {self.low * 100:+.2f} to {self.high * 100:+.2f} %, "
                f"{self.pairs} pairs)")


def brief(change: Change) -> str:
    """`-0.21 % (-0.50 to +0.07)`: for tables that say what the interval is."""
    return f"{change.mean * 100:+.2f} % ({change.low * 100:+.2f} to {change.high * 100:+.2f})"


def cell(change: Change | None) -> str:
    """The same for a table that has rows of one pair, and of what is not defined."""
    if change is None:
        return "-"
    return brief(change) if change.pairs > 1 else f"{change.mean * 100:+.2f} %"


def change_of(without: Sequence[float | None], with_it: Sequence[float | None]) -> Change | None:
    """`paired_change`; of a single pair its ratio, without an interval; None where something is not defined."""
    before, after = ([one for one in of if one is not None] for of in (without, with_it))
    if len(before) < len(without) or len(after) < len(with_it):
        return None
    if len(before) < 2:
        ratio = after[0] / before[0] - 1
        return Change(ratio, ratio, ratio, 1)
    return paired_change(before, after)


def paired_change(without: Sequence[float], with_it: Sequence[float], seed: int = 1) -> Change:
    """How much `with_it` differs from `without`, pair by pair; the interval is a percentile bootstrap over pairs.

    The mean is that of the logarithms of the ratios, so that noise alone moves it neither way: of plain ratios, a slow
    `without` weighs more than a slow `with_it`, and a disturbed machine would seem to be sped up.

    Raises:
        ValueError: The two are not of equal length, there are fewer than two pairs, or not all of it is above 0.
    """
    before, after = np.asarray(without, float), np.asarray(with_it, float)
    if before.shape != after.shape or len(before) < 2:
        raise ValueError("a paired comparison needs at least two whole pairs")
    if min(before.min(), after.min()) <= 0:
        raise ValueError("a paired comparison needs amounts above 0")
    logs: npt.NDArray[np.float64] = np.log(after / before)
    picks = np.random.default_rng(seed).integers(len(logs), size=(_RESAMPLES, len(logs)))
    low, high = np.percentile(logs[picks].mean(axis=1), (2.5, 97.5))
    return Change(*(float(np.expm1(one)) for one in (logs.mean(), low, high)), len(logs))


def mean_of(changes: Sequence[Change]) -> Change:
    """The mean over several programs: their intervals are of independent runs, so that half-widths add as squares."""
    mean = float(np.mean([change.mean for change in changes]))
    below, above = (float(np.sqrt(sum((change[place] - change.mean) ** 2 for change in changes))) / len(changes)
                    for place in (1, 2))
    return Change(mean, mean - below, mean + above, min(change.pairs for change in changes))


def is_above(change: Change, least: float) -> bool | None:
    """Whether a change is above a goal, as far as its interval tells; None: that holds the goal itself."""
    return None if change.low <= least < change.high else change.low > least


def rate_between(slices: Sequence[Event], start_ns: int, end_ns: int, per: str = "") -> float:
    """Operations a second over the slices that lie wholly between two times.

    Args:
        slices: What a workload said.
        start_ns: CLOCK_MONOTONIC.
        end_ns: CLOCK_MONOTONIC.
        per: Name of the time to divide by, such as `busy_ns`; the slices' own length without it.

    Raises:
        ValueError: There is no such slice.
    """
    inside = [part for part in slices if start_ns <= part["start_ns"] and part["end_ns"] <= end_ns]
    spent_ns = sum(part[per] if per else part["end_ns"] - part["start_ns"] for part in inside)
    if not spent_ns:
        raise ValueError("the workload said nothing of this time")
    return float(sum(part["operations"] for part in inside)) * 1e9 / float(spent_ns)


def rates_in_parts(slices: Sequence[Event], start_ns: int, end_ns: int, parts: int, per: str = "") -> list[float]:
    """`rate_between` of each of so many equal parts."""
    edges = [start_ns + (end_ns - start_ns) * part // parts for part in range(parts + 1)]
    return [rate_between(slices, first_ns, last_ns, per) for first_ns, last_ns in pairwise(edges)]
