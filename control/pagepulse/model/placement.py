# SPDX-License-Identifier: GPL-2.0-only
"""Placement: which windows a target has now. They follow its mappings, and become more where it is worth it."""

from __future__ import annotations

import numpy as np

from pagepulse.model.layout import NO_CHUNKS, Layout, among, spread, with_dense
from pagepulse.model.memory import WINDOWS_PER_CHUNK, Addresses, Mapping
from pagepulse.model.windows import Windows

_AT_FIRST = 8  # of the most windows that there may be, one in so many is laid where they lie apart
_FEW_UNKNOWN, _SETTLED_NS = 0.02, 10_000_000_000
_DENSE_SHARE = 0.5  # of the most windows


class Placement:
    """Lays the windows of one target.

    Where all of them are too many, fewer are laid at first, since each that lies apart is cleared by itself; they
    double as soon as those that there are have become known. Where regions meet, they lie side by side.

    Args:
        limit: Windows, about, at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spread_limit = limit // _AT_FIRST
        self._base: Layout = spread([], NO_CHUNKS, limit)
        self._dense: Addresses = NO_CHUNKS
        self._since_ns = 0
        self.mappings: list[Mapping] = []
        self.chunks: Addresses = NO_CHUNKS
        """Populated chunks, sorted."""

    def follow(self, mappings: list[Mapping], chunks: Addresses, now_ns: int) -> bool:
        """Follow the target's mappings.

        Returns:
            Whether anything was different: then windows must be made anew.
        """
        if mappings == self.mappings and np.array_equal(chunks, self.chunks):
            return False
        self.mappings, self.chunks = mappings, chunks
        self._dense = among(self._dense, chunks)
        self._spread(now_ns)
        return True

    def _spread(self, now_ns: int) -> None:
        self._base = spread(self.mappings, self.chunks, self._limit)
        if self._lies_apart:
            self._base = spread(self.mappings, self.chunks, self._spread_limit)
        self._since_ns = now_ns

    @property
    def _lies_apart(self) -> bool:
        return bool((self._base.weight > 1).any())

    def grow(self, windows: Windows, now_ns: int) -> bool:
        """Lay twice as many windows, if they lie apart and those that there are have been cleared once.

        Returns:
            Whether windows must be made anew.
        """
        if now_ns - self._since_ns <= _SETTLED_NS or self._spread_limit >= self._limit or not self._lies_apart:
            return False
        if np.count_nonzero(windows.tally.pages.unknown) > _FEW_UNKNOWN * len(windows):
            return False
        self._spread_limit *= 2
        self._spread(now_ns)
        return True

    @property
    def target(self) -> tuple[list[Mapping], Addresses]:
        """Its mappings and its populated chunks, both sorted."""
        return self.mappings, self.chunks

    @property
    def dense_limit(self) -> int:
        """Windows that may lie side by side where others lie apart."""
        return int(_DENSE_SHARE * self._limit)

    def look_closer(self, gaps: Addresses) -> bool:
        """Lay all windows of these chunks (sorted); those laid so before give way if they become too many.

        Returns:
            Whether windows must be made anew.
        """
        wanted = among(gaps, self.chunks)
        if not len(np.setdiff1d(wanted, self._dense, assume_unique=True)):
            return False
        both = np.union1d(self._dense, wanted)
        self._dense = both if len(both) * WINDOWS_PER_CHUNK <= self.dense_limit else wanted
        return True

    def windows_after(self, old: Windows) -> Windows:
        """The windows now; what was known of those that were there before is kept."""
        windows = Windows(self.mappings, with_dense(self._base, self.mappings, self._dense))
        windows.carry_over(old)
        return windows
