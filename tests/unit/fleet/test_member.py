# SPDX-License-Identifier: GPL-2.0-only
"""Member and glances: who sleeps is left alone, longer and longer, and who wakes is visited."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pagepulse.errors import TargetGone
from pagepulse.fleet.glances import Glances
from pagepulse.fleet.member import Member

SECOND = 1_000_000_000
MIB = 1 << 20


@dataclass
class FakeProcess:
    pid: int = 0
    clock_ns: int = 1
    rss: int = 20 * MIB
    is_gone: bool = False

    def cpu_clock_ns(self):
        if self.is_gone:
            raise TargetGone("gone")
        return self.clock_ns

    def rss_bytes(self):
        return self.rss


@dataclass
class FakeMonitor:
    woken_pages: int = 0
    looked: list = field(default_factory=list)

    def glance(self, windows):
        self.looked.append(windows)
        return self.woken_pages


def sleeper(begun_ns=0):
    """A member that is known and asleep since the beginning of its interval."""
    member = Member(FakeProcess(), None, None, FakeMonitor(), begun_ns=begun_ns, rss_bytes=20 * MIB, seen=1,
                    interval_ns=SECOND)
    member.asleep_until_ns(begun_ns)
    return member


def test_who_sleeps_is_left_alone_for_a_minute_and_then_for_ten():
    member = sleeper()
    assert member.asleep_until_ns(SECOND) == 60 * SECOND
    assert member.is_asleep
    assert member.asleep_until_ns(60 * SECOND) <= 60 * SECOND  # its interval is over
    member.begun_ns = 60 * SECOND
    assert member.asleep_until_ns(61 * SECOND) == 660 * SECOND
    member.begun_ns = 7200 * SECOND
    assert member.asleep_until_ns(7201 * SECOND) == 7800 * SECOND


def test_a_sleeper_whose_time_has_come_waits_a_little_more_while_too_much_was_spent():
    member = sleeper()
    assert member.asleep_until_ns(61 * SECOND, owes=True) == 66 * SECOND
    assert member.is_asleep
    assert member.asleep_until_ns(66 * SECOND, owes=False) <= 66 * SECOND
    assert not member.is_asleep
    member.process.clock_ns += 1
    assert member.asleep_until_ns(66 * SECOND, owes=True) == 0  # who woke does not wait


def test_those_that_fell_asleep_together_are_not_visited_together():
    members = [sleeper() for _ in range(100)]
    for pid, member in enumerate(members):
        member.process.pid = pid
    due_s = sorted(member.asleep_until_ns(SECOND) // SECOND for member in members)
    assert (due_s[0], due_s[-1]) == (60, 119)
    assert all(due_s.count(second) <= 4 for second in due_s)


def test_who_ran_is_visited_at_once_and_has_to_fall_asleep_again():
    member = sleeper()
    member.asleep_until_ns(SECOND)
    member.process.clock_ns += 1
    assert member.asleep_until_ns(30 * SECOND) == 0
    assert not member.is_asleep
    member.begun_ns = 31 * SECOND
    assert member.asleep_until_ns(32 * SECOND) == 91 * SECOND


@pytest.mark.parametrize(("seen", "unknown"), [(0, 0), (1, 2 * MIB)])
def test_who_is_not_known_is_visited_even_if_it_sleeps(seen, unknown):
    member = sleeper()
    member.seen, member.unknown_bytes = seen, unknown
    assert member.asleep_until_ns(SECOND) == 0


def glances_at(member, now_ns, *, may_hurry=True):
    glances = Glances(0.01, lambda: 0)
    glances.add(member)
    return [due_ns for _, due_ns in glances.look(now_ns, may_hurry=may_hurry)]


def test_a_glance_at_a_sleeper_costs_no_read_of_its_memory():
    member = sleeper()
    member.has_run()
    member.due_ns = 60 * SECOND
    assert glances_at(member, 5 * SECOND) == []
    assert member.monitor.looked == []


def test_a_sleeper_from_which_memory_was_taken_is_visited():
    member = sleeper()
    member.has_run()
    member.due_ns, member.process.rss = 60 * SECOND, 10 * MIB
    assert glances_at(member, 5 * SECOND) == [5 * SECOND]
    assert glances_at(member, 5 * SECOND, may_hurry=False) == []


def test_a_sleeper_that_ran_is_visited_when_its_usual_interval_is_over():
    member = sleeper()
    member.due_ns, member.is_asleep = 60 * SECOND, True
    assert glances_at(member, 5 * SECOND) == [5 * SECOND]
    assert not member.is_asleep
    member.process.clock_ns += 1
    member.interval_ns, member.due_ns = 20 * SECOND, 60 * SECOND
    assert glances_at(member, 5 * SECOND) == [20 * SECOND]


@pytest.mark.parametrize(("may_hurry", "due_ns"), [(True, 5 * SECOND), (False, 20 * SECOND)])
def test_who_has_much_to_show_is_visited_out_of_turn_unless_there_is_debt(may_hurry, due_ns):
    member = sleeper()
    member.interval_ns, member.due_ns = 20 * SECOND, 60 * SECOND
    member.monitor.woken_pages = 1000
    assert glances_at(member, 5 * SECOND, may_hurry=may_hurry) == [due_ns]


def test_who_is_gone_is_visited_to_find_out():
    member = sleeper()
    member.due_ns, member.process.is_gone = 60 * SECOND, True
    assert glances_at(member, 5 * SECOND) == [5 * SECOND]


def test_a_round_takes_two_seconds_at_least_and_each_look_is_at_a_part_of_it():
    glances = Glances(0.01, lambda: 0)
    members = [sleeper() for _ in range(80)]
    for member in members:
        member.due_ns = 60 * SECOND
        glances.add(member)
    glances.look(0, may_hurry=True)
    glances.look(glances.due_ns, may_hurry=True)
    seen = [member for member in members if member.clock_at_glance_ns != -1]
    assert len(seen) == 20
    assert glances.due_ns >= SECOND // 2
