# SPDX-License-Identifier: GPL-2.0-only
"""Wakes: watched pages that were found touched in an aggregation interval, and what that tells of their regions.

They are kept window by window, so that regions can be cut where memory woke before anything is said of them.
"""

from __future__ import annotations

import numpy as np

from pagepulse.model.estimate import Floats, watch_time_ns
from pagepulse.model.observation import Indices, Observation
from pagepulse.model.regions import OF_PROBES, Rows
from pagepulse.model.tally import sums_between
from pagepulse.model.windows import Windows, popcount

_NEWS_PAGES, _NEWS_TIMES = 64, 4.0  # a window more than so many times what a region's rate lets expect


class Wakes:
    """Of one aggregation interval.

    Args:
        count: Windows.
    """

    def __init__(self, count: int) -> None:
        self._sums = np.zeros((2, count))  # woken pages, and the time of watching, both by the window's weight

    def book(self, seen: Observation, windows: Windows, owner: Indices, regions: Rows) -> tuple[int, bool]:
        """Book the watched pages that were touched, and the time for which others were not.

        Args:
            seen: What a read found, each window once.
            windows: All windows.
            owner: Region of each window.
            regions: dtype regions.STATE, shape (n,); their evidence is brought up to date.

        Returns:
            How many pages woke; and whether that is news: regions may have to be cut.
        """
        if not seen.watched.any():
            return 0, False
        index, woken, watched = seen.windows, popcount(seen.woken), popcount(seen.watched)
        span_ns = np.maximum(windows.read_ns[index] - seen.since_ns, 1)
        exposure = watch_time_ns(watched, woken, np.where(seen.since_ns > 0, span_ns, 0))
        windows.book_wakes(index, watched, woken, exposure)
        self._sums[:, index] += np.stack((woken.astype(np.float64), exposure)) * windows.weight[index]
        owner = owner[index]
        watched_ns = np.bincount(owner, exposure, len(regions))
        total, is_news = int(woken.sum()), False
        if total:
            of_region = np.bincount(owner, woken, len(regions)).astype(np.float64)
            expected = watched_ns * regions["wakes"] / np.maximum(regions["watch_ns"], 1)
            is_news = bool((of_region > _NEWS_PAGES + _NEWS_TIMES * expected).any())
            is_news |= _forget_idleness(regions, of_region)
            regions["wakes"] += of_region
        regions["watch_ns"] += watched_ns
        return total, is_news

    def by_region(self, edges: Indices) -> Floats:
        """Woken pages, and the time of watching, shape (2, n).

        Args:
            edges: As `sums_between` takes them.
        """
        return sums_between(self._sums, edges)

    def clear(self) -> None:
        """A new interval begins."""
        self._sums[:] = 0


def _forget_idleness(regions: Rows, woken: Floats) -> bool:
    """A region that was idle and wakes up is a new story: old probes say nothing of it. Whether there is one."""
    woke = np.flatnonzero(woken)
    rows = regions[woke]
    fresh = (rows["hits"] <= 0.5 * rows["trials"]) & (woken[woke] > rows["trials"] * 0.1) & (rows["trials"] > 0)
    for column in (*OF_PROBES, "probed_ns"):
        regions[column][woke[fresh]] = 0
    return bool(fresh.any())
