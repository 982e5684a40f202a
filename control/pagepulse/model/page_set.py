# SPDX-License-Identifier: GPL-2.0-only
"""PageSet: which pages of an address space were ever met. 16 bytes for each 256 KiB in which there are any."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, WINDOW, WINDOW_PAGES


class PageSet:
    """A growing set of pages."""

    def __init__(self) -> None:
        self._tiles = np.empty(0, np.uint64)
        self._masks = np.empty(0, np.uint64)

    def add(self, start: int, pages: npt.NDArray[np.bool_]) -> int:
        """Add pages, and say how many of them are new.

        Args:
            start: Address of the first one, a multiple of PAGE.
            pages: Which of the pages from there on, shape (n,).
        """
        before = start // PAGE % WINDOW_PAGES
        bits = np.pad(pages, (before, -(before + pages.size) % WINDOW_PAGES))
        masks = np.packbits(bits, bitorder="little").view("<u8")
        some = np.flatnonzero(masks)
        tiles = np.uint64(start // WINDOW * WINDOW) + some.astype(np.uint64) * np.uint64(WINDOW)
        at = self._positions(tiles)
        fresh = masks[some] & ~self._masks[at]
        self._masks[at] |= fresh
        return int(np.bitwise_count(fresh).sum())

    def _positions(self, tiles: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
        """Where these are, those that were not there included now."""
        at = np.searchsorted(self._tiles, tiles)
        missing = np.ones(len(tiles), np.bool_)
        inside = at < len(self._tiles)
        missing[inside] = self._tiles[at[inside]] != tiles[inside]
        if missing.any():
            self._tiles = np.insert(self._tiles, at[missing], tiles[missing])
            self._masks = np.insert(self._masks, at[missing], 0)
            at = np.searchsorted(self._tiles, tiles)
        return at
