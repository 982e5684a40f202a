# SPDX-License-Identifier: GPL-2.0-only
"""The budget: the interval follows the cost, without swinging; a pinned interval stays."""

import pytest

from pagepulse.model.prices import Prices
from pagepulse.policy.budget import Budget

PRICES = Prices(window_read_ns=200, page_clear_ns=60, range_clear_ns=500, retouch_ns=40)
SHORTEST = 100_000_000


def settle(budget, cost_ns, seconds=120.0, sweep_ns=0.0):
    """Let so much time pass, each interval at this cost; the intervals of the last half."""
    passed, intervals = 0.0, []
    while passed < seconds:
        length = budget.aggregation_ns
        budget.spent(length, cost_ns, sweep_ns)
        passed += length / 1e9
        if passed > seconds / 2:
            intervals.append(length)
    return intervals


@pytest.mark.parametrize("cost_ns", [1_500_000, 4_000_000, 20_000_000])
@pytest.mark.parametrize("share", [0.005, 0.01, 0.05])
def test_the_cost_comes_to_rest_within_the_budget(cost_ns, share):
    intervals = settle(Budget(share, SHORTEST, PRICES, pinned=False), cost_ns)

    assert cost_ns / min(intervals) <= share * 1.1
    assert max(intervals) / min(intervals) < 1.6


def test_a_cheap_target_is_looked_at_as_often_as_was_asked_for():
    assert set(settle(Budget(0.01, SHORTEST, PRICES, pinned=False), 300_000)) == {SHORTEST}


def test_a_pinned_interval_stays_and_probes_give_way():
    budget = Budget(0.01, SHORTEST, PRICES, pinned=True)
    usual = budget.limits(4096).probes

    assert set(settle(budget, 5_000_000)) == {SHORTEST}
    assert budget.limits(4096).probes < usual


def test_the_first_sweep_is_bounded():
    budget = Budget(0.01, SHORTEST, PRICES, pinned=False)
    swept = 0
    for _ in range(100):
        pages = budget.limits(4096).sweep_pages
        budget.swept(pages)
        swept += pages

    assert swept * PRICES.page_clear_ns < 300_000_000


def test_what_start_up_overspent_is_saved_again():
    budget = Budget(0.01, SHORTEST, PRICES, pinned=False)
    spent = passed = 0.0
    while passed < 60e9:
        cost = 80_000_000.0 if not passed else 3_000_000.0
        length = budget.aggregation_ns
        budget.spent(length, cost, 0.0)
        passed += length
        spent += cost

    assert spent / passed <= 0.0105
