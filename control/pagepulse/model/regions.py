# SPDX-License-Identifier: GPL-2.0-only
"""Regions: contiguous ranges of the target's addresses that are accessed alike.

Regions tile the target's *areas* (its mappings; adjacent ones of one name joined) without gap or overlap. They are
rows of a structured array, sorted by start; every function returns a new array and leaves the old one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagepulse.model.evidence import WITNESS, disagreement, rate_log_likelihood
from pagepulse.model.memory import Addresses, Mapping
from pagepulse.model.probe import Outcome

STATE = np.dtype([
    ("start", "<u8"),
    ("end", "<u8"),
    ("area", "<i8"),  # index of its area
    ("since_ns", "<i8"),  # when its pattern began
    ("reference", "<f8"),  # touched share when it began
    ("probed_ns", "<i8"),  # last probe of any of its windows; 0: never
    ("hits", "<f8"),  # probed pages that were touched within an aggregation interval (older probes count less)
    ("quick_hits", "<f8"),  # ... within the first sampling interval
    ("usual_hits", "<f8"),  # ... within the aggregation interval that was asked for
    ("trials", "<f8"),  # probed pages
    ("exposure_ns", "<f8"),  # time for which probed pages stayed untouched, summed over pages
    ("wakes", "<f8"),  # watched pages that were touched (older ones count less)
    ("watch_ns", "<f8"),  # time for which watched pages stayed untouched, summed over pages
])

OF_PROBES = ("hits", "quick_hits", "usual_hits", "trials", "exposure_ns")
EVIDENCE = (*OF_PROBES, "wakes", "watch_ns")
"""Columns that add up when regions merge."""

AREA = np.dtype([("start", "<u8"), ("end", "<u8"), ("mapping", "<i8")])

Rows = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]

IDLE_SHARE, ACTIVE_SHARE = 0.002, 0.01
"""A region is idle while a smaller share of it is touched, active above the other, and what it was in between."""

MERGE_BELOW = 6.0
"""G (see evidence.py) below which two neighbours are taken for alike: 5.99 is chi squared's 95 % for two shares."""

CHANGED_ABOVE = 10.8
"""G above which a probe contradicts the older ones, which are then forgotten: one case of a thousand."""

_HALF_LIFE_NS = 10_000_000_000  # older probes count half after this time
_NEARLY_WHOLE, _PART_TRIALS = 0.75, 64.0  # a smaller part of a region takes over so many of its trials at most


def areas_of(mappings: Sequence[Mapping], limit: int) -> Rows:
    """What regions tile: the mappings, adjacent ones of one name joined.

    Args:
        mappings: Sorted by address.
        limit: At most so many areas: above it, those with the smallest gaps between them are joined, gaps included.

    Returns:
        dtype AREA; `mapping` is the index of the first mapping of the area.
    """
    if not mappings:
        return np.empty(0, AREA)
    starts = np.array([m.start for m in mappings], np.uint64)
    ends = np.array([m.end for m in mappings], np.uint64)
    same_name = np.array([a.name == b.name for a, b in pairwise(mappings)], bool)
    gaps = starts[1:] - ends[:-1]
    joined = (gaps == 0) & same_name
    excess = len(mappings) - int(joined.sum()) - limit
    if excess > 0:
        apart = np.flatnonzero(~joined)
        joined[apart[np.argsort(gaps[apart], kind="stable")[:excess]]] = True
    first = np.concatenate(([True], ~joined))
    areas = np.empty(int(first.sum()), AREA)
    areas["start"] = starts[first]
    areas["end"] = ends[np.concatenate((~joined, [True]))]
    areas["mapping"] = np.flatnonzero(first)
    return areas


def fit(regions: Rows, areas: Rows, now_ns: int) -> Rows:
    """Regions that tile the areas: old ones where they still lie in one, new ones where memory is new."""
    if not len(areas):
        return np.empty(0, STATE)
    points = np.unique(np.concatenate((areas["start"], areas["end"], regions["start"], regions["end"])))
    start, end = points[:-1], points[1:]
    area = np.searchsorted(areas["start"], start, side="right") - 1
    inside = (area >= 0) & (start < areas["end"][area])
    start, end, area = start[inside], end[inside], area[inside]
    fitted = np.zeros(len(start), STATE)
    fitted["since_ns"] = now_ns
    if len(regions):
        old = np.searchsorted(regions["start"], start, side="right") - 1
        kept = (old >= 0) & (start < regions["end"][old])
        fitted[kept] = regions[old[kept]]
    fitted["start"], fitted["end"], fitted["area"] = start, end, area
    return fitted


