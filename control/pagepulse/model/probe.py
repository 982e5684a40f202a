# SPDX-License-Identifier: GPL-2.0-only
"""Probe: a few windows that were cleared together, and how soon each of their pages was touched again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import Addresses, Masks, WindowRead
from pagepulse.model.windows import Counts, Indices, popcount

_ROUNDS = 5  # of expectation and maximisation: the first few do nearly all of it


class Outcome(NamedTuple):
    """What a probe found, for each of its n windows, in pages."""

    trials: Counts
    """Cleared, shape (n,)."""
    hits: Counts
    """Touched before the probe ended, shape (n,)."""
    quick_hits: npt.NDArray[np.float64]
    """Touched within the first sampling interval, shape (n,): estimated, where the read came late."""
    exposure_ns: npt.NDArray[np.float64]
    """Time for which its pages stayed untouched, summed over pages, shape (n,)."""


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
    begun_ns: int
    early: Masks = field(default_factory=lambda: np.empty(0, np.uint64))
    """Of those: touched again before the clear could be read back; they count at the first read."""
    touches: list[Counts] = field(default_factory=list)
    """Pages first seen touched at each read, shape (n,)."""
    edges_ns: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def none(cls) -> Self:
        """A probe of nothing."""
        nothing = np.empty(0, np.uint64)
        return cls(np.empty(0, np.intp), nothing, nothing, nothing, 0)

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
        return cls(windows, tiles, trial, np.zeros_like(hit), now_ns, early=hit)

    def tick(self, read: WindowRead) -> None:
        """Take in a read of its windows. One that was lost shows no young page, and its touches come with the next."""
        touched = (read.young | self.early) & self.trial & ~self.hit
        self.touches.append(popcount(touched))
        self.hit |= touched
        self.edges_ns.append(max(read.taken_ns - self.begun_ns, self.edges_ns[-1] + 1))

    def outcome(self, sampling_ns: int) -> Outcome:
        """What it found up to the last read.

        Args:
            sampling_ns: `quick_hits` is for one sampling interval, however late its read came: where touches are
                independent, the share untouched after a time t is that after the interval to the power t / interval.
        """
        trials = popcount(self.trial)
        touches = np.column_stack(self.touches)
        quick_share = 1 - (1 - touches[:, 0] / np.maximum(trials, 1)) ** (sampling_ns / self.edges_ns[1])
        hits, edges_ns = popcount(self.hit), np.array(self.edges_ns)
        return Outcome(trials, hits, trials * quick_share, exposure_ns(touches, trials - hits, edges_ns))


def exposure_ns(touches: Counts, untouched: Counts, edges_ns: Counts) -> npt.NDArray[np.float64]:
    """Time for which pages stayed untouched, summed over pages: what touches are divided by to get their rate.

    When within its bracket a page was touched is not seen. Its expected time depends on the rate, and the rate on it;
    some rounds of expectation and maximisation (Dempster, Laird, Rubin 1977) settle both. For independent touches of
    rate r, the mean time of a first touch in (a, b] is a + 1/r - (b - a) / (exp(r (b - a)) - 1).

    Args:
        touches: Pages first touched in each bracket, shape (n, k).
        untouched: Pages not touched at all, shape (n,).
        edges_ns: Of the brackets, shape (k + 1,).

    Returns:
        Shape (n,), nanoseconds times pages.
    """
    low, width = edges_ns[:-1].astype(float), np.diff(edges_ns).astype(float)
    total = touches.sum(axis=1)
    censored = untouched * float(edges_ns[-1])
    exposure = touches @ (low + width / 2) + censored
    for _ in range(_ROUNDS):
        rate = np.maximum(total / np.maximum(exposure, 1.0), 1e-15)[:, None]
        x = np.minimum(rate * width, 50.0)
        exposure = (touches * (low + 1 / rate - width / np.expm1(x))).sum(axis=1) + censored
    return exposure
