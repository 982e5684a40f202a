# SPDX-License-Identifier: GPL-2.0-only
"""Roster and selection: who is meant, on a /proc of our own and with events that we tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagepulse.errors import Unsupported
from pagepulse.fleet import roster as roster_module
from pagepulse.fleet.roster import RIPE_NS, Roster
from pagepulse.fleet.selection import Selection
from pagepulse.kernel.census import Census
from pagepulse.kernel.events import Happened

SECOND = 1_000_000_000
MIB_PAGES = 256


class FakeEvents:
    def __init__(self):
        self.lost = 0
        self.told = []

    def drain(self):
        told, self.told = self.told, []
        return told

    def fileno(self):
        return -1

    def close(self):
        pass

    def fork(self, at_ns, parent, pid):
        self.told.append(Happened(at_ns, pid, parent))

    def change(self, at_ns, pid):
        self.told.append(Happened(at_ns, pid, None, changed=True))

    def exit(self, at_ns, pid):
        self.told.append(Happened(at_ns, pid, None))


@pytest.fixture(name="events")
def _events(monkeypatch):
    events = FakeEvents()
    monkeypatch.setattr(roster_module, "ProcessEvents", lambda **_: events)
    return events


class Proc:
    def __init__(self, root: Path):
        self.root = root

    def start(self, pid, parent=1, rss_pages=MIB_PAGES, exe="/usr/bin/work"):
        place = self.root / str(pid)
        place.mkdir()
        (place / "stat").write_text(f"{pid} (a) b) S {parent} " + "0 " * 17 + "77 0")
        (place / "statm").write_text(f"900 {rss_pages} 0")
        (place / "comm").write_text("work\n")
        (place / "exe").symlink_to(exe)

    def grow(self, pid, rss_pages):
        (self.root / str(pid) / "statm").write_text(f"900 {rss_pages} 0")

    def become(self, pid, exe):
        (self.root / str(pid) / "exe").unlink()
        (self.root / str(pid) / "exe").symlink_to(exe)

    def end(self, pid):
        for path in (self.root / str(pid)).iterdir():
            path.unlink()
        (self.root / str(pid)).rmdir()


@pytest.fixture(name="proc")
def _proc(tmp_path):
    return Proc(tmp_path)


def roster_of(proc, **selection):
    return Roster(Selection(**selection), Census(proc.root))


def test_named_processes_are_watched_at_once(proc):
    proc.start(10, rss_pages=1)
    proc.start(11)
    assert roster_of(proc, pids=frozenset({10, 11})).call(0) == (set(), [10, 11])


def test_children_that_are_there_already_belong_to_the_tree(proc, events):
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        proc.start(pid, parent)
    assert roster_of(proc, pids=frozenset({10}), children=True).call(0)[1] == [10, 11, 12]


def test_a_new_child_is_offered_once_it_has_lived_a_while(proc, events):
    proc.start(10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    proc.start(11, 10)
    events.fork(SECOND, 10, 11)
    assert roster.call(SECOND)[1] == []
    assert roster.due_ns() == SECOND + RIPE_NS
    assert roster.call(SECOND + RIPE_NS)[1] == [11]


def test_a_short_life_is_never_looked_at(proc, events):
    proc.start(10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    events.fork(SECOND, 10, 11)
    events.exit(SECOND + 1, 11)
    assert roster.call(SECOND + RIPE_NS) == ({11}, [])
    assert roster.waiting == 0


def test_forks_of_others_do_not_belong_to_the_tree(proc, events):
    proc.start(10)
    proc.start(20)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    events.fork(SECOND, 20, 21)
    proc.start(21, 20)
    assert roster.call(2 * SECOND)[1] == []


def test_a_tree_is_followed_when_its_root_has_ended_and_over_when_all_have(proc, events):
    proc.start(10)
    proc.start(11, 10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    events.exit(SECOND, 10)
    proc.end(10)
    assert roster.call(SECOND)[0] == {10}
    proc.start(12, 11)
    events.fork(SECOND, 11, 12)
    assert roster.call(2 * SECOND)[1] == [12]
    for pid in (11, 12):
        events.exit(3 * SECOND, pid)
    roster.call(3 * SECOND)
    assert roster.is_over


def test_a_reused_pid_is_a_new_target(proc, events):
    proc.start(10)
    proc.start(11, 10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    events.exit(SECOND, 11)
    events.fork(SECOND, 10, 11)
    assert roster.call(SECOND + RIPE_NS) == ({11}, [11])


def test_lost_events_are_made_up_for_by_looking(proc, events):
    proc.start(10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    proc.start(11, 10)
    real_drain = events.drain

    def overflowing():
        events.lost += 1
        events.drain = real_drain
        return []

    events.drain = overflowing
    assert roster.call(SECOND)[1] == [11]


def test_where_the_kernel_tells_of_no_forks_children_are_found_by_looking(proc, monkeypatch):
    def refuse(**_):
        raise Unsupported("no", why="container")

    monkeypatch.setattr(roster_module, "ProcessEvents", refuse)
    proc.start(10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    assert roster.deaf is not None
    roster.call(0)
    proc.start(11, 10)
    proc.end(10)
    assert roster.call(SECOND) == ({10}, [])  # its parent is gone, and nobody told whose child it is
    proc.start(20)
    roster.add(20)
    proc.start(21, 20)
    assert roster.call(SECOND)[1] == [20, 21]


def test_small_processes_wait_until_they_have_grown(proc, events):
    proc.start(10, rss_pages=1)
    roster = roster_of(proc, system=True, min_rss_bytes=1 << 20)
    assert roster.call(0)[1] == []
    assert roster.waiting == 1
    proc.grow(10, MIB_PAGES)
    assert roster.call(SECOND)[1] == [10]


def test_kernel_threads_belong_to_nothing(proc, events):
    proc.start(10, rss_pages=0)
    roster = roster_of(proc, system=True)
    assert roster.call(0)[1] == []
    assert roster.waiting == 0


@pytest.mark.parametrize(("pattern", "matches"), [
    ("redis*", True), ("*server", True), ("/usr/bin/*", True), ("redis", False), ("/bin/*", False), ("Redis*", False)])
def test_a_pattern_without_a_slash_is_about_the_name(proc, events, pattern, matches):
    proc.start(10, exe="/usr/bin/redis-server")
    assert roster_of(proc, exe=pattern).call(0)[1] == ([10] if matches else [])


def test_processes_of_a_control_group_come_and_go(proc, events, tmp_path_factory):
    group = tmp_path_factory.mktemp("group")
    (group / "below").mkdir()
    (group / "cgroup.procs").write_text("10\n")
    (group / "below" / "cgroup.procs").write_text("11\n0\n")
    for pid in (10, 11, 12):
        proc.start(pid)
    roster = roster_of(proc, cgroup=group)
    assert sorted(roster.call(0)[1]) == [10, 11]
    (group / "cgroup.procs").write_text("12\n")
    assert roster.call(2 * SECOND) == ({10}, [12])
    assert not roster.is_over


def test_a_control_group_that_vanishes_leaves_nobody(proc, events, tmp_path_factory):
    group = tmp_path_factory.mktemp("group")
    (group / "cgroup.procs").write_text("10\n")
    proc.start(10)
    roster = roster_of(proc, cgroup=group)
    roster.call(0)
    (group / "cgroup.procs").unlink()
    group.rmdir()
    assert roster.call(2 * SECOND)[0] == {10}


def test_births_that_were_heard_of_are_told_from_what_was_there(proc, events):
    proc.start(10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    assert (roster.heard, roster.newborn) == (False, set())
    proc.start(11, 10)
    events.fork(SECOND, 10, 11)
    roster.call(SECOND)
    assert roster.heard
    roster.call(SECOND + RIPE_NS)
    assert (roster.heard, roster.newborn) == (False, {11})


def test_where_nothing_was_heard_and_nothing_is_due_nobody_is_looked_for(proc, events):
    proc.start(10)
    roster = roster_of(proc, pids=frozenset({10}), children=True)
    roster.call(0)
    for path in (proc.root / "10").iterdir():
        path.unlink()
    (proc.root / "10").rmdir()
    proc.root.rmdir()  # to look would fail
    assert roster.call(SECOND) == (set(), [])


def test_who_becomes_the_program_that_is_meant_late_is_watched_and_who_becomes_another_is_let_go(proc, events):
    proc.start(10, exe="/bin/sh")
    roster = roster_of(proc, exe="redis*")
    assert roster.call(0) == (set(), [])
    proc.become(10, "/usr/bin/redis-server")
    events.change(SECOND, 10)
    assert roster.call(SECOND + RIPE_NS) == (set(), [10])
    events.change(2 * SECOND, 10)  # the same again
    assert roster.call(2 * SECOND + RIPE_NS) == (set(), [])
    proc.become(10, "/bin/sh")
    events.change(3 * SECOND, 10)
    assert roster.call(3 * SECOND + RIPE_NS) == ({10}, [])
    proc.become(10, "/usr/bin/redis-server")
    events.change(4 * SECOND, 10)
    assert roster.call(4 * SECOND + RIPE_NS) == (set(), [10])


def test_where_nobody_tells_of_execs_those_that_are_not_meant_are_asked_again_ever_more_seldom(proc, monkeypatch):
    def refuse(**_):
        raise Unsupported("no", why="container")

    monkeypatch.setattr(roster_module, "ProcessEvents", refuse)
    proc.start(10, exe="/bin/sh")
    roster = roster_of(proc, exe="redis*")
    asked, accepts = [], Selection.accepts
    monkeypatch.setattr(Selection, "accepts", lambda *args: asked.append(1) or accepts(*args))
    for tenth in range(3000):
        assert roster.call(tenth * SECOND // 10) == (set(), [])
    assert 8 < len(asked) < 20
    assert roster.waiting == 0
    proc.become(10, "/usr/bin/redis-server")
    assert [pid for second in range(300, 361) for pid in roster.call(second * SECOND)[1]] == [10]
    proc.become(10, "/bin/sh")
    roster.ask_again(10, 361 * SECOND)  # whoever watches it has noticed
    assert roster.call(361 * SECOND)[0] == {10}


def test_lost_events_may_have_been_execs(proc, events):
    proc.start(10, exe="/bin/sh")
    roster = roster_of(proc, exe="redis*")
    roster.call(0)
    proc.become(10, "/usr/bin/redis-server")
    drain = events.drain

    def overflowing():
        events.lost += 1
        events.drain = drain
        return []

    events.drain = overflowing
    assert roster.call(SECOND)[1] == [10]


def test_who_belongs_to_somebody_who_comes_first_waits_until_it_does_no_more(proc, events):
    theirs = {10}
    for pid in (10, 11):
        proc.start(pid)
    roster = Roster(Selection(exe="/usr/bin/work"), Census(proc.root), theirs.__contains__)
    assert roster.call(0)[1] == [11]
    assert (roster.has(10), roster.has(11)) == (False, True)
    theirs.clear()
    assert roster.call(SECOND)[1] == [10]


def test_who_comes_to_belong_to_somebody_who_comes_first_is_let_go_and_taken_back_later(proc, events):
    theirs = set()
    proc.start(10)
    roster = Roster(Selection(exe="/usr/bin/work"), Census(proc.root), theirs.__contains__)
    assert roster.call(0)[1] == [10]
    assert not roster.give_way(SECOND)
    theirs.add(10)
    assert roster.give_way(SECOND)
    assert roster.due_ns() == SECOND
    assert roster.call(SECOND) == ({10}, [])
    assert not roster.has(10)
    assert not roster.give_way(2 * SECOND)
    theirs.clear()
    assert roster.call(3 * SECOND) == (set(), [10])
