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

from pagepulse.model.evidence import share_error
from pagepulse.model.observation import Counts, Indices
from pagepulse.model.regions import ACTIVE_SHARE, IDLE_SHARE, Rows
from pagepulse.model.windows import Windows

Floats = npt.NDArray[np.float64]

AGE_TOLERANCE = 0.1
"""A pattern lasts while its touched share stays this near: DAMON's tenth of the largest nr_accesses (core.c)."""

_PRIOR_PAGES = 4.0  # what is known of a region before its probes counts as much as so many probed pages
_ONE_WAKE, _SURELY_ACTIVE_NS = 1.0, 10_000_000.0

_HALF_LIFE_NS = 4e9  # wakes of watched pages count half after this time


class Estimate(NamedTuple):
    """Each region in one aggregation interval: shape (n,) each; sizes in pages."""

    present: Floats
    dirty: Floats
    """Touched since their last clear."""
    unknown: Floats
    refused: Floats
    touched: Floats
    """Estimated to be touched in the interval."""
    nr_accesses: Floats
    """Expected sampling intervals, out of those in the interval, in which a page is touched, at its rate as of now: for
    a page that woke in the middle of it, too."""
    nr_accesses_error: Floats
    """Its standard error."""
    rate_hz: Floats


def estimate(regions: Rows, windows: Windows, edges: Indices, woken: Floats, max_nr_accesses: float,
             interval_ns: int, usual_interval_ns: int, now_ns: int) -> tuple[Rows, Estimate]:
    """What each region did in the interval that ends now.

    Args:
        regions: dtype STATE, shape (n,).
        windows: All windows, in address order.
        edges: First window of each region, and how many windows there are.
        woken: Shape (2, n): watched pages that were found touched in this interval, and the time for which they and
            all others that were read had been watched (see watch_time_ns); both by the windows' weights.
        max_nr_accesses: Sampling intervals in this aggregation interval.
        interval_ns: This aggregation interval.
        usual_interval_ns: The aggregation interval that was asked for: what ages compare.
        now_ns: Now.

    Returns:
        The regions with their ages brought up to date, and the estimate.
    """
    pages = windows.tally.by_region(edges)
    present, refused, unknown = pages.present, pages.refused, pages.unknown
    dirty = pages.dirty - unknown
    known = np.maximum(present - refused - unknown, 0)
    watched, divisor = np.maximum(known - dirty, 0), np.maximum(known, 1)
    rate = _rate_of_dirty(regions)
    trials = regions["trials"] + _PRIOR_PAGES
    share_of_dirty = (regions["hits"] + _PRIOR_PAGES * -np.expm1(-rate * interval_ns)) / trials
    quick_share = (regions["quick_hits"] + _PRIOR_PAGES * -np.expm1(-rate * interval_ns / max_nr_accesses)) / trials
    usual_share = (regions["usual_hits"] + _PRIOR_PAGES * -np.expm1(-rate * usual_interval_ns)) / trials
    before = np.maximum(dirty - woken[0], 0)
    # Of the watched pages only some were read in this interval: the others woke at the rate at which these did.
    wake_rate = woken[0] / np.maximum(woken[1], 1)
    share = (before * share_of_dirty + (watched + woken[0]) * -np.expm1(-wake_rate * interval_ns)) / divisor
    touched = np.minimum(share, 1) * (known + unknown)  # what is unknown is taken to be as what is known around it
    rate_hz = 1e9 * (dirty * rate + watched * regions["wakes"] / np.maximum(regions["watch_ns"], 1)) / divisor
    new_share = np.minimum(woken[0], dirty) / divisor
    error = _nr_accesses_error(quick_share, regions["trials"], before / divisor, new_share, unknown, known + unknown)
    result = Estimate(present, dirty, unknown, refused, touched,
                      max_nr_accesses * dirty * quick_share / divisor, max_nr_accesses * error, rate_hz)
    # The share that is touched grows with the interval: a pattern must not seem to change because the interval did.
    usual = (before * usual_share + (watched + woken[0]) * -np.expm1(-wake_rate * usual_interval_ns)) / divisor
    aged, changed = _aged(regions, np.clip(usual, 0, 1), now_ns)
    for column in ("wakes", "watch_ns"):
        aged[column] *= 0.5 ** (interval_ns / _HALF_LIFE_NS)
    _date_idleness(aged, np.flatnonzero(changed & (dirty == 0) & (present > 0)), windows, edges)
    return aged, result


