# SPDX-License-Identifier: GPL-2.0-only
"""Page flags: why a page did not clear, from /proc/PID/pagemap and /proc/kpageflags.

MADV_COLD skips without an error what several processes map and what is not on the LRU lists (mm/madvise.c,
madvise_cold_or_pageout_pte_range). A page that is neither was cleared, and touched again before we looked.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, WINDOW_PAGES, Addresses, Masks

# Documentation/admin-guide/mm/pagemap.rst
_EXCLUSIVE, _PFN = 1 << 56, (1 << 55) - 1
_LRU, _COMPOUND_TAIL, _HUGETLB, _UNEVICTABLE, _THP, _ZERO_PAGE = (
    1 << 5, 1 << 16, 1 << 17, 1 << 18, 1 << 22, 1 << 24)
_BITS = np.uint64(1) << np.arange(WINDOW_PAGES, dtype=np.uint64)


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
        """Of the pages in the masks, those that MADV_COLD skips.

        Args:
            addresses: Windows, shape (n,).
            masks: Pages asked about, shape (n,).
        """
        return np.array([self._skipped_in_window(int(address), mask)
                         for address, mask in zip(addresses, masks, strict=True)], np.uint64)

    def zero_pages(self, addresses: Addresses, masks: Masks) -> Masks:
        """Of the pages in the masks, those that clear_refs skips: the zero page, which is nobody's. As `skipped`."""
        return np.array([self._zero_in_window(int(address), mask)
                         for address, mask in zip(addresses, masks, strict=True)], np.uint64)

    def _zero_in_window(self, address: int, mask: np.uint64) -> int:
        entries = self._entries(address)
        if len(entries) < WINDOW_PAGES:
            return int(mask)
        asked = np.flatnonzero((mask & _BITS) != 0)
        return sum(1 << int(page) for page in asked if self._flags(int(entries[page]) & _PFN) & _ZERO_PAGE)

    def _entries(self, address: int) -> npt.NDArray[np.uint64]:
        """Of /proc/PID/pagemap, for one window."""
        return np.frombuffer(os.pread(self._pagemap, 8 * WINDOW_PAGES, address // PAGE * 8), "<u8")

    def _flags(self, pfn: int) -> int:
        data = os.pread(self._kpageflags, 8, pfn * 8)
        return int(np.frombuffer(data, "<u8")[0]) if len(data) == 8 else 0

    def _skipped_in_window(self, address: int, mask: np.uint64) -> int:
        entries = self._entries(address)
        if len(entries) < WINDOW_PAGES:
            return int(mask)
        asked = (mask & _BITS) != 0
        shared = (entries & np.uint64(_EXCLUSIVE)) == 0
        for page in np.flatnonzero(asked & ~shared):
            shared[page] = not self._is_on_lru(int(entries[page]) & _PFN)
        return int((_BITS[asked & shared]).sum())

    def _is_on_lru(self, pfn: int) -> bool:
        flags = self._flags(pfn)
        if flags & (_HUGETLB | _UNEVICTABLE):
            return False
        return bool(flags & (_LRU | _THP | _COMPOUND_TAIL))  # a tail's own LRU bit says nothing

    def close(self) -> None:
        """Close both files."""
        os.close(self._pagemap)
        os.close(self._kpageflags)
