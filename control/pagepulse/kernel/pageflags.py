# SPDX-License-Identifier: GPL-2.0-only
"""Page flags: why a page did not clear, from /proc/PID/pagemap and /proc/kpageflags.

MADV_COLD skips without an error what several processes map and what is not on the LRU lists (mm/madvise.c,
madvise_cold_or_pageout_pte_range). A page that is neither was cleared, and touched again before we looked.
"""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, WINDOW_PAGES, Addresses, Masks

# Documentation/admin-guide/mm/pagemap.rst
_EXCLUSIVE, _PFN = np.uint64(1 << 56), np.uint64((1 << 55) - 1)
_LRU, _COMPOUND_TAIL, _HUGETLB, _UNEVICTABLE, _THP, _ZERO_PAGE = (
    np.uint64(1 << bit) for bit in (5, 16, 17, 18, 22, 24))
_GAP = 32
"""Frames that are read and not asked about, at most, rather than to read a second time."""

Entries = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


class PageFlags:
    """Reads the flags of single pages. A few microseconds a window: only for what did not clear.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._kpageflags = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._pagemap)
            raise

    def skipped(self, addresses: Addresses, masks: Masks) -> Masks:
        """Of the pages in the masks, those that MADV_COLD skips; all, where pagemap does not tell.

        Args:
            addresses: Windows, shape (n,).
            masks: Pages asked about, shape (n,).
        """
        asked = _unpacked(masks)
        entries, _ = self._entries(addresses)
        found = asked & (entries & _EXCLUSIVE == 0)
        alone = asked & ~found
        found[alone] = ~_is_on_lru(self._flags(entries[alone] & _PFN))
        return _packed(found)

    def zero_pages(self, addresses: Addresses, masks: Masks) -> Masks:
        """Of the pages in the masks, those that clear_refs skips: the zero page, which is nobody's. As `skipped`."""
        found = _unpacked(masks)
        entries, is_told = self._entries(addresses)
        asked = found & is_told[:, None]
        found[asked] = self._flags(entries[asked] & _PFN) & _ZERO_PAGE != 0
        return _packed(found)

    def _entries(self, addresses: Addresses) -> tuple[Entries, Flags]:
        """Of /proc/PID/pagemap, shape (n, 64), and for which windows it has any, shape (n,)."""
        entries, is_told = np.zeros((len(addresses), WINDOW_PAGES), np.uint64), np.zeros(len(addresses), np.bool_)
        for row, address in enumerate(addresses.tolist()):
            data = os.pread(self._pagemap, 8 * WINDOW_PAGES, address // PAGE * 8)
            if len(data) == 8 * WINDOW_PAGES:
                entries[row], is_told[row] = np.frombuffer(data, "<u8"), True
        return entries, is_told

    def _flags(self, frames: Entries) -> Entries:
        """Of /proc/kpageflags, neighbours in one read; 0 for a frame that is none. Shapes (n,)."""
        known, back = np.unique(frames, return_inverse=True)
        flags = np.zeros(len(known), np.uint64)
        bounds = [0, *(np.flatnonzero(np.diff(known) > _GAP) + 1).tolist(), len(known)]
        for begin, end in pairwise(bounds if len(known) else ()):
            wanted = (known[begin:end] - known[begin]).astype(np.intp)
            data = np.frombuffer(os.pread(self._kpageflags, 8 * (int(wanted[-1]) + 1), int(known[begin]) * 8), "<u8")
            is_told = wanted < len(data)
            flags[begin:end][is_told] = data[wanted[is_told]]
        result: Entries = flags[back]
        return result

    def close(self) -> None:
        """Close both files."""
        os.close(self._pagemap)
        os.close(self._kpageflags)


def _is_on_lru(flags: Entries) -> Flags:
    # A tail's own LRU bit says nothing.
    result: Flags = (flags & (_HUGETLB | _UNEVICTABLE) == 0) & (flags & (_LRU | _THP | _COMPOUND_TAIL) != 0)
    return result


def _unpacked(masks: Masks) -> Flags:
    """One column for each page."""
    bits = masks.astype("<u8").view(np.uint8).reshape(-1, WINDOW_PAGES // 8)
    return np.unpackbits(bits, axis=1, bitorder="little").astype(np.bool_)


def _packed(pages: Flags) -> Masks:
    return np.packbits(pages, axis=1, bitorder="little").view("<u8").ravel().astype(np.uint64)
