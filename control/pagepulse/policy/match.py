# SPDX-License-Identifier: GPL-2.0-only
"""Which regions of a snapshot show a scheme's access pattern.

This is a statement about regions, which are averages. A region that matches may hold pages that are in use; whoever
acts on it asks each page again first (`decide.cold_runs`). A region that does not match is left alone as a whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.snapshot import Snapshot
from pagepulse.policy.fields import Rate
from pagepulse.policy.pattern import RateRange
from pagepulse.policy.scheme import Scheme

_ROUNDING = 1e-6
"""nr_accesses and rate_hz are single precision: this much of a bound is noise."""

Mask = npt.NDArray[np.bool_]


def matches(scheme: Scheme, snapshot: Snapshot) -> Mask:
    """Regions that show the scheme's pattern.

    - size is the region's range of addresses, as in DAMON, whatever is resident of it;
    - rate in % is nr_accesses / max_nr_accesses, in Hz rate_hz, in samples nr_accesses: all are averages over the
      resident pages, so one busy page in 2 MiB of idle ones is a rate above 0%. DAMON counts that as 0, for it rounds
      down to whole sampling intervals; give a small bound such as 5% for what DAMON calls 0;
    - age is the time since the region's pattern began;
    - bounds are included, and all three have to hold.

    A region never matches, whatever the pattern, if none of it is resident, or if nothing is known of what is: memory
    whose accessed bit was never seen clear, or cannot be cleared, is neither hot nor cold. For willneed alone a region
    of which nothing is resident is one that is not touched.

    Returns:
        Shape (n,) for the n regions of the snapshot.
    """
    regions = snapshot.regions
    pattern = scheme.access_pattern
    known = regions["unknown_bytes"] + regions["unclearable_bytes"] < regions["present_bytes"]
    if scheme.action == "willneed":
        known |= regions["present_bytes"] == 0
    size = regions["end"] - regions["start"]
    age_ns = snapshot.end_ns - regions["since_ns"]
    mask: Mask = (
        known & _within(size, pattern.size.min_bytes, pattern.size.max_bytes)
        & _within(age_ns, pattern.age.min_ns, pattern.age.max_ns)
        & _rate_within(snapshot, pattern.rate))
    return mask


def shares(snapshot: Snapshot) -> npt.NDArray[np.float64]:
    """Share of the sampling intervals in which a page of each region is touched, 0 to 1. Shape (n,)."""
    return snapshot.regions["nr_accesses"].astype(np.float64) / snapshot.max_nr_accesses


def _within(values: npt.NDArray[np.integer], lower: int, upper: int | None) -> Mask:
    inside: Mask = values >= lower
    return inside if upper is None else inside & (values <= upper)


def _rate_within(snapshot: Snapshot, bounds: RateRange) -> Mask:
    # The two bounds may speak of different quantities: "at least 1%, at most 50 Hz".
    values, lower = _quantity(snapshot, bounds.min)
    inside: Mask = values >= lower - _ROUNDING
    if bounds.max is None:
        return inside
    values, upper = _quantity(snapshot, bounds.max)
    return inside & (values <= upper + _ROUNDING)


def _quantity(snapshot: Snapshot, bound: Rate) -> tuple[npt.NDArray[np.float64], float]:
    if bound.hz is not None:
        return snapshot.regions["rate_hz"].astype(np.float64), bound.hz
    if bound.nr_accesses is not None:
        return snapshot.regions["nr_accesses"].astype(np.float64), bound.nr_accesses
    return shares(snapshot), bound.share or 0.0
