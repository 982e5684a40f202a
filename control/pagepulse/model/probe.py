# SPDX-License-Identifier: GPL-2.0-only
"""Probe: a few windows that were cleared together, and how soon each of their pages was touched again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import Addresses, Masks, WindowRead
from pagepulse.model.observation import Counts, Indices
from pagepulse.model.windows import popcount

_ROUNDS = 5  # of expectation and maximisation: the first few do nearly all of it


class Outcome(NamedTuple):
    """What a probe found, for each of its n windows, in pages."""

    trials: Counts
    """Cleared, shape (n,)."""
    hits: Counts
    """Touched before the probe ended, shape (n,)."""
    quick_hits: npt.NDArray[np.float64]
    """Touched within the first sampling interval, shape (n,): estimated, where the read came late."""
    usual_hits: npt.NDArray[np.float64]
    """Touched within the aggregation interval that was asked for, shape (n,): this one may be longer."""
    exposure_ns: npt.NDArray[np.float64]
    """Time for which its pages stayed untouched, summed over pages, shape (n,)."""


@dataclass(slots=True)
class Probe:
    """A running probe. While it runs it only keeps its reads: what they say is worked out once, at the end."""

    windows: Indices
    """Its windows, shape (n,)."""
    tiles: Addresses
    """Where to read them."""
    trial: Masks
    """Pages that were cleared."""
    early: Masks
    """Of those: touched again before the clear could be read back; they count at the first read."""
    begun_ns: int
    """When half of it was cleared."""
    along: Indices = field(default_factory=lambda: np.empty(0, np.intp))
    """Windows that were cleared along with its own, and are read back when it ends."""
    reads: list[WindowRead] = field(default_factory=list)
    """One for each tick; not empty from the first tick on."""

    @classmethod
    def none(cls) -> Self:
        """A probe of nothing."""
        nothing = np.empty(0, np.uint64)
        return cls(np.empty(0, np.intp), nothing, nothing, nothing, 0)

    def tick(self, read: WindowRead) -> None:
        """Take in a read of its windows. One that was lost shows no young page, and its touches come with the next."""
        self.reads.append(read)

    @property
    def whole_read(self) -> WindowRead:
        """All its reads as one: young is what was young in any of them (another agent may clear bits in between)."""
        last = self.reads[-1]
        return last._replace(young=np.bitwise_or.reduce([read.young for read in self.reads]),
                             blind=any(read.blind for read in self.reads))

    @property
    def touches(self) -> Counts:
        """Pages first seen touched at each of the k reads, shape (n, k)."""
        young = np.stack([read.young for read in self.reads]) & self.trial
        young[0] |= self.early
        return np.diff(popcount(np.bitwise_or.accumulate(young, axis=0)), axis=0, prepend=0).T

    def outcome(self, sampling_ns: int, usual_ns: int) -> Outcome:
        """What it found up to the last read.

        Args:
            sampling_ns: `quick_hits` is for one sampling interval, however late its read came.
            usual_ns: `usual_hits` is for this aggregation interval, however long this one is.
        """
        touches = self.touches
        since_ns = [read.taken_ns - self.begun_ns for read in self.reads]
        edges_ns = np.maximum.accumulate([0, *since_ns]) + np.arange(len(since_ns) + 1)  # ascending, by 1 ns at least
        trials, hits = popcount(self.trial), touches.sum(axis=1)
        quick, usual = (trials * share_touched(touches, trials, edges_ns, time_ns)
                        for time_ns in (sampling_ns, usual_ns))
        return Outcome(trials, hits, quick, usual, exposure_ns(touches, trials - hits, edges_ns))


def share_touched(touches: Counts, trials: Counts, edges_ns: Counts, within_ns: int) -> npt.NDArray[np.float64]:
    """Share of pages that are touched within a time, by first touches in brackets.

    Where in its bracket that time lies: touches within one bracket are taken for independent, so that the share
    untouched falls by a power of it.

    Args:
        touches: Pages first touched in each bracket, shape (n, k).
        trials: All pages, shape (n,).
        edges_ns: Of the brackets, shape (k + 1,).
        within_ns: The time; beyond the last edge, that edge is taken for it.

    Returns:
        Shape (n,).
    """
    bracket = min(int(np.searchsorted(edges_ns[1:], within_ns)), len(edges_ns) - 2)
    part = min((within_ns - edges_ns[bracket]) / (edges_ns[bracket + 1] - edges_ns[bracket]), 1.0)
    count = np.maximum(trials, 1)
    before, after = (1 - touches[:, :k].sum(axis=1) / count for k in (bracket, bracket + 1))
    share: npt.NDArray[np.float64] = 1 - before * (after / np.maximum(before, 1e-12)) ** part
    return share


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
    exposure: npt.NDArray[np.float64] = (touches * (low + width / 2)).sum(axis=1) + censored
    for _ in range(_ROUNDS):
        rate = np.maximum(total / np.maximum(exposure, 1.0), 1e-15)[:, None]
        x = np.minimum(rate * width, 50.0)
        exposure = (touches * (low + 1 / rate - width / np.expm1(x))).sum(axis=1) + censored
    return exposure
