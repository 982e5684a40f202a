# SPDX-License-Identifier: GPL-2.0-only
"""Budget: against machines whose costs are known, it settles inside what was promised, and stays there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pagepulse.model.prices import Prices
from pagepulse.policy.budget import Budget

MS = 1_000_000
SECOND = 1000 * MS
PRICES = Prices(window_read_ns=200.0, page_clear_ns=62.0, range_clear_ns=2500.0, retouch_ns=160.0)
WINDOWS = 65536

Cost = Callable[[int, int], float]
"""Nanoseconds that an interval costs, from its length and its probes."""


class Run:
    """What a controller did."""

    def __init__(self, budget: Budget, cost: Cost, *, seconds: float, sweeps: bool = False) -> None:
        self.lengths_ns: list[int] = []
        self.probes: list[int] = []
        self.spent_ns: list[float] = []
        time_ns = 0
        while time_ns < seconds * SECOND:
            limits = budget.limits(WINDOWS)
            length_ns = budget.aggregation_ns
            sweep_ns = 0.0
            if sweeps:
                budget.swept(limits.sweep_pages, 0)
                sweep_ns = limits.sweep_pages * (PRICES.page_clear_ns + PRICES.retouch_ns)
            steady_ns = cost(length_ns, limits.probes)
            budget.spent(length_ns, steady_ns, sweep_ns)
            time_ns += length_ns
            self.lengths_ns.append(length_ns)
            self.probes.append(limits.probes)
            self.spent_ns.append(steady_ns + sweep_ns)

    def share(self, last_s: float) -> float:
        """Share of one CPU that the last so many seconds cost."""
        time_ns, cost_ns = 0, 0.0
        for length_ns, spent_ns in zip(reversed(self.lengths_ns), reversed(self.spent_ns), strict=True):
            time_ns, cost_ns = time_ns + length_ns, cost_ns + spent_ns
            if time_ns >= last_s * SECOND:
                break
        return cost_ns / time_ns

    def changes(self, last: int) -> int:
        """How often the length of the interval changed among the last so many."""
        return int(np.count_nonzero(np.diff(self.lengths_ns[-last:])))


def budget_of(share: float = 0.01, *, pinned: bool = False) -> Budget:
    return Budget(share, 100 * MS, PRICES, pinned=pinned)


def fixed(cost_ns: float) -> Cost:
    return lambda _length_ns, _probes: cost_ns


def by_probes(each_ns: float, base_ns: float = 0.0) -> Cost:
    return lambda _length_ns, probes: base_ns + each_ns * probes


def each(pause_s: float, extra_ns: float, cost_ns: float) -> Cost:
    """Something that comes by the clock, however long intervals are: a program that turns to other memory."""
    passed = [0, 0]

    def cost(length_ns: int, _probes: int) -> float:
        before, passed[0] = passed[0], passed[0] + length_ns
        return cost_ns + extra_ns * (passed[0] // int(pause_s * SECOND) - before // int(pause_s * SECOND))
    return cost


# --- the interval --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("cost_ns", [2 * MS, 5 * MS, 20 * MS])
@pytest.mark.parametrize("share", [0.01, 0.03])
def test_the_interval_grows_until_the_cost_fits_the_budget_and_wastes_little_of_it(cost_ns, share):
    run = Run(budget_of(share), fixed(cost_ns), seconds=200)
    assert 0.6 * share <= run.share(last_s=60) <= share


def test_a_cost_that_fits_leaves_the_interval_as_it_was_asked_for():
    run = Run(budget_of(), fixed(0.3 * MS), seconds=60)
    assert set(run.lengths_ns) == {100 * MS}


def test_an_interval_that_settled_does_not_swing():
    rng = np.random.default_rng(0)
    run = Run(budget_of(), lambda _length, _probes: 4 * MS * rng.normal(1, 0.1), seconds=300)
    assert run.changes(last=200) <= 2


def test_one_expensive_interval_moves_nothing_for_long():
    costs = iter([4 * MS] * 300 + [40 * MS] + [4 * MS] * 10_000)
    run = Run(budget_of(), lambda _length, _probes: next(costs), seconds=400)
    assert run.lengths_ns[-1] == pytest.approx(run.lengths_ns[299], rel=0.3)


def test_where_intervals_become_dearer_they_become_longer_sooner_than_shorter_where_they_become_cheaper():
    costs = iter([4 * MS] * 300 + [6 * MS] * 4 + [4 * MS] * 10_000)
    run = Run(budget_of(), lambda _length, _probes: next(costs), seconds=400)
    assert run.lengths_ns[303] > 1.2 * run.lengths_ns[299]
    assert run.lengths_ns[305] > 1.1 * run.lengths_ns[299]


def test_what_comes_by_the_clock_is_paid_for_and_is_not_taken_for_the_price_of_an_interval():
    run = Run(budget_of(), each(6, 34 * MS, 7 * MS), seconds=200)
    assert run.share(last_s=60) <= 0.0105
    assert np.median(run.lengths_ns[-20:]) < 2.2 * SECOND


def test_the_interval_shrinks_again_when_the_target_becomes_cheaper():
    costs = iter([20 * MS] * 50 + [0.2 * MS] * 100_000)
    run = Run(budget_of(), lambda _length, _probes: next(costs), seconds=600)
    assert max(run.lengths_ns) > SECOND
    assert run.lengths_ns[-1] == 100 * MS


def test_the_interval_changes_by_no_more_than_half_at_once_and_has_an_end():
    run = Run(budget_of(), fixed(10 * SECOND), seconds=600)
    ratios = np.array(run.lengths_ns[1:]) / np.array(run.lengths_ns[:-1])
    assert ratios.max() <= 1.5 + 1e-6
    assert max(run.lengths_ns) <= 12 * SECOND


def test_what_was_spent_too_much_at_the_start_is_saved_again():
    costs = iter([50 * MS] * 10 + [2 * MS] * 100_000)
    run = Run(budget_of(), lambda _length, _probes: next(costs), seconds=900)
    lean = Run(budget_of(), fixed(2 * MS), seconds=900)
    assert run.share(last_s=1000) <= 0.0102
    assert max(run.lengths_ns) > 1.2 * max(lean.lengths_ns)
    assert run.lengths_ns[-1] == pytest.approx(lean.lengths_ns[-1], rel=0.3)


def test_what_memory_cost_that_woke_up_is_saved_again_and_is_not_expected_to_come_again():
    budget = budget_of()
    for _ in range(400):
        budget.spent(budget.aggregation_ns, 2 * MS, 0)
    usual_ns = budget.aggregation_ns
    budget.spent(usual_ns, 2 * MS, 0, 40 * MS)
    lengths_ns = []
    for _ in range(400):
        budget.spent(budget.aggregation_ns, 2 * MS, 0)
        lengths_ns.append(budget.aggregation_ns)
    assert 1.2 * usual_ns < max(lengths_ns) <= 2 * usual_ns
    assert lengths_ns[-1] == pytest.approx(usual_ns, rel=0.3)


# --- probes --------------------------------------------------------------------------------------------------------

def test_a_pinned_interval_stays_and_the_probes_give_way():
    run = Run(budget_of(pinned=True), by_probes(0.2 * MS), seconds=60)
    assert set(run.lengths_ns) == {100 * MS}
    assert run.probes[0] == 64
    assert run.probes[-1] < 8
    assert run.share(last_s=20) <= 0.01


def test_a_pinned_interval_that_cannot_be_paid_keeps_its_fewest_probes():
    run = Run(budget_of(pinned=True), fixed(50 * MS), seconds=30)
    assert set(run.lengths_ns) == {100 * MS}
    assert run.probes[-1] == 2


def test_budget_that_is_left_over_goes_into_more_probes_up_to_a_limit():
    run = Run(budget_of(), by_probes(1000.0, base_ns=0.1 * MS), seconds=60)
    assert run.probes[-1] == 128
    assert max(run.probes) == 128


def test_the_number_of_probes_does_not_swing():
    run = Run(budget_of(pinned=True), by_probes(0.05 * MS), seconds=120)
    assert len(set(run.probes[-200:])) == 1


# --- sweeps and patrols --------------------------------------------------------------------------------------------

def test_getting_to_know_a_target_takes_a_tenth_of_a_cpu_at_most_and_ends():
    budget = budget_of()
    limits = budget.limits(WINDOWS)
    assert limits.sweep_pages * PRICES.page_clear_ns <= 0.1 * 100 * MS
    assert limits.sweep_pages * PRICES.page_clear_ns > 0.09 * 100 * MS
    run = Run(budget, fixed(0.3 * MS), seconds=60, sweeps=True)
    assert sum(run.spent_ns[:100]) < 2 * SECOND
    assert run.share(last_s=20) <= 0.01


def test_sweeping_on_and_on_is_paid_by_longer_intervals():
    run = Run(budget_of(), fixed(2 * MS), seconds=300, sweeps=True)
    assert run.share(last_s=60) <= 0.01


def test_a_sweep_takes_its_share_by_what_a_page_really_costs():
    budget = budget_of()
    Run(budget, fixed(0.3 * MS), seconds=11)
    before = budget.limits(WINDOWS).sweep_pages
    for _ in range(40):
        pages = budget.limits(WINDOWS).sweep_pages
        budget.swept(pages, 0)
        budget.spent(SECOND, 0.0, pages * 4 * PRICES.page_clear_ns)
    assert budget.limits(WINDOWS).sweep_pages == pytest.approx(before / 4, rel=0.1)


def test_a_first_sweep_that_is_not_used_up_ends_after_ten_seconds():
    budget = budget_of()
    before = budget.limits(WINDOWS).sweep_pages
    Run(budget, fixed(0.3 * MS), seconds=11)
    assert budget.limits(WINDOWS).sweep_pages < before / 20


@pytest.mark.parametrize(("windows", "patrol"), [(0, 128), (4000, 200), (65536, 750)])
def test_a_patrol_comes_around_in_two_seconds_within_its_limits(windows, patrol):
    assert budget_of().limits(windows).patrol == patrol


@pytest.mark.parametrize(("gib", "pinned"), [(1, False), (16, False), (1, True)])
def test_where_every_interval_clears_the_whole_target_it_is_a_second_at_least_and_as_long_as_that_is_dear(gib, pinned):
    budget = Budget(0.01, 100 * MS, PRICES, pinned=pinned)
    budget.at_least(SECOND)
    run = Run(budget, lambda _length, _probes: gib * 16 * MS, seconds=600)
    assert min(run.lengths_ns) >= (100 * MS if pinned else SECOND)
    assert budget.aggregation_ns == 100 * MS if pinned else sum(run.spent_ns[-5:]) <= 0.01 * sum(run.lengths_ns[-5:])


def test_a_target_that_waits_for_memory_is_looked_at_more_seldom_and_then_as_before():
    budget = Budget(0.01, 100 * MS, PRICES, pinned=False)
    usual_ns = Run(budget, lambda _length, _probes: 0.3 * MS, seconds=30).lengths_ns[-1]
    budget.slowdown = 4.0
    slow_ns = Run(budget, lambda _length, _probes: 0.3 * MS, seconds=60).lengths_ns[-1]
    assert slow_ns == pytest.approx(4 * usual_ns, rel=0.2)
    budget.slowdown = 1.0
    assert Run(budget, lambda _length, _probes: 0.3 * MS, seconds=60).lengths_ns[-1] == usual_ns
