# SPDX-License-Identifier: GPL-2.0-only
"""Shares: what each of many targets gets of one budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.policy.shares import SharedBudget, intervals_ns

SHORTEST_NS = 100_000_000
MIB = 1 << 20

targets = st.lists(st.tuples(st.floats(1e5, 1e8), st.floats(1e3, 1e12)), min_size=1, max_size=50)


def intervals(pairs, share=0.01):
    costs, weights = map(np.array, zip(*pairs, strict=True))
    return intervals_ns(costs, weights, share, SHORTEST_NS), costs


@given(targets, st.floats(0.001, 1.0))
def test_all_visits_together_stay_within_the_share_but_for_those_at_the_longest_interval(pairs, share):
    chosen, costs = intervals(pairs, share)
    spent = costs / chosen
    assert spent[chosen < 120_000_000_000].sum() <= share * 1.001


@given(targets)
def test_nobody_is_visited_more_often_than_asked_for(pairs):
    assert (intervals(pairs)[0] >= SHORTEST_NS).all()


@given(targets)
def test_what_the_fastest_leave_over_goes_to_the_others(pairs):
    chosen, costs = intervals(pairs)
    slow = (chosen > SHORTEST_NS * 1.001) & (chosen < 119_000_000_000)
    if slow.any() and (chosen < 119_000_000_000).all():
        assert (costs / chosen).sum() == pytest.approx(0.01, rel=0.01)


def test_of_two_that_cost_the_same_the_one_with_four_times_the_memory_is_visited_twice_as_often():
    chosen, _ = intervals([(1e7, 400 * MIB), (1e7, 100 * MIB)])
    assert chosen[1] / chosen[0] == pytest.approx(2, rel=0.01)


def test_cost_follows_memory_and_not_the_number_of_processes():
    many = [(1.5e6, 256 << 10)] * 300
    chosen, costs = intervals([*many, (5e6, 1 << 30)])
    assert (costs / chosen).sum() <= 0.0101
    assert chosen[-1] < chosen[0] / 20


def test_what_was_spent_too_much_is_saved_again():
    budget = SharedBudget(0.01)
    for _ in range(20):
        budget.spent(1_000_000_000, 8e6, 0)
    before = budget.free
    budget.spent(1_000_000_000, 60e6, 0)
    assert budget.is_in_debt
    assert budget.free < before
    assert budget.owes(0)
    for _ in range(30):
        budget.spent(1_000_000_000, 4e6, 0)
    assert not budget.is_in_debt
    assert not budget.owes(9e6)
    assert budget.owes(11e6)  # before it is booked


def test_visits_get_what_events_and_new_targets_leave():
    quiet, busy = SharedBudget(0.01), SharedBudget(0.01)
    for _ in range(60):
        quiet.spent(1_000_000_000, 5e6, 0)
        busy.spent(1_000_000_000, 3e6, 4e6)
    assert busy.free < quiet.free


def test_while_targets_wait_to_be_known_visits_leave_them_their_share():
    budget = SharedBudget(0.01)
    budget.spent(1_000_000_000, 5e6, 0)
    before = budget.free
    budget.is_opening = True
    assert 0.002 < budget.free < 0.5 * before


def test_new_targets_take_a_burst_at_once_and_those_just_born_a_little_more():
    budget = SharedBudget(0.01)
    taken = 0
    while budget.may_open:
        budget.opened(6e6)
        taken += 1
    assert taken == 50
    assert budget.may_open_newborn
    while budget.may_open_newborn:
        budget.opened(6e6)
        taken += 1
    assert taken == 67
    budget.spent(1_000_000_000, 5e6, 0)
    assert budget.may_open_newborn
    assert not budget.may_open


def opened_in(budget: SharedBudget, seconds: int, visits_ns: float) -> int:
    """How many targets of 9 ms each may be opened, after the burst, while visits take so much a second."""
    while budget.may_open:
        budget.opened(9e6)
    for _ in range(20):  # after the start, with the purse empty
        budget.spent(1_000_000_000, visits_ns, 0)
        budget.opened(5e6)
    count = 0
    for _ in range(seconds):
        spent = 0.0
        while budget.may_open:
            budget.opened(9e6)
            spent, count = spent + 9e6, count + 1
        budget.spent(1_000_000_000, visits_ns, spent)
    return count


def test_getting_to_know_targets_gives_way_when_all_together_cost_too_much():
    few_visits, many_visits = opened_in(SharedBudget(0.01), 300, 3e6), opened_in(SharedBudget(0.01), 300, 6e6)
    assert few_visits * 9e6 + 300 * 3e6 <= 300 * 10e6
    assert many_visits * 9e6 + 300 * 6e6 <= 300 * 10e6
    assert many_visits < few_visits


def test_however_much_is_owed_every_target_is_known_in_the_end():
    assert opened_in(SharedBudget(0.01), 300, 30e6) * 9e6 >= 0.08 * 300 * 10e6
