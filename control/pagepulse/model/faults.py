# SPDX-License-Identifier: GPL-2.0-only
"""Page faults: from the windows for which a probe counts them to regions."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import WINDOW, Addresses

Faults = npt.NDArray[np.uint64]


class Faulted(NamedTuple):
    """Page faults as a probe counts them. Arrays of shape (m,), in any order."""

    windows: Addresses
    """Addresses, multiples of WINDOW."""
    counts: Faults
    """How many there."""
    at_ns: npt.NDArray[np.int64]
    """When they were told of, by CLOCK_MONOTONIC."""

    @classmethod
    def none(cls) -> Self:
        """No faults."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))

    def where(self, chosen: npt.NDArray[np.bool_]) -> Faulted:
        """Some of them."""
        return Faulted(self.windows[chosen], self.counts[chosen], self.at_ns[chosen])

    def with_new(self, windows: Addresses, counts: Faults, now_ns: int) -> Faulted:
        """These, and those that were told of now."""
        at_ns = np.full(len(windows), now_ns, np.int64)
        return Faulted(*(np.concatenate(pair) for pair in zip(self, (windows, counts, at_ns), strict=True)))


def faults_by_region(starts: Addresses, ends: Addresses, faulted: Faulted) -> tuple[Faults, npt.NDArray[np.bool_]]:
    """Page faults in each region, and which of them are in one.

    Where two small regions share a window, the first has its faults. Faults where no region is yet (memory that was
    taken up a moment ago) are in none.

    Args:
        starts: First byte of each region, shape (n,), sorted.
        ends: One past its last byte, shape (n,).
        faulted: The faults, m windows.

    Returns:
        Shapes (n,) and (m,).
    """
    faults = np.zeros(len(starts), np.uint64)
    if not len(starts):
        return faults, np.zeros(len(faulted.windows), np.bool_)
    owner = np.minimum(np.searchsorted(ends, faulted.windows, side="right"), len(starts) - 1)
    inside = (starts[owner] < faulted.windows + np.uint64(WINDOW)) & (ends[owner] > faulted.windows)
    np.add.at(faults, owner[inside], faulted.counts[inside])
    return faults, inside
