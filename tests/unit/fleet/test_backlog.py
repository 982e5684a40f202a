# SPDX-License-Identifier: GPL-2.0-only
"""Backlog: who is got to know next, and when."""

from __future__ import annotations

from pagepulse.fleet.backlog import Backlog, Unknown
from pagepulse.policy.shares import SharedBudget

MIB = 1 << 20
SECOND = 1_000_000_000


def backlog_of(**sizes_mib):
    sizes = {int(name[1:]): size * MIB for name, size in sizes_mib.items()}
    backlog = Backlog(sizes.get)
    backlog.add(sizes, newborn=set())
    return backlog


def taken(backlog, budget, cost_ns):
    pids = []
    while (pid := backlog.take(budget)) is not None:
        pids.append(pid)
        budget.opened(cost_ns)
    return pids


def test_the_largest_comes_first_and_what_waits_is_said():
    backlog = backlog_of(p1=10, p2=300, p3=20)
    assert backlog.unknown == Unknown(3, 330 * MIB)
    assert [backlog.take(SharedBudget(0.01)) for _ in range(4)] == [2, 3, 1, None]
    assert backlog.unknown == Unknown()


def test_who_has_ended_is_not_offered():
    backlog = backlog_of(p1=10, p2=20)
    backlog.forget(2)
    assert (len(backlog), backlog.take(SharedBudget(0.01)), len(backlog)) == (1, 1, 0)


def test_a_process_is_queued_once():
    backlog = backlog_of(p1=10)
    backlog.add([1, 1], newborn={1})
    assert taken(backlog, SharedBudget(0.01), 0.0) == [1]


def test_one_that_has_ended_and_whose_number_is_used_again_is_offered_once():
    backlog = backlog_of(p1=10)
    backlog.forget(1)
    backlog.add([1], newborn={1})
    assert taken(backlog, SharedBudget(0.01), 0.0) == [1]


def test_hundreds_at_once_cost_what_one_large_target_may_and_then_what_the_budget_allows():
    budget = SharedBudget(0.01)
    backlog = backlog_of(**{f"p{pid}": 20 for pid in range(1, 301)})
    assert len(taken(backlog, budget, 5e6)) == 60
    for _ in range(40):
        budget.spent(SECOND, 2e6, 5e6)
        taken(backlog, budget, 5e6)
    assert 300 - len(backlog) == 100


def test_who_is_born_meanwhile_does_not_wait_for_those_that_were_there_already():
    budget = SharedBudget(0.01)
    backlog = backlog_of(**{f"p{pid}": 20 for pid in range(1, 301)})
    taken(backlog, budget, 5e6)
    backlog.add([1000], newborn={1000})
    assert backlog.take(budget) == 1000


def test_a_flood_of_births_waits_for_the_budget():
    budget = SharedBudget(0.01)
    backlog = Backlog(lambda _pid: MIB)
    backlog.add(range(1, 1001), newborn=set(range(1, 1001)))
    assert len(taken(backlog, budget, 5e6)) == 80
    budget.spent(SECOND, 0, 0)
    assert len(taken(backlog, budget, 5e6)) == 1
