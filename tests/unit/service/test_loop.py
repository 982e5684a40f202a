# SPDX-License-Identifier: GPL-2.0-only
"""The daemon's loop, without a kernel: programs that nobody runs are waited for."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import pytest

from fakes import NO_INSTRUMENTS
from pagepulse.fleet.fleet import Fleet
from pagepulse.model.prices import Prices
from pagepulse.service import daemon as service
from pagepulse.service import target
from pagepulse.service.config import load_configuration
from pagepulse.service.notify import Notifier

ANYBODY = frozenset({os.geteuid()})


def configure(directory: Path, text: str) -> None:
    """Make this all that the directory says, at once: nobody reads half of it."""
    new = directory / "new~"
    new.write_text(text)
    new.chmod(0o600)
    new.replace(directory / "pagepulse.toml")


class Script:
    """Wakeups that never sleep: at each turn of the loop the next thing happens, and then a hangup."""

    def __init__(self, *steps) -> None:
        self._steps = list(steps)

    @property
    def is_over(self) -> bool:
        return not self._steps

    def take_hangup(self) -> bool:
        self._steps.pop(0)()
        return True

    def wait_until(self, _deadline_ns: int, _fds: list[int]) -> frozenset[int]:
        return frozenset()

    def wake(self) -> None:
        """It is awake."""


@pytest.fixture
def fleets(monkeypatch) -> list[weakref.ref[Fleet]]:
    """Every fleet that is made."""
    made: list[weakref.ref[Fleet]] = []

    def fleet(*args) -> Fleet:
        one = Fleet(*args)
        made.append(weakref.ref(one))
        return one

    monkeypatch.setattr(target, "Fleet", fleet)
    monkeypatch.setattr("pagepulse.fleet.fleet.calibrate", lambda _reader: Prices(1, 1, 1, 1))
    monkeypatch.setattr(service, "ONLY_ROOT", ANYBODY)
    return made


def test_nothing_is_left_of_targets_that_are_gone_however_often_the_configuration_changed(tmp_path, fleets):
    table = '[targets.{0}]\nexe = "nobody-runs-{0}"\n'.format

    def write(*names: str) -> None:
        configure(tmp_path, "".join(map(table, names)))

    write("stays")
    steps = [lambda: write("stays", "comes"), lambda: write("stays", "comes"), lambda: write("stays")] * 3
    script = Script(*steps, lambda: None)
    daemon = service.Daemon(tmp_path, load_configuration(tmp_path, ANYBODY), NO_INSTRUMENTS, script, Notifier())
    daemon.run()
    alive = [fleet() is not None for fleet in fleets]
    daemon.close()

    assert alive == [True, False, False, False]


def test_a_fault_of_ours_in_one_target_ends_neither_the_daemon_nor_the_others(tmp_path, fleets, monkeypatch, capsys):
    (tmp_path / "pagepulse.toml").write_text('[targets.bad]\nexe = "no-one-runs-bad"\n'
                                             '[targets.good]\nexe = "no-one-runs-good"\n')
    (tmp_path / "pagepulse.toml").chmod(0o600)
    step = Fleet.step

    def breaks(self, now_ns):
        if "bad" in self.roster.selection.exe:
            raise ValueError("not enough values to unpack")
        return step(self, now_ns)

    monkeypatch.setattr(Fleet, "step", breaks)
    daemon = service.Daemon(tmp_path, load_configuration(tmp_path, ANYBODY), NO_INSTRUMENTS,
                            Script(*[lambda: None] * 4), Notifier())
    daemon.run()
    bad, good = daemon._published().status.targets
    daemon.close()
    assert (bad.state, good.state) == ("failed", "waiting")
    assert bad.why == "a fault of pagepulse itself"
    assert "Traceback" in capsys.readouterr().err


def test_a_new_budget_is_taken_on_by_the_fleet_and_another_way_to_clear_begins_anew(tmp_path, fleets, capsys):
    def write(more: str) -> None:
        configure(tmp_path, f'[targets.stays]\nexe = "no-one-runs-it"\n{more}')

    write("")
    script = Script(lambda: None, lambda: write('budget = "5%"'), lambda: None)
    daemon = service.Daemon(tmp_path, load_configuration(tmp_path, ANYBODY), NO_INSTRUMENTS, script, Notifier())
    daemon.run()
    assert len(fleets) == 1
    assert fleets[0]()._shared.share == daemon._published().status.targets[0].budget_share == 0.05
    write('clear = "refs"')
    daemon._load()
    daemon.close()
    assert "stays: begins anew" in capsys.readouterr().err


def test_another_selection_is_taken_on_by_the_fleet_and_a_control_group_that_is_not_there_is_waited_for(
        tmp_path, fleets, capsys):
    def write(which: str) -> None:
        configure(tmp_path, f"[targets.it]\n{which}\n")

    write('exe = "no-one-runs-it"')
    script = Script(lambda: None, lambda: write('exe = "nor-this"'), lambda: None)
    daemon = service.Daemon(tmp_path, load_configuration(tmp_path, ANYBODY), NO_INSTRUMENTS, script, Notifier())
    daemon.run()
    assert len(fleets) == 1
    assert fleets[0]().roster.selection.exe == "nor-this"
    write('cgroup = "/sys/fs/cgroup/nobody-made-it"')
    daemon._load()
    [status] = daemon._published().status.targets
    assert daemon._targets["it"].due_ns() > 0
    write('exe = "but-this"')
    daemon._load()
    assert daemon._targets["it"].due_ns() == 0  # at once, not when it would have tried again
    daemon.close()
    assert status.state == "waiting"
    assert "no control group" in status.why
    assert "begins anew" not in capsys.readouterr().err