def learn(regions: Rows, owner: npt.NDArray[np.intp], outcome: Outcome, weight: npt.NDArray[np.float64],
          now_ns: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Add what a probe found to the evidence of its regions; forget what it contradicts.

    Args:
        regions: dtype STATE.
        owner: Region of each probed window, shape (n,).
        outcome: Of each probed window.
        weight: How many independent witnesses a page of each window is.
        now_ns: When the probe ended.

    Returns:
        The regions, and which of them were contradicted.
    """
    def summed(values: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(owner, values * weight, len(regions)).astype(np.float64)

    new = {column: summed(getattr(outcome, column)) for column in OF_PROBES}
    probed = new["trials"] > 0
    changed = WITNESS * disagreement(new["hits"], new["trials"], regions["hits"], regions["trials"]) > CHANGED_ABOVE
    fade = 0.5 ** ((now_ns - regions["probed_ns"]) / _HALF_LIFE_NS)
    keep = np.where(changed, 0.0, np.where(probed, fade, 1.0))
    learnt = regions.copy()
    for column, values in new.items():
        learnt[column] = regions[column] * keep + values
    learnt["probed_ns"][probed] = now_ns
    return learnt, changed


def split_at(regions: Rows, points: Addresses) -> Rows:
    """Cut regions at these addresses. Both parts keep age and pattern; the evidence is shared by size."""
    if not len(points) or not len(regions):
        return regions
    owner = np.searchsorted(regions["start"], points, side="right") - 1
    inside = (owner >= 0) & (points > regions["start"][owner]) & (points < regions["end"][owner])
    starts = np.unique(np.concatenate((regions["start"], points[inside])))
    owner = np.searchsorted(regions["start"], starts, side="right") - 1
    parts = regions[owner].copy()
    parts["start"] = starts
    last = np.concatenate((owner[1:] != owner[:-1], [True]))
    parts["end"] = np.where(last, parts["end"], np.concatenate((starts[1:], [0])).astype(np.uint64))
    share = (parts["end"] - parts["start"]) / (regions["end"] - regions["start"])[owner]
    for column in EVIDENCE:
        parts[column] *= share
    return parts


def doubted(parts: Rows, wholes: Rows) -> Rows:
    """What probes found in a region says little of parts that it was cut into because they are not alike.

    Args:
        parts: dtype STATE, shape (n,).
        wholes: What they were cut from, or are.
    """
    whole = np.searchsorted(wholes["start"], parts["start"], side="right") - 1
    share = (parts["end"] - parts["start"]) / (wholes["end"] - wholes["start"])[whole]
    kept = np.where(share < _NEARLY_WHOLE, np.minimum(_PART_TRIALS / np.maximum(parts["trials"], 1), 1), 1.0)
    result = parts.copy()
    for column in OF_PROBES:
        result[column] *= kept
    return result


def split_to_minimum(regions: Rows, minimum: int, grain: int) -> Rows:
    """Halve the largest region until there are `minimum`; a region of one grain (bytes) is not cut."""
    while len(regions) < minimum:
        sizes = regions["end"] - regions["start"]
        largest = int(np.argmax(sizes)) if len(regions) else 0
        if not len(regions) or sizes[largest] < 2 * grain:
            break
        middle = int(regions["start"][largest] + sizes[largest] // np.uint64(2)) // grain * grain
        if middle <= regions["start"][largest]:
            middle += grain
        regions = split_at(regions, np.array([middle], np.uint64))
    return regions


class Seen(NamedTuple):
    """What watched pages of each region showed, scaled to independent witnesses: shape (n,) each."""

    touches: Floats
    exposure: Floats
    """Time for which they were watched."""
    least_touches: Floats
    """The same of pages whose rate is only bounded from below: nearly all of their window was touched at some time."""
    least_exposure: Floats

    @classmethod
    def of(cls, touches: Floats, exposure: Floats) -> Self:
        """Of pages whose rate is known."""
        return cls(touches, exposure, np.zeros(len(touches)), np.zeros(len(touches)))

    def joined(self, first: npt.NDArray[np.intp]) -> Self:
        """The same of merged regions, each of which begins at one of these."""
        return type(self)(*(np.add.reduceat(column, first) for column in self))


def merge(regions: Rows, seen: Seen, now_ns: int, minimum: int, maximum: int) -> Rows:
    """Merge neighbours that cannot be told apart; then, above `maximum`, those that differ least.

    Args:
        regions: dtype STATE.
        seen: Of each region.
        now_ns: Ages are compared at this time.
        minimum: Never fewer regions than this.
        maximum: Never more, as far as neighbours in one area allow.
    """
    threshold = MERGE_BELOW
    while len(regions) > minimum:
        joins = _joins(regions, seen, now_ns, threshold)
        joins[np.cumsum(joins) > len(regions) - minimum] = False
        if joins.any():
            first = np.flatnonzero(np.concatenate(([True], ~joins)))
            regions, seen = _joined(regions, first), seen.joined(first)
        elif len(regions) <= maximum or threshold > 1e12:
            break
        else:
            threshold *= 4
        if threshold > MERGE_BELOW and len(regions) <= maximum:
            break
    return regions


def _joins(regions: Rows, seen: Seen, now_ns: int, threshold: float) -> npt.NDArray[np.bool_]:
    """Which regions merge into their predecessor, shape (n - 1,).

    Only every second of a run, so that small differences cannot add up along it unseen.
    """
    left, right = regions[:-1], regions[1:]
    ages = now_ns - regions["since_ns"] + 1_000_000_000
    same_age = (2 * ages[:-1] >= ages[1:]) & (2 * ages[1:] >= ages[:-1])
    # What woke a moment ago, and is as old as before until this interval is told of, is not like what it lies beside.
    was_idle, was_active = regions["reference"] < IDLE_SHARE, regions["reference"] > ACTIVE_SHARE
    same_age &= ~(was_idle[:-1] & was_active[1:] | was_active[:-1] & was_idle[1:])
    # A region that was never watched may be anything: it waits for its first clear.
    known = seen.exposure + seen.least_exposure > 0
    alike = _difference(seen) < threshold
    alike &= (same_age & (known[:-1] == known[1:])) | (threshold > MERGE_BELOW)
    alike &= (left["area"] == right["area"]) & (left["end"] == right["start"])
    run = np.arange(len(alike)) - np.maximum.accumulate(np.where(alike, -1, np.arange(len(alike))))
    chosen: npt.NDArray[np.bool_] = alike & (run % 2 == 1)
    return chosen


def _difference(seen: Seen) -> Floats:
    """G of each region and the next, shape (n - 1,): of their rates, and of each one's rate and the other's bound."""
    touches, exposure, least_touches, least_exposure = seen
    difference = disagreement(touches[:-1], exposure[:-1], touches[1:], exposure[1:], rate_log_likelihood)
    for this, other in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
        # A rate that is higher than the bound keeps it, and does not differ from it.
        enough = least_touches[this] * exposure[other] / np.maximum(touches[other], 1e-9)
        kept_to = np.minimum(least_exposure[this], enough)
        difference += disagreement(least_touches[this], kept_to, touches[other], exposure[other], rate_log_likelihood)
    return difference


def _joined(regions: Rows, first: npt.NDArray[np.intp]) -> Rows:
    merged = regions[first].copy()
    sizes = (regions["end"] - regions["start"]).astype(np.float64)
    total = np.add.reduceat(sizes, first)
    merged["end"] = regions["end"][np.concatenate((first[1:], [len(regions)])) - 1]
    base = int(regions["since_ns"].min())
    merged["since_ns"] = base + (np.add.reduceat((regions["since_ns"] - base) * sizes, first) / total).astype(np.int64)
    merged["reference"] = np.add.reduceat(regions["reference"] * sizes, first) / total
    merged["probed_ns"] = np.maximum.reduceat(regions["probed_ns"], first)
    for column in EVIDENCE:
        merged[column] = np.add.reduceat(regions[column], first)
    return merged
