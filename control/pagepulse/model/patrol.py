# SPDX-License-Identifier: GPL-2.0-only
"""Patrol: whose turn it is to be read, of the windows that are watched for touches."""

from __future__ import annotations

import numpy as np

from pagepulse.model.memory import Addresses
from pagepulse.model.observation import Indices
from pagepulse.model.plan import patrol_order
from pagepulse.model.windows import Windows


class Patrol:
    """Goes round all windows, again and again.

    Args:
        windows: All windows, as they are laid out now.
        rng: Source of randomness.
    """

    def __init__(self, windows: Windows, rng: np.random.Generator) -> None:
        self._windows = windows
        self._order = patrol_order(windows, rng)
        self._position = 0
        self.hinted: Addresses = np.empty(0, np.uint64)
        """Addresses of windows where something happened: the next patrol reads them, too."""

    def next(self, count: int, since_ns: int, *, also_dirty: bool = False) -> Indices:
        """Windows to read now, fewer than allowed where there is nothing to see.

        Args:
            count: How many at most, beside those that were hinted at.
            since_ns: Windows that were read since then have been seen.
            also_dirty: Read those of which all is dirty, too: another agent may have cleared them.
        """
        windows, order = self._windows, self._order
        if not len(order):
            return order
        count = min(count, len(order))
        stop = self._position + count
        turn = order[self._position : stop]
        if stop > len(order):
            turn = np.concatenate((turn, order[: stop - len(order)]))
        self._position = stop % len(order)
        if len(self.hinted):
            hinted = np.searchsorted(windows.tile, self.hinted)
            turn = np.union1d(turn, hinted[hinted < len(windows)])
            self.hinted = np.empty(0, np.uint64)
        # All pages dirty: nothing to see before the next clear. The probes were just read.
        useful = also_dirty | (windows.watched[turn] != 0) | (windows.present[turn] != windows.mask[turn])
        due: Indices = turn[useful & (windows.read_ns[turn] < since_ns)]
        return due
