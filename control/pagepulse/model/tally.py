# SPDX-License-Identifier: GPL-2.0-only
"""Tally: how many pages of each window are in which state.

Each aggregation interval asks for sums over all windows, of which it has read a few: what is known of the others does
not change, and is not counted again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Pages(NamedTuple):
    """Pages in each state, times the window's weight: shape (w,) each, or (n,) summed over the windows of n regions."""

    present: Floats
    dirty: Floats
    """Those that are unknown included."""
    unknown: Floats
    refused: Floats
    settled: Floats

    @property
    def watched(self) -> Floats:
        """Resident and neither dirty nor refused."""
        return self.present - self.dirty - self.refused


class Tally:
    """Counts of all windows.

    Args:
        weight: For how many windows each stands, shape (w,).
    """

    def __init__(self, weight: Floats) -> None:
        self._weight = weight
        self._counts = np.zeros((len(Pages._fields), len(weight)))

    @property
    def pages(self) -> Pages:
        """Of each window."""
        return Pages(*self._counts)

    def count(self, index: npt.NDArray[np.intp], *masks: npt.NDArray[np.uint64]) -> None:
        """Count these windows anew.

        Args:
            index: Windows, shape (n,).
            *masks: Their pages in each state, in the order of `Pages`, shape (n,) each.
        """
        self._counts[:, index] = np.bitwise_count(np.stack(masks)) * self._weight[index]

    def by_region(self, edges: npt.NDArray[np.intp]) -> Pages:
        """Sums over regions.

        Args:
            edges: First window of each of n regions and one past the last window, shape (n + 1,): windows are sorted.
        """
        return Pages(*sums_between(self._counts, edges))


def sums_between(values: Floats, edges: npt.NDArray[np.intp]) -> Floats:
    """Sums of neighbours.

    Args:
        values: Shape (..., w).
        edges: Ascending from 0 to w, shape (n + 1,).

    Returns:
        Of the values from each edge up to the next: shape (..., n).
    """
    sums = np.zeros((*values.shape[:-1], len(edges) - 1))
    there = edges[1:] > edges[:-1]  # reduceat takes an empty range for its first value
    if there.any():
        sums[..., there] = np.add.reduceat(values, edges[:-1][there], axis=-1)
    return sums
