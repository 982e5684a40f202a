# SPDX-License-Identifier: GPL-2.0-only
"""Page faults: from the windows for which a probe counts them to regions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import WINDOW, Addresses

Faults = npt.NDArray[np.uint64]

NO_FAULTS: tuple[Addresses, Faults] = (np.empty(0, np.uint64), np.empty(0, np.uint64))
"""Windows, and how many in each: none at all."""


def faults_by_region(starts: Addresses, ends: Addresses, windows: Addresses, counts: Faults) -> Faults:
    """Page faults in each region.

    Where two small regions share a window, the first has its faults. Faults where no region is yet (in a mapping made
    a moment ago) are in none.

    Args:
        starts: First byte of each region, shape (n,), sorted.
        ends: One past its last byte, shape (n,).
        windows: Addresses, multiples of WINDOW, at which faults were counted, shape (m,), in any order.
        counts: How many, shape (m,).

    Returns:
        Shape (n,).
    """
    faults = np.zeros(len(starts), np.uint64)
    if not len(starts):
        return faults
    owner = np.minimum(np.searchsorted(ends, windows, side="right"), len(starts) - 1)
    inside = (starts[owner] < windows + np.uint64(WINDOW)) & (ends[owner] > windows)
    np.add.at(faults, owner[inside], counts[inside])
    return faults
