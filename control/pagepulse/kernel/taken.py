# SPDX-License-Identifier: GPL-2.0-only
"""Taken: accessed bits that others cleared, kept as the hardware would keep them: until we clear them ourselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, WINDOW, WINDOW_PAGES, Addresses, Masks

_ALL = np.uint64((1 << WINDOW_PAGES) - 1)


class Taken:
    """Which pages of which windows another agent found touched, since our own last clear of them."""

    def __init__(self) -> None:
        self._windows = np.empty(0, np.uint64)  # sorted
        self._masks = np.empty(0, np.uint64)

    def keep(self, windows: Addresses, masks: Masks) -> None:
        """More of them: addresses of windows, each once, and pages of each, shape (n,) both."""
        if not len(windows):
            return
        order = np.argsort(windows)  # of the few that are new only: what is kept may be hundreds of thousands
        windows, masks = windows[order], masks[order]
        place = np.searchsorted(self._windows, windows)
        known = self._there(place, windows)
        self._masks[place[known]] |= masks[known]
        new = ~known
        if new.any():
            self._windows = np.insert(self._windows, place[new], windows[new])
            self._masks = np.insert(self._masks, place[new], masks[new])

    def among(self, windows: Addresses) -> Masks:
        """What is kept of these windows, shape (n,). They may be asked for again."""
        place = np.searchsorted(self._windows, windows)
        known = self._there(place, windows)
        masks = np.zeros(len(windows), np.uint64)
        masks[known] = self._masks[place[known]]
        return masks

    def _there(self, place: npt.NDArray[np.intp], windows: Addresses) -> npt.NDArray[np.bool_]:
        """Which of these are kept, given where they would be."""
        known = place < len(self._windows)
        known[known] = self._windows[place[known]] == windows[known]
        return known

    def pages(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """What is kept of a range, page by page: shape (n,)."""
        first = start // WINDOW * WINDOW
        masks = self.among(np.arange(first, end, WINDOW, dtype=np.uint64))
        bits = np.unpackbits(masks.view(np.uint8), bitorder="little").view(bool)
        return bits[(start - first) // PAGE : (end - first) // PAGE]

    def forget(self, ranges: Addresses) -> None:
        """Our own clear of these ranges, shape (n, 2), ends what was kept of their pages."""
        first = np.searchsorted(self._windows, ranges[:, 0] // np.uint64(WINDOW) * np.uint64(WINDOW))
        last = np.searchsorted(self._windows, ranges[:, 1])
        for row in np.flatnonzero(first < last):
            part = slice(first[row], last[row])
            self._masks[part] &= ~_pages_between(self._windows[part], *ranges[row].astype(np.int64))

    def keep_within(self, spans: Addresses) -> None:
        """Drop what is empty by now, or of memory that is gone.

        Args:
            spans: Shape (n, 2), start and end of each mapping, sorted.
        """
        left = self._masks != 0
        if len(spans):
            owner = np.minimum(np.searchsorted(spans[:, 1], self._windows, side="right"), len(spans) - 1)
            left &= (spans[owner, 0] < self._windows + np.uint64(WINDOW)) & (self._windows < spans[owner, 1])
        self._windows, self._masks = self._windows[left], self._masks[left]

    def all(self) -> tuple[Addresses, Masks]:
        """Everything that is kept: sorted addresses of windows and pages of each, shape (n,) both."""
        return self._windows, self._masks

    def __len__(self) -> int:
        return len(self._windows)


def _pages_between(windows: Addresses, start: np.int64, end: np.int64) -> Masks:
    """The pages of each window that lie in a range that overlaps all of them, as masks of shape (n,)."""
    base = windows.astype(np.int64)
    first = np.maximum(start - base, 0) // PAGE
    beyond = WINDOW_PAGES - np.minimum(end - base, WINDOW) // PAGE
    masks: Masks = (_ALL << first.astype(np.uint64)) & (_ALL >> beyond.astype(np.uint64))
    return masks
