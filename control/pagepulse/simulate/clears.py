# SPDX-License-Identifier: GPL-2.0-only
"""ClearMap: which pages were cleared when, as runs of pages. It grows with the clears, never with the memory.

A stamp says what is known of a page's accessed bit since its last event: odd, cleared at stamp >> 1; even, set then
whatever the page does (a huge page that was young was split); 0, never cleared, so young.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.simulate.touches import Pages

PARTLY = -1
"""In place of a stamp: the pages asked for do not have one stamp."""
_RECENT = 4096  # runs that are painted apart before they are worked into the rest

Stamps = npt.NDArray[np.int64]


def cleared_at(now_ns: int) -> int:
    """The stamp of pages cleared now."""
    return now_ns * 2 + 1


def set_at(now_ns: int) -> int:
    """The stamp of pages set young now; a clear at the same time comes after."""
    return now_ns * 2


class Runs(NamedTuple):
    """Runs of pages with one stamp each, sorted, without overlap."""

    starts: Pages
    ends: Pages
    stamps: Stamps


NOTHING = Runs(*(np.zeros(0, np.int64) for _ in range(3)))


def clip(runs: Runs, starts: Pages, ends: Pages) -> Runs:
    """What lies of the runs inside the given ranges, which are sorted and do not overlap."""
    first = np.searchsorted(runs.ends, starts, "right")
    count = np.maximum(np.searchsorted(runs.starts, ends, "left") - first, 0)
    inside = np.repeat(np.arange(starts.size), count)
    at = np.arange(inside.size) - np.repeat(np.cumsum(count) - count, count) + first[inside]
    return Runs(np.maximum(runs.starts[at], starts[inside]), np.minimum(runs.ends[at], ends[inside]), runs.stamps[at])


def overlay(lower: Runs, upper: Runs) -> Runs:
    """Both, the upper one winning; neighbours of the same stamp become one run."""
    infinity = np.iinfo(np.int64).max
    rest = clip(lower, np.append(0, upper.ends), np.append(upper.starts, infinity))
    starts = np.concatenate([rest.starts, upper.starts])
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    ends = np.concatenate([rest.ends, upper.ends])[order]
    stamps = np.concatenate([rest.stamps, upper.stamps])[order]
    if not starts.size:
        return NOTHING
    new = np.append(True, (starts[1:] != ends[:-1]) | (stamps[1:] != stamps[:-1]))
    firsts = np.flatnonzero(new)
    return Runs(starts[firsts], ends[np.append(firsts[1:], starts.size) - 1], stamps[firsts])


class ClearMap:
    """Runs in two layers: the small one, painted often, hides the large one and is worked into it now and then."""

    def __init__(self) -> None:
        self._base = NOTHING
        self._recent = NOTHING

    def paint(self, starts: Pages, ends: Pages, stamp: int) -> None:
        """Give these ranges of pages a stamp. They are sorted, not empty and do not overlap."""
        self._recent = overlay(self._recent, Runs(starts, ends, np.full(starts.size, stamp, np.int64)))
        if self._recent.starts.size > max(_RECENT, self._base.starts.size // 8):
            self.runs()

    def runs(self) -> Runs:
        """Everything that has a stamp."""
        self._base, self._recent = overlay(self._base, self._recent), NOTHING
        return self._base

    def pieces(self, starts: Pages, ends: Pages) -> Runs:
        """Everything that has a stamp in these ranges, which are sorted and do not overlap."""
        return overlay(clip(self._base, starts, ends), clip(self._recent, starts, ends))

    def stamps(self, first: Pages, count: int) -> Stamps:
        """The stamp that `count` pages from each `first` have together, or PARTLY.

        Args:
            first: Shape (n,), page numbers in any order.
            count: Pages of each.

        Returns:
            Shape (n,).
        """
        result = np.zeros(first.size, np.int64)
        for runs in (self._base, self._recent):
            if not runs.starts.size:
                continue
            at = np.maximum(np.searchsorted(runs.starts, first + count) - 1, 0)
            start, end = runs.starts[at], runs.ends[at]
            whole = (start <= first) & (end >= first + count)
            partly = ~whole & (start < first + count) & (end > first)
            result[whole] = runs.stamps[at[whole]]
            result[partly] = PARTLY
        return result
