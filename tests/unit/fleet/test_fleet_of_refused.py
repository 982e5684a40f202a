# SPDX-License-Identifier: GPL-2.0-only
"""The fleet's loop without a kernel: what goes wrong with one process concerns that one."""

from __future__ import annotations

import errno
import os
import time
import weakref
from dataclasses import dataclass, field

import pytest

from fakes import NO_INSTRUMENTS
from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.fleet import Fleet, Roster, Selection
from pagepulse.fleet import fleet as fleet_module
from pagepulse.model.prices import Prices
from pagepulse.monitor import MonitorOptions
from pagepulse.policy.budget import Budget

PRICES = Prices(1, 1, 1, 1)


@dataclass
class Fake:
    """A process, or the lock of one."""

    pid: int
    name: str = "web"
    closed: list[int] = field(default_factory=list)

    def cpu_clock_ns(self) -> int:
        return time.monotonic_ns()

    def close(self) -> None:
        self.closed.append(self.pid)


class FakeMonitor:
    def __init__(self, process, _reader, _probes, options, prices, _delays):
        self.budget = Budget(options.budget, options.aggregation_ns, prices, pinned=False)
        self.process = process

    def interval(self):
        raise PagepulseError("clear_refs is refused")
        yield 0

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture(name="fleet")
def _fleet(monkeypatch):
    monkeypatch.setattr(fleet_module, "calibrate", lambda _reader: PRICES)
    monkeypatch.setattr(fleet_module, "Process", Fake)
    monkeypatch.setattr(fleet_module, "TargetLock", lambda process: Fake(process.pid))
    monkeypatch.setattr(fleet_module, "Monitor", FakeMonitor)
    return Fleet(NO_INSTRUMENTS, Roster(Selection(pids=frozenset({os.getpid(), os.getppid()}))), MonitorOptions())


def stepped(fleet: Fleet) -> Fleet:
    for _ in range(20):
        fleet.step(time.monotonic_ns())
        time.sleep(0.005)
    return fleet


def test_a_process_that_cannot_be_watched_any_more_is_refused_with_the_reason_and_the_others_go_on(fleet):
    told = []
    fleet.on_event = lambda kind, data: told.append((kind, data["pid"]))
    stepped(fleet)
    assert fleet.refused == dict.fromkeys((os.getpid(), os.getppid()), "clear_refs is refused")
    assert not fleet.monitors
    assert {kind for kind, _ in told} == {"watched", "ended", "refused"}


@pytest.mark.parametrize("fails", ["TargetLock", "Monitor"])
def test_whatever_fails_as_a_process_is_taken_on_leaves_no_descriptor_open(fleet, monkeypatch, fails):
    made = []

    def process(pid):
        made.append(Fake(pid))
        return made[-1]

    def fail(*_args):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(fleet_module, "Process", process)
    monkeypatch.setattr(fleet_module, fails, fail)
    stepped(fleet)
    assert len(made) == len(fleet.refused) == 2
    assert all(one.closed for one in made)


def test_what_is_known_of_a_process_goes_with_it(fleet, monkeypatch):
    seen = []

    def waits(self):
        seen.append(weakref.ref(self))
        yield 1 << 62
    monkeypatch.setattr(FakeMonitor, "interval", waits)
    stepped(fleet)
    assert [one() is not None for one in seen] == [True, True]
    for pid in list(fleet.monitors):
        fleet.stop(pid)
    assert [one() for one in seen] == [None, None]


def test_one_that_became_another_program_which_cannot_be_watched_is_refused_and_the_others_go_on(fleet, monkeypatch):
    class Changed(FakeMonitor):
        def interval(self):
            raise TargetGone("the target has become another program (exec)")
            yield 0

        def start_over(self, _gone):
            raise PagepulseError("its main thread has ended")

    monkeypatch.setattr(fleet_module, "Monitor", Changed)
    monkeypatch.setattr(Fake, "has_exited", lambda _self: False, raising=False)
    stepped(fleet)
    assert fleet.refused == dict.fromkeys((os.getpid(), os.getppid()), "its main thread has ended")
    assert not fleet.monitors


def test_with_another_selection_who_is_meant_still_stays_known_and_the_others_go_and_come(fleet, monkeypatch):
    def waits(_self):
        yield time.monotonic_ns() + 3600 * 10**9

    monkeypatch.setattr(FakeMonitor, "interval", waits)
    own, parent = os.getpid(), os.getppid()
    before = dict(stepped(fleet).monitors)
    assert before.keys() == {own, parent}
    told = []
    fleet.on_event = lambda kind, data: told.append((kind, data["pid"]))
    fleet.select(Roster(Selection(pids=frozenset({own}))))
    assert fleet.monitors == {own: before[own]}
    fleet.select(Roster(Selection(pids=frozenset({own, parent}))))
    stepped(fleet)
    assert fleet.monitors[own] is before[own]
    assert fleet.monitors[parent] is not before[parent]
    assert told == [("ended", parent), ("watched", parent)]


def test_who_waited_to_be_known_and_is_meant_no_more_waits_no_longer(fleet):
    fleet._call_roll(time.monotonic_ns())
    assert fleet.unknown.processes == 2
    fleet.select(Roster(Selection(pids=frozenset({os.getpid()}))))
    assert fleet.unknown.processes == 1
