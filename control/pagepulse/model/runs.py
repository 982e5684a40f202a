# SPDX-License-Identifier: GPL-2.0-only
"""Runs: pages that follow one another, as start and end; and the same as a mask, one entry a page."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, Addresses

PageMask = npt.NDArray[np.bool_]


def mask_of(runs: Addresses, start: int, count: int) -> PageMask:
    """Which of `count` pages from `start` on are in these runs, shape (n, 2). Shape (count,)."""
    edges = np.zeros(count + 1, np.int8)
    first, last = ((runs - np.uint64(start)) // np.uint64(PAGE)).astype(np.int64).T
    np.add.at(edges, first, 1)
    np.add.at(edges, last, -1)
    found: PageMask = np.cumsum(edges[:-1], dtype=np.int8) > 0
    return found


def runs_of(pages: PageMask, start: int) -> Addresses:
    """The runs of a mask, shape (n, 2), sorted.

    Args:
        pages: One entry for each page, shape (count,).
        start: Address of the first.
    """
    padded = np.pad(pages, 1)
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return (edges.astype(np.uint64) * np.uint64(PAGE) + np.uint64(start)).reshape(-1, 2)
