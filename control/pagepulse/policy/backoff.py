# SPDX-License-Identifier: GPL-2.0-only
"""Back-off: pages on which an action had no effect are left alone for a while, and for longer each time.

Else what fails is tried again first at each pass, for the whole quota, and memory behind it is never reached. 40 bytes
for each 256 KiB in which something failed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, WINDOW, WINDOW_PAGES, Addresses, Masks
from pagepulse.model.runs import mask_of
from pagepulse.policy.match import Mask

_FIRST_NS = 10_000_000_000
_LONGEST_NS = 3_600_000_000_000
SHORT_NS = 80_000_000_000
"""The longest for pages that were only looked at: that costs little."""


class BackOff:
    """Which pages rest, and until when."""

    def __init__(self) -> None:
        self._tiles: Addresses = np.empty(0, np.uint64)
        self._masks: Masks = np.empty(0, np.uint64)
        self._until_ns = np.empty(0, np.int64)
        self._pause_ns = np.empty(0, np.int64)

    def book(self, start: int, pages: Mask, now_ns: int, longest_ns: int = _LONGEST_NS) -> None:
        """Let pages rest: 10 s at first, and twice as long as before where they rested before.

        Args:
            start: Address of the first one, a multiple of PAGE.
            pages: Which of the pages from there on, shape (n,).
            now_ns: CLOCK_MONOTONIC.
            longest_ns: They rest no longer than that.
        """
        before = start // PAGE % WINDOW_PAGES
        bits = np.pad(pages, (before, -(before + pages.size) % WINDOW_PAGES))
        masks = np.packbits(bits, bitorder="little").view("<u8")
        some = np.flatnonzero(masks)
        if not some.size:
            return
        at = self._positions(np.uint64(start // WINDOW * WINDOW) + some.astype(np.uint64) * np.uint64(WINDOW), now_ns)
        over = self._until_ns[at] <= now_ns
        pause_ns = np.where(over & ((self._masks[at] & masks[some]) != 0), 2 * self._pause_ns[at], _FIRST_NS)
        pause_ns = np.minimum(np.where(over, pause_ns, self._pause_ns[at]), longest_ns)
        self._masks[at] = np.where(over, masks[some], self._masks[at] | masks[some])
        self._pause_ns[at], self._until_ns[at] = pause_ns, now_ns + pause_ns

    def book_runs(self, runs: Addresses, now_ns: int) -> None:
        """As `book`, for runs of pages of shape (n, 2), sorted, start and end."""
        if len(runs):
            start = int(runs[0, 0])
            self.book(start, mask_of(runs, start, (int(runs[-1, 1]) - start) // PAGE), now_ns)

    def masks(self, tiles: Addresses, now_ns: int) -> Masks:
        """Which pages of some windows rest, shape (n,).

        Args:
            tiles: Where the windows begin, multiples of WINDOW, shape (n,).
            now_ns: CLOCK_MONOTONIC.
        """
        if not len(self._tiles):
            return np.zeros(len(tiles), np.uint64)
        at = np.minimum(np.searchsorted(self._tiles, tiles), len(self._tiles) - 1)
        rests = (self._tiles[at] == tiles) & (self._until_ns[at] > now_ns)
        return np.where(rests, self._masks[at], np.uint64(0))

    def pages(self, start: int, end: int, now_ns: int) -> Mask:
        """Which pages of a range rest, shape ((end - start) / PAGE,)."""
        first = start // WINDOW * WINDOW
        tiles = np.arange(first, end, WINDOW, dtype=np.uint64)
        bits = np.unpackbits(self.masks(tiles, now_ns).view(np.uint8), bitorder="little").view(np.bool_)
        offset = (start - first) // PAGE
        found: npt.NDArray[np.bool_] = bits[offset:offset + (end - start) // PAGE]
        return found

    def _positions(self, tiles: Addresses, now_ns: int) -> npt.NDArray[np.intp]:
        """Where these are, those that were not there included now; what has long been over is forgotten."""
        kept = self._until_ns + _LONGEST_NS > now_ns
        for name in ("_tiles", "_masks", "_until_ns", "_pause_ns"):
            setattr(self, name, getattr(self, name)[kept])
        missing = np.setdiff1d(tiles, self._tiles, assume_unique=True)
        at = np.searchsorted(self._tiles, missing)
        self._tiles = np.insert(self._tiles, at, missing)
        self._masks = np.insert(self._masks, at, 0)
        self._until_ns, self._pause_ns = (np.insert(old, at, 0) for old in (self._until_ns, self._pause_ns))
        return np.searchsorted(self._tiles, tiles)
