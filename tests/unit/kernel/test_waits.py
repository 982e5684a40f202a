# SPDX-License-Identifier: GPL-2.0-only
"""Waits: what a target waits for, from a /proc and control groups of our own."""

from __future__ import annotations

import pytest

from pagepulse.kernel.waits import WaitWatch
from pagepulse.model.system import Delays

SECOND = 1_000_000_000
PRESSURE = "some avg10=12.50 avg60=1.00 avg300=0.10 total=900\nfull avg10=2.00 avg60=0.00 avg300=0.00 total=400\n"


class FakeDelays:
    def __init__(self, *told):
        self.told = list(told)
        self.asked = []

    def of(self, pid):
        self.asked.append(pid)
        return self.told.pop(0)


@pytest.fixture(name="place")
def _place(tmp_path):
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "7" / "cgroup").write_text("12:memory:/old\n0::/a.slice/b.service\n")
    group = tmp_path / "groups" / "a.slice" / "b.service"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("7\n")
    (group / "memory.pressure").write_text(PRESSURE)
    return tmp_path


def watch_of(place, delays=None):
    return WaitWatch(7, delays, place / "proc", (place / "groups",))


def test_the_share_of_time_that_was_waited_is_of_the_time_between_two_looks():
    watch = WaitWatch(7, FakeDelays(Delays(5, 5, 5), Delays(5 + SECOND, 5 + SECOND, 5)))
    assert watch.look(10 * SECOND).share == 0
    assert watch.look(14 * SECOND).share == 0.5


def test_nobody_is_asked_again_within_two_seconds():
    delays = FakeDelays(Delays(1, 2, 3), Delays(1, 2, 4))
    watch = WaitWatch(7, delays)
    watch.look(SECOND)
    assert watch.look(SECOND + 1).delays == Delays(1, 2, 3)
    assert delays.asked == [7]


@pytest.mark.parametrize("told", [(None, Delays(1, 1, 1)), (Delays(9, 9, 9), None), (Delays(9, 9, 9), Delays(1, 1, 1))])
def test_what_cannot_be_compared_is_no_wait(told):
    watch = WaitWatch(7, FakeDelays(*told))
    watch.look(SECOND)
    assert watch.look(9 * SECOND).share == 0


def test_pressure_is_that_of_the_group_it_is_in_now(place):
    watch = watch_of(place)
    assert watch.look(SECOND).pressure.some_avg10 == 0.125
    assert watch.look(SECOND).pressure.full_us == 400
    (place / "proc" / "7" / "cgroup").write_text("0::/a.slice\n")
    assert watch.look(9 * SECOND).pressure is None  # no such group here


@pytest.mark.parametrize("membership", ["0::/\n", "", "12:memory:/old\n"])
def test_without_a_group_of_its_own_there_is_no_pressure_of_it(place, membership):
    (place / "proc" / "7" / "cgroup").write_text(membership)
    (place / "groups" / "cgroup.procs").write_text("7\n")
    (place / "groups" / "memory.pressure").write_text(PRESSURE)
    assert watch_of(place).look(SECOND).pressure is None


def test_a_process_that_has_ended_waits_for_nothing(place):
    (place / "proc" / "7" / "cgroup").unlink()
    assert watch_of(place, FakeDelays(None)).look(SECOND).pressure is None


# --- is its memory short? ------------------------------------------------------------------------------------------

NONE = PRESSURE.replace("12.50", "0.00")


def is_short(place, *, watch=None, at=SECOND):
    return (watch or watch_of(place)).look(at).is_short


def test_pressure_of_its_group_says_whether_memory_is_short_whatever_the_machine_has(place):
    (place / "proc" / "pressure").mkdir()
    (place / "proc" / "pressure" / "memory").write_text(NONE)
    assert is_short(place)
    (place / "groups" / "a.slice" / "b.service" / "memory.pressure").write_text(NONE)
    (place / "proc" / "pressure" / "memory").write_text(PRESSURE)
    assert not is_short(place)


@pytest.mark.parametrize("membership", ["0::/\n", "12:memory:/old\n"])
def test_without_a_group_of_its_own_the_pressure_of_the_machine_counts(place, membership):
    (place / "proc" / "7" / "cgroup").write_text(membership)
    (place / "proc" / "pressure").mkdir()
    (place / "proc" / "pressure" / "memory").write_text(PRESSURE)
    assert is_short(place)
    assert watch_of(place).look(SECOND).pressure is None  # it is not the group's
    (place / "proc" / "pressure" / "memory").write_text(NONE)
    assert not is_short(place)


@pytest.mark.parametrize(("source", "membership"), [
    ("proc/vmstat", "0::/\n"), ("groups/a.slice/b.service/memory.stat", "0::/a.slice/b.service\n"),
    ("groups/memory/old/memory.stat", "12:memory:/old\n0::/\n")])
def test_where_no_pressure_is_measured_what_comes_back_after_reclaim_counts(place, source, membership):
    (place / "proc" / "7" / "cgroup").write_text(membership)
    (place / "groups" / "a.slice" / "b.service" / "memory.pressure").unlink()
    counters = place / source
    counters.parent.mkdir(parents=True, exist_ok=True)
    (place / "proc" / "vmstat").write_text("workingset_refault_anon 5\n")
    watch, found = watch_of(place), []
    for second, pages in enumerate((1000, 1050, 1400, 1410), start=1):
        counters.write_text(f"pgsteal 70\nworkingset_refault_anon {pages - 900}\nworkingset_refault_file 900\n")
        found.append(is_short(place, watch=watch, at=2 * second * SECOND))
    assert found == [False, False, True, False]


def test_where_nothing_is_measured_memory_is_not_short(place):
    (place / "groups" / "a.slice" / "b.service" / "memory.pressure").unlink()
    assert not is_short(place)
