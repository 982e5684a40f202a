# SPDX-License-Identifier: GPL-2.0-only
"""Estimate: from what is known of windows and regions to working set, nr_accesses, rate and age of each region.

Rate: where touches come independently, the maximum-likelihood estimate from first-touch times, some of them censored
(the page was not touched before the watching ended), is touches divided by the time for which pages were watched
untouched (B. Epstein and M. Sobel, "Life testing", 1953).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.regions import Rows
from pagepulse.model.windows import Indices, Windows

Floats = npt.NDArray[np.float64]

AGE_TOLERANCE = 0.1
"""A pattern lasts while its touched share stays this near: DAMON's tenth of the largest nr_accesses (core.c)."""

_IDLE_SHARE, _ACTIVE_SHARE = 0.002, 0.01  # a region is idle below, active above, and what it was in between
_WATCH_MEMORY_NS = 10e9  # wakes of watched pages count half after ten seconds


class Estimate(NamedTuple):
    """Each region in one aggregation interval: shape (n,) each; sizes in pages of the windows."""

    present: Floats
    dirty: Floats
    unknown: Floats
    refused: Floats
    touched: Floats
    """Estimated to be touched in the interval."""
    nr_accesses: Floats
    """Expected sampling intervals, out of those in the interval, in which a page is touched."""
    rate_hz: Floats


def estimate(regions: Rows, windows: Windows, owner: Indices, woken: Floats, max_nr_accesses: float,
             usual_nr_accesses: float, now_ns: int) -> tuple[Rows, Estimate]:
    """What each region did in the interval that ends now.

    Args:
        regions: dtype STATE, shape (n,).
        windows: All windows, in address order.
        owner: Region of each window.
        woken: Shape (2, n): watched pages found touched in this interval; and those of them expected to have been
            touched within it, not before.
        max_nr_accesses: Sampling intervals in this aggregation interval.
        usual_nr_accesses: Sampling intervals in the aggregation interval that was asked for: what ages compare.
        now_ns: Now.

    Returns:
        The regions with their ages brought up to date, and the estimate.
    """
    edges = np.searchsorted(owner, np.arange(len(regions) + 1))

    def pages(masks: npt.NDArray[np.uint64]) -> Floats:
        running = np.concatenate(([0], np.cumsum(np.bitwise_count(masks), dtype=np.int64)))
        sums: Floats = (running[edges[1:]] - running[edges[:-1]]).astype(np.float64)
        return sums

    present, refused = pages(windows.present), pages(windows.refused)
    dirty, unknown = pages(windows.dirty()), pages(windows.unknown())
    trials = np.maximum(regions["trials"], 1e-9)
    never_probed = regions["trials"] <= 0
    # Memory that has just been touched and was not probed yet: taken for active until its probe says otherwise.
    share_of_dirty = np.where(never_probed, 1.0, regions["hits"] / trials)
    quick_share = np.where(never_probed, 1 / max_nr_accesses, regions["quick_hits"] / trials)
    before = np.maximum(dirty - woken[0], 0)
    touched = before * share_of_dirty + woken[1]
    known_pages = np.maximum(present - refused, 1)
    rate = (dirty * regions["hits"] / np.maximum(regions["exposure_ns"], 1)
            + np.maximum(known_pages - dirty, 0) * regions["wakes"] / np.maximum(regions["watch_ns"], 1)) * 1e9
    result = Estimate(present, dirty, unknown, refused, touched,
                      max_nr_accesses * before * quick_share / known_pages, rate / known_pages)
    # The share that is touched grows with the interval: a pattern must not seem to change because the interval did.
    share = 1 - (1 - np.clip(touched / known_pages, 0, 1)) ** (usual_nr_accesses / max_nr_accesses)
    aged, changed = _aged(regions, share, now_ns)
    _date_idleness(aged, np.flatnonzero(changed & (dirty == 0) & (present > 0)), windows, edges)
    return aged, result


def _aged(regions: Rows, share: Floats, now_ns: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Start a new age where the touched share left its pattern; let the memory of old wakes fade."""
    aged = regions.copy()
    reference = regions["reference"]
    spread = np.sqrt(share * np.clip(1 - share, 0, 1) / np.maximum(regions["trials"], 1))
    woke = (share > _ACTIVE_SHARE) & (reference < _IDLE_SHARE)
    slept = (share < _IDLE_SHARE) & (reference > _ACTIVE_SHARE)
    changed = woke | slept | (np.abs(share - reference) > AGE_TOLERANCE + 2 * spread)
    aged["since_ns"][changed] = now_ns
    aged["reference"][changed] = share[changed]
    full = aged["watch_ns"] > _WATCH_MEMORY_NS * 65536
    aged["wakes"][full] *= 0.5
    aged["watch_ns"][full] *= 0.5
    return aged, changed


def _date_idleness(regions: Rows, which: Indices, windows: Windows, edges: Indices) -> None:
    """Of regions found to be wholly idle it is known since when: since the last of their windows was cleared."""
    for region in which:
        since_ns = windows.cleared_ns[edges[region] : edges[region + 1]].max()
        regions["since_ns"][region] = min(regions["since_ns"][region], since_ns)
