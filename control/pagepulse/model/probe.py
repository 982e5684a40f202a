# SPDX-License-Identifier: GPL-2.0-only
"""Probe: a few windows that were cleared together, and how soon each of their pages was touched again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import Addresses, Masks, WindowRead
from pagepulse.model.windows import Counts, Indices, popcount


class Outcome(NamedTuple):
    """What a probe found, for each of its windows: shape (n,) each, in pages."""

    trials: Counts
    hits: Counts
    """Touched before the probe ended."""
    quick_hits: npt.NDArray[np.float64]
    """Touched within the first sampling interval: estimated, where the read came late."""
    exposure_ns: Counts
    """Time for which pages stayed untouched, summed over pages; one touched between two reads counts to the middle."""


@dataclass(slots=True)
class Probe:
    """A running probe."""

    windows: Indices
    """Its windows, shape (n,)."""
    tiles: Addresses
    """Where to read them."""
    trial: Masks
    """Pages that were cleared."""
    hit: Masks
    """Of those: touched since."""
    quick: Masks
    """Of those: at the first read already."""
    begun_ns: int
    read_ns: int
    quick_ns: int
    """How long after the start the first read came; 0 before it."""
    exposure_ns: Counts

    @classmethod
    def none(cls) -> Self:
        """A probe of nothing."""
        nothing = np.empty(0, np.uint64)
        return cls(np.empty(0, np.intp), nothing, nothing, nothing, nothing, 0, 0, 0, np.empty(0, np.int64))

    @classmethod
    def start(cls, windows: Indices, tiles: Addresses, trial: Masks, hit: Masks, now_ns: int) -> Self:
        """A probe of windows that were just cleared.

        Args:
            windows: Shape (n,).
            tiles: Where to read them.
            trial: Pages that were cleared.
            hit: Of those: touched again before the clear could be read back.
            now_ns: Now.
        """
        return cls(windows, tiles, trial, hit, hit.copy(), now_ns, now_ns, 0, np.zeros(len(windows), np.int64))

    def tick(self, read: WindowRead) -> None:
        """Take in a read of its windows. One that was lost shows no young page, and its touches come with the next."""
        touched = read.young & self.trial & ~self.hit
        if self.quick_ns == 0:
            self.quick_ns = read.taken_ns - self.begun_ns
            self.quick |= touched
        self.exposure_ns += popcount(touched) * ((self.read_ns + read.taken_ns) // 2 - self.begun_ns)
        self.hit |= touched
        self.read_ns = read.taken_ns

    def outcome(self, sampling_ns: int) -> Outcome:
        """What it found up to the last read.

        Args:
            sampling_ns: `quick_hits` is for one sampling interval, however late its read came: where touches are
                independent, the share untouched after a time t is that after the interval to the power t / interval.
        """
        trials, hits = popcount(self.trial), popcount(self.hit)
        quick_share = popcount(self.quick) / np.maximum(trials, 1)
        quick_share = 1 - (1 - quick_share) ** (sampling_ns / max(self.quick_ns, 1))
        untouched = self.exposure_ns + (trials - hits) * (self.read_ns - self.begun_ns)
        return Outcome(trials, hits, trials * quick_share, untouched)
