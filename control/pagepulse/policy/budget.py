# SPDX-License-Identifier: GPL-2.0-only
"""Budget: keep what monitoring costs, the target's part included, under a share of one CPU.

The cost of an aggregation interval hardly depends on its length, so the interval follows from the cost: cost / budget,
never shorter than what was asked for. Where the interval is pinned, the number of probes gives way instead.
"""

from __future__ import annotations

from pagepulse.model.plan import Limits
from pagepulse.model.prices import Prices

_USE = 0.85  # of the budget, so that a bad second stays inside
_HYSTERESIS = 0.15  # changes of the interval smaller than this are left alone
_SMOOTHING = 0.2  # weight of the newest interval in the running mean
_ALARM = 0.4  # and where it was dearer: what is overspent has to be saved again
_STEP = 1.5  # the interval changes by at most this factor at once
_SPIKE = 1.5  # what costs more than so many times the usual does not come again each time: it is only saved again
_LONGEST_NS, _LONGEST_WHOLE_NS = 10_000_000_000, 60_000_000_000
_SWEEP_SHARE, _SWEEP_SHARE_IN_DEBT = 0.25, 0.1  # of the budget, once the target is known
_TELLING_PAGES, _DEAREST_TIMES = 1024, 8.0  # a sweep of so many pages tells what one costs, up to so many times a clear
_FIRST_SWEEP_NS = 300_000_000  # getting to know a target: 16 GiB at 62 ns a page, and some time to look
_FIRST_SWEEP_SHARE = 0.1  # of a CPU, until then
_WARM_UP_NS, _FIRST_SWEEP_ENDS_NS = 1_000_000_000, 10_000_000_000  # a quick picture is worth more than the budget
_REPAY_NS = 10_000_000_000  # what was spent too much is saved again over this time,
_REPAY_START_NS = 30_000_000_000  # and the price of getting to know the target over this
_FREE_AT_LEAST = 0.5  # of the budget
_PATROL_NS = 2_000_000_000  # a round over all watched windows should take this long
_PATROL_AT_LEAST, _PATROL_AT_ONCE = 128, 4096  # windows in one interval
_PATROL_SHARE = 0.15  # of the budget
_FEWEST_PROBES, _USUAL_PROBES, _MOST_PROBES = 2, 64, 128


