# SPDX-License-Identifier: GPL-2.0-only
"""Summary: estimates, in pages of windows, become the rows of a snapshot, in bytes of regions."""

from __future__ import annotations

import numpy as np

from pagepulse.model.estimate import Estimate
from pagepulse.model.memory import PAGE
from pagepulse.model.regions import Rows
from pagepulse.model.snapshot import REGION
from pagepulse.model.structure import Scale

_BUSY_SHARE = 0.01  # of its pages are touched in an interval
_SURELY_FOUND = 4  # drawn windows: some would have hit it, wherever they were drawn


def rows_of(regions: Rows, result: Estimate, scale: Scale) -> Rows:
    """What a snapshot tells of each region.

    Args:
        regions: dtype regions.STATE, shape (n,).
        result: Of each region.
        scale: Of each region.

    Returns:
        dtype snapshot.REGION, shape (n,), but for the mapping.
    """
    rows = np.zeros(len(regions), REGION)
    for column in ("start", "end", "since_ns"):
        rows[column] = regions[column]
    for column in ("nr_accesses", "nr_accesses_error", "rate_hz"):
        rows[column] = getattr(result, column)
    for column in ("present", "touched", "unknown", "refused"):
        name = "unclearable_bytes" if column == "refused" else f"{column}_bytes"
        rows[name] = np.rint(getattr(result, column) * scale.own * PAGE).astype(np.uint64)
    for name in ("present_bytes", "unknown_bytes"):
        rows[name] += np.rint(scale.bare).astype(np.uint64)
    return rows


def working_set_bytes(regions: Rows, result: Estimate, scale: Scale) -> int:
    """What the target touched in the interval.

    Where windows lie apart, most of what is small was found by none: to add up what was found would lose it. A run of
    busy regions that only a few of the drawn windows hit counts as much as these stand for, which is right in the mean
    (D. G. Horvitz and D. J. Thompson, 1952); a longer one was sure to be found, and has its own size.

    Args:
        regions: dtype regions.STATE, shape (n,).
        result: Of each region.
        scale: Of each region.
    """
    own = result.touched * scale.own
    if np.isinf(scale.hits).all():
        return int(np.rint(own.sum() * PAGE))
    busy = result.touched > _BUSY_SHARE * result.present
    begins = np.ones(len(regions), bool)
    begins[1:] = (busy[1:] != busy[:-1]) | (regions["start"][1:] != regions["end"][:-1])
    first = np.flatnonzero(begins)
    own, drawn, hits = (np.add.reduceat(column, first) for column in (own, result.touched * scale.drawn, scale.hits))
    return int(np.rint(np.where(hits < _SURELY_FOUND, drawn, own).sum() * PAGE))