def _nr_accesses_error(quick_share: Floats, trials: Floats, dirty_share: Floats, new_share: Floats, unknown: Floats,
                       clearable: Floats) -> Floats:
    """Standard error of nr_accesses, as a fraction of the largest possible.

    Of the dirty pages a share is touched within one sampling interval: `share_error` has its error. Of those that woke
    in this interval only that is known: how often they are touched is taken from their region, and may as well be off
    by as much. A page that is unknown may be anything: uniform from 0 to the largest, whose standard deviation is
    1 / sqrt(12). Independent errors add as squares.
    """
    of_dirty = np.hypot(dirty_share * share_error(quick_share * trials, trials), new_share * quick_share)
    of_unknown = unknown / np.maximum(clearable, 1) / np.sqrt(12)
    error: Floats = np.where(clearable > 0, np.hypot(of_dirty, of_unknown), 0.0)
    return error


def watch_time_ns(watched: Counts, woken: Counts, span_ns: Counts) -> Floats:
    """Time for which watched pages stayed untouched, summed over pages, for windows read once after a span.

    All that is seen is which share f of the pages woke up. Their rate is then most likely -ln(1 - f) / span; where all
    woke, half a page is taken for asleep. The time follows from the rate: woken / rate.

    Args:
        watched: Pages, shape (n,).
        woken: Of these, shape (n,).
        span_ns: Since the read before, shape (n,).
    """
    time_ns: Floats = (watched * span_ns).astype(np.float64)
    some = np.flatnonzero(woken)
    if len(some):
        watched, woken = watched[some], woken[some]
        share = np.minimum(woken / np.maximum(watched, 1), 1 - 0.5 / np.maximum(watched, 1))
        time_ns[some] = woken * span_ns[some] / np.maximum(-np.log1p(-share), 1e-12)
    return time_ns


def _rate_of_dirty(regions: Rows) -> Floats:
    """Touches a nanosecond of a dirty page: from probes, and while these are few, from when watched pages woke up.

    Memory that was neither probed nor seen to wake, but is dirty, was touched moments ago, or is unknown: it is taken
    for active until its probe says otherwise.
    """
    wakes = regions["wakes"] + _ONE_WAKE
    prior = wakes / (regions["watch_ns"] + _ONE_WAKE * _SURELY_ACTIVE_NS)
    rate: Floats = (regions["hits"] + _PRIOR_PAGES) / (regions["exposure_ns"] + _PRIOR_PAGES / prior)
    return rate


def _aged(regions: Rows, share: Floats, now_ns: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Start a new age where the touched share left its pattern."""
    aged = regions.copy()
    reference = regions["reference"]
    spread = np.sqrt(share * np.clip(1 - share, 0, 1) / np.maximum(regions["trials"], 1))
    woke = (share > ACTIVE_SHARE) & (reference < IDLE_SHARE)
    slept = (share < IDLE_SHARE) & (reference > ACTIVE_SHARE)
    changed = woke | slept | (np.abs(share - reference) > AGE_TOLERANCE + 2 * spread)
    aged["since_ns"][changed] = now_ns
    aged["reference"][changed] = share[changed]
    return aged, changed


def _date_idleness(regions: Rows, which: Indices, windows: Windows, edges: Indices) -> None:
    """Of regions found to be wholly idle it is known since when: since the last of their windows was cleared."""
    if not len(which):
        return
    bounds = np.column_stack((edges[which], edges[which + 1])).reshape(-1)
    inside = bounds[:-1] if bounds[-1] == len(windows) else bounds  # reduceat wants no end beyond the last
    since_ns = np.maximum.reduceat(windows.cleared_ns, inside)[::2]
    regions["since_ns"][which] = np.minimum(regions["since_ns"][which], since_ns)
