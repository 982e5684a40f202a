# SPDX-License-Identifier: GPL-2.0-only
"""Shares: one budget over many targets, spent where memory and uncertainty are.

Visiting target i once costs c[i]; what its picture loses by growing old is taken as w[i] times its age. With a budget
of b CPU seconds a second, the sum of w[i] / rate[i] is least, under sum(c[i] * rate[i]) = b, for

    rate[i] = sqrt(w[i] / c[i]) * b / sum(sqrt(w * c))

(Lagrange; the rule of J. Neyman, 1934, for samples that differ in price). Nothing is visited more often than the user's
aggregation interval asks for; what that leaves over goes to the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_USE = 0.85  # of the budget, so that a bad second stays inside
_FREE_AT_LEAST = 0.25  # of the budget, whatever is owed
_REPAY_NS, _REPAY_START_NS = 10_000_000_000, 120_000_000_000
_START_NS = 10_000_000_000  # for so long, getting to know targets comes first
_OPEN_SHARE, _OPEN_LEAST = 0.5, 0.1  # of the budget, for getting to know more of them; whatever is owed
_BURST_NS = 300_000_000.0  # of CPU for that at once: as much as one large target may take at its start
_RESERVE_NS = 100_000_000.0  # and beyond, for those that are born meanwhile
_AT_ONCE_NS = 1_000_000_000  # what may be spent in so long a time may be spent before accounts are settled
_LONGEST_NS = 120_000_000_000

Floats = npt.NDArray[np.float64]


def intervals_ns(costs_ns: Floats, weights: Floats, share: float, shortest_ns: int) -> npt.NDArray[np.int64]:
    """How long the aggregation interval of each target should be.

    Args:
        costs_ns: CPU and tax of one visit to each, shape (n,), above 0.
        weights: What can change in it, in bytes, shape (n,), above 0.
        share: Of one CPU, for all of them.
        shortest_ns: No interval is shorter.

    Returns:
        Shape (n,).
    """
    fastest = 1e9 / shortest_ns
    wish = np.sqrt(weights / costs_ns)
    rates = np.zeros(len(costs_ns))
    left, open_ = share * 1e9, np.ones(len(costs_ns), np.bool_)
    while open_.any():
        rates[open_] = wish[open_] * left / (wish[open_] * costs_ns[open_]).sum()
        full = open_ & (rates > fastest)
        if not full.any():
            break
        rates[full] = fastest
        left -= float((rates[full] * costs_ns[full]).sum())
        open_ &= ~full
    return np.minimum(1e9 / np.maximum(rates, 1e-9), _LONGEST_NS).astype(np.int64)


class SharedBudget:
    """Books what all targets cost together, and says what may still be spent.

    Args:
        share: Of one CPU.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.is_opening = False
        """Targets wait to be known: visits leave them their share of the budget."""
        self._age_ns = 0
        self._debt_ns = self._start_debt_ns = 0.0
        self._other = 0.0
        self._purse_ns = _BURST_NS + _RESERVE_NS

    def spent(self, duration_ns: int, visits_ns: float, other_ns: float) -> None:
        """Book a stretch of time.

        Args:
            duration_ns: How long it was.
            visits_ns: CPU and tax of visits.
            other_ns: CPU of everything else: events, looking for processes, glances, new targets.
        """
        self._age_ns += duration_ns
        self._debt_ns = max(self._debt_ns + visits_ns + other_ns - _USE * self.share * duration_ns, 0.0)
        if self._age_ns <= _START_NS:
            self._start_debt_ns, self._debt_ns = self._start_debt_ns + self._debt_ns, 0.0
        else:
            weight = min(duration_ns / _REPAY_NS, 1.0)
            self._other += weight * (other_ns / duration_ns - self._other)
            self._start_debt_ns *= 1 - min(duration_ns / _REPAY_START_NS, 1.0)
        earned = max(_OPEN_SHARE * self.share - self._debt_ns / _REPAY_NS, _OPEN_LEAST * self.share)
        self._purse_ns = min(self._purse_ns + earned * duration_ns, _BURST_NS + _RESERVE_NS)

    @property
    def free(self) -> float:
        """Share of one CPU that visits may take now."""
        owed = self._debt_ns / _REPAY_NS + self._start_debt_ns / _REPAY_START_NS
        opening = _OPEN_SHARE * self.share if self.is_opening else self._other
        return max(_USE * self.share - opening - owed, _FREE_AT_LEAST * self.share)

    @property
    def is_in_debt(self) -> bool:
        """More was spent than is meant to be, and is to be saved again."""
        return self._debt_ns > 0

    def owes(self, unbooked_ns: float) -> bool:
        """Whether what can wait is to wait, after visits that are not booked yet."""
        return self.is_in_debt or unbooked_ns > self.share * _AT_ONCE_NS

    @property
    def may_open(self) -> bool:
        """Whether another target that was there already may be opened now."""
        return self._purse_ns > _RESERVE_NS

    @property
    def may_open_newborn(self) -> bool:
        """Whether a target may be opened that has just been born."""
        return self._purse_ns > 0

    def opened(self, cost_ns: float) -> None:
        """Book what getting to know a target takes."""
        self._purse_ns -= cost_ns