class Budget:
    """The controller.

    Args:
        share: Of one CPU.
        aggregation_ns: Shortest aggregation interval.
        prices: For what is not measured directly.
        pinned: The interval is the user's, and stays.
    """

    def __init__(self, share: float, aggregation_ns: int, prices: Prices, *, pinned: bool) -> None:
        self.share = share
        self.shortest_ns = aggregation_ns
        self._prices = prices
        self._longest_ns = _LONGEST_NS
        self._pinned = pinned
        self.aggregation_ns = aggregation_ns
        self._probes = float(_USUAL_PROBES)
        self._cost_ns: float | None = None
        self._sweep_share = 0.0
        self._age_ns = 0
        self._debt_ns = self._start_debt_ns = 0.0
        self._range_pages = prices.range_clear_ns / prices.page_clear_ns
        self._swept_page_ns = prices.page_clear_ns  # with all that a sweep is beside clears
        self._swept_pages = 0.0
        self._allowed_pages = 0.0
        self.slowdown = 1.0
        """The target waits for memory: it is looked at so many times more seldom."""
        self._first_sweep_pages = _FIRST_SWEEP_NS / prices.page_clear_ns

    def at_least(self, shortest_ns: int) -> None:
        """Each interval clears the target as a whole from now on: give it time to show, and longer where that is dear.

        Args:
            shortest_ns: Aggregation interval, unless the user pinned another.
        """
        self._longest_ns = _LONGEST_WHOLE_NS
        if not self._pinned:
            self.shortest_ns = max(self.shortest_ns, shortest_ns)
            self.aggregation_ns = max(self.aggregation_ns, shortest_ns)

    def limits(self, windows: int) -> Limits:
        """What the next aggregation interval may do.

        Args:
            windows: How many windows the target has.
        """
        affordable = _PATROL_SHARE * self.share * self.aggregation_ns / self._prices.window_read_ns
        patrol = int(min(windows * self.aggregation_ns / _PATROL_NS, affordable, _PATROL_AT_ONCE))
        sweep_share = _SWEEP_SHARE_IN_DEBT if self._debt_ns > 0 else _SWEEP_SHARE
        pages = sweep_share * self.share * self.aggregation_ns / self._swept_page_ns
        if self._first_sweep_pages > 0:
            at_once = _FIRST_SWEEP_SHARE * self.aggregation_ns / self._prices.page_clear_ns
            pages = max(pages, min(self._first_sweep_pages, at_once))
        self._allowed_pages = pages
        return Limits(probes=round(self._probes), patrol=max(patrol, _PATROL_AT_LEAST), sweep_pages=int(pages),
                      range_pages=self._range_pages)

    def swept(self, pages: int, ranges: int) -> None:
        """Book pages that a sweep cleared, and the ranges they came in."""
        cost_pages = self._swept_pages = pages + ranges * self._range_pages
        self._first_sweep_pages -= cost_pages
        if cost_pages < self._allowed_pages / 2:  # there was no more to do: what comes later can take its time
            self._first_sweep_pages = 0.0

    def spent(self, duration_ns: int, steady_ns: float, sweep_ns: float, once_ns: float = 0.0) -> None:
        """Book what an interval cost, and set the next one.

        Args:
            duration_ns: How long it took.
            steady_ns: CPU and tax of everything but sweeps.
            sweep_ns: CPU and tax of sweeps.
            once_ns: Tax that does not come again with each interval: memory that woke up. It is only saved again.
        """
        self._age_ns += duration_ns
        if self._swept_pages >= _TELLING_PAGES:
            page_ns = min(sweep_ns / self._swept_pages, _DEAREST_TIMES * self._prices.page_clear_ns)
            self._swept_page_ns += _SMOOTHING * (page_ns - self._swept_page_ns)
        self._debt_ns = max(self._debt_ns + steady_ns + sweep_ns + once_ns - self.share * duration_ns, 0.0)
        if self._age_ns <= _FIRST_SWEEP_ENDS_NS:
            self._start_debt_ns, self._debt_ns = self._start_debt_ns + self._debt_ns, 0.0
        if self._age_ns < _WARM_UP_NS:
            return
        mean = steady_ns if self._cost_ns is None else self._cost_ns
        usual_ns = steady_ns if self._pinned else min(steady_ns, _SPIKE * mean)
        self._cost_ns = mean + (_ALARM if usual_ns > mean else _SMOOTHING) * (usual_ns - mean)
        if self._age_ns > _FIRST_SWEEP_ENDS_NS:
            self._first_sweep_pages = 0.0
            self._sweep_share += _SMOOTHING * (sweep_ns / duration_ns - self._sweep_share)
        repaid_ns = min(self._start_debt_ns, self._start_debt_ns * duration_ns / _REPAY_START_NS)
        self._start_debt_ns -= repaid_ns
        free = _USE * self.share - self._sweep_share - self._debt_ns / _REPAY_NS - repaid_ns / duration_ns
        free = max(free, _FREE_AT_LEAST * self.share)
        wanted_ns = min(max(self._cost_ns / free, self.shortest_ns if self.slowdown > 1 else 0.0) * self.slowdown,
                        self._longest_ns)
        if self._pinned:
            self._adapt_probes(wanted_ns / self.aggregation_ns)
            return
        if abs(wanted_ns / self.aggregation_ns - 1) > _HYSTERESIS:
            step = min(max(wanted_ns / self.aggregation_ns, 1 / _STEP), _STEP)
            self.aggregation_ns = max(round(self.aggregation_ns * step), self.shortest_ns)
        if self.aggregation_ns == self.shortest_ns:
            self._adapt_probes(wanted_ns / self.aggregation_ns)
        else:
            self._probes = _USUAL_PROBES

    def _adapt_probes(self, load: float) -> None:
        """More probes where there is budget left, fewer where it is overdrawn; `load` is cost / budget."""
        if load > 1 + _HYSTERESIS:
            self._probes = max(self._probes * 0.8, _FEWEST_PROBES)
        elif load < 1 - 2 * _HYSTERESIS:
            self._probes = min(self._probes * 1.1, _MOST_PROBES)
