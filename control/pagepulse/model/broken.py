# SPDX-License-Identifier: GPL-2.0-only
"""Broken: huge pages that were paged out. What comes back comes as 512 small pages, and stays so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import CHUNK, PAGE, Addresses
from pagepulse.model.runs import mask_of
from pagepulse.model.windows import ALL_PAGES, Windows

_CHUNK_PAGES = CHUNK // PAGE


class Broken:
    """Chunks of one process that were one huge page until they were paged out."""

    def __init__(self) -> None:
        self._chunks: Addresses = np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self._chunks)

    def note(self, start: int, huge: npt.NDArray[np.bool_], gone: Addresses) -> None:
        """Remember the huge pages that went as a whole.

        Args:
            start: Address of the first page, a multiple of PAGE.
            huge: Which of the pages from there on were parts of huge ones, shape (n,).
            gone: Runs of pages that are gone, shape (m, 2), within these pages.
        """
        if not huge.any():
            return
        went = huge & mask_of(gone, start, huge.size)
        first = -start // PAGE % _CHUNK_PAGES
        count = (huge.size - first) // _CHUNK_PAGES
        whole = went[first : first + count * _CHUNK_PAGES].reshape(count, _CHUNK_PAGES).all(axis=1)
        chunks = np.uint64(start + first * PAGE) + np.flatnonzero(whole).astype(np.uint64) * np.uint64(CHUNK)
        self._chunks = np.union1d(self._chunks, chunks)

    def back(self, windows: Windows) -> Addresses:
        """Those that are resident again as a whole, as far as was seen, and small: shape (n,)."""
        if not len(self._chunks):
            return self._chunks
        low, high = (np.searchsorted(windows.tile, self._chunks + np.uint64(after)) for after in (0, CHUNK))
        is_back = (windows.present == ALL_PAGES) & (windows.evicted == 0) & ~windows.huge
        before = np.concatenate(([0], np.cumsum(is_back)))
        found: Addresses = self._chunks[(before[high] - before[low] == high - low) & (high > low)]
        return found

    def forget(self, chunks: Addresses) -> None:
        """These are whole again, or cannot be made so."""
        self._chunks = np.setdiff1d(self._chunks, chunks, assume_unique=True)
