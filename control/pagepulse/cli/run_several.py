# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse run` on several processes: one account for each scheme, and one for each process that it took from."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pagepulse.apply import Applier
from pagepulse.cli.fleet_screen import FleetScreen
from pagepulse.cli.memory_file import draw_memory
from pagepulse.cli.observers import Observer, Observers
from pagepulse.cli.record import fleet_header_of
from pagepulse.cli.scheme_log import recorded
from pagepulse.cli.scheme_state import all_state_lines, scheme_summary, scheme_words
from pagepulse.cli.session import FleetSession, fleet_session, refuse_emptiness
from pagepulse.errors import TargetGone
from pagepulse.fleet import Fleet
from pagepulse.kernel.process import Stat
from pagepulse.kernel.system import system_facts
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Counters, SystemFacts
from pagepulse.policy.scheme import Scheme
from pagepulse.report.before_after import Change, Course, Point, change, course_words
from pagepulse.report.words import shortened
from pagepulse.service.treatment import Treatment
from pagepulse.units import format_size

_LINES = 10  # processes that are told of in words; all of them in JSON


@dataclass(slots=True)
class _Account:
    """One process: its memory when it was first and last seen."""

    pid: int
    name: str
    rss_before_bytes: int = 0
    rss_after_bytes: int = 0
    swap_bytes: int = 0
    given_back_bytes: int = 0
    returned_bytes: int = 0
    returned_within_10s_bytes: int = 0
    minor_faults: int = 0
    """As the next two: from when it was first seen until it was last seen alive."""
    major_faults: int = 0
    cpu_ns: int = 0
    ended: bool = False


class _Accounts(Observer):
    """Of all processes that were watched; one whose number was used again is another one."""

    def __init__(self, fleet: Fleet, applier: Applier) -> None:
        self._fleet, self._applier = fleet, applier
        self._open: dict[int, _Account] = {}
        self._first: dict[int, Stat] = {}
        self._begun = system_facts()
        self.all: list[_Account] = []
        self.course = Course()
        """The memory of all of them over time."""

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """As a fleet tells of its events."""
        if kind == "watched":
            self._open[data["pid"]] = account = _Account(data["pid"], data["name"])
            self.all.append(account)
            self._first.pop(data["pid"], None)
        elif kind == "ended" and (gone := self._open.pop(data["pid"], None)) is not None:
            gone.ended = True

    def seen(self, snapshot: Snapshot) -> None:
        """What it has now; what it had at first."""
        account = self._open.get(snapshot.pid)
        if account is not None:
            account.rss_before_bytes = account.rss_before_bytes or snapshot.rss_bytes
            self._look(account)

    def beat(self, now_ns: int) -> None:
        """The memory of all of them, as it was last seen."""
        since_ns = now_ns - self._fleet.totals.begun_ns
        if self.course.is_due(since_ns):
            self._add_point(since_ns)

    def _add_point(self, since_ns: int) -> None:
        alive = self._open.values()
        self.course.add(Point(since_ns, sum(account.rss_after_bytes for account in alive),
                              sum(account.swap_bytes for account in alive), self._applier.evictions.away_bytes))

    def look_once_more(self) -> None:
        """At the end: what is resident now, and what came back after the last look."""
        for pid in self._fleet.monitors:
            self._look(self._open[pid])
        self._add_point(time.monotonic_ns() - self._fleet.totals.begun_ns)

    def _look(self, account: _Account) -> None:
        evictions = self._applier.evictions_of(account.pid)
        account.given_back_bytes, account.returned_bytes = evictions.evicted_bytes, evictions.returned_bytes
        account.returned_within_10s_bytes = evictions.returned_soon_bytes
        with suppress(TargetGone, KeyError):
            process = self._fleet.monitors[account.pid].process
            rss_bytes, swap_bytes, stat = process.rss_bytes(), process.swap_bytes(), process.stat()
            if rss_bytes and not process.has_exited():  # what ended and was not waited for has no memory any more
                account.rss_after_bytes, account.swap_bytes = rss_bytes, swap_bytes
            first = self._first.setdefault(account.pid, stat)
            account.minor_faults = stat.minor_faults - first.minor_faults
            account.major_faults = stat.major_faults - first.major_faults
            account.cpu_ns = stat.cpu_ns - first.cpu_ns

    def change(self) -> Change:
        """What happened to all of them together, and the machine's pressure."""
        return change(self._counters(self._begun, at_the_end=False), self._counters(system_facts(), at_the_end=True))

    def _counters(self, facts: SystemFacts, *, at_the_end: bool) -> Counters:
        """Of those that are still there, memory; of all, faults and CPU since each was first seen."""
        def total(name: str) -> int:
            return sum(getattr(one, name) for one in self.all) if at_the_end else 0
        rss, alive = ("rss_after_bytes" if at_the_end else "rss_before_bytes"), self._open.values()
        return Counters(facts.now_ns, sum(getattr(one, rss) for one in alive),
                        sum(one.swap_bytes for one in alive) if at_the_end else 0, total("minor_faults"),
                        total("major_faults"), total("cpu_ns"), facts.pressure.some_us if facts.pressure else None,
                        facts.pressure.full_us if facts.pressure else None)


def run_several(args: argparse.Namespace, schemes: Sequence[Scheme], announce: Callable[[str], None] | None) -> int:
    """Apply schemes to all of them until the end.

    Args:
        args: Of `run`.
        schemes: All of them can be applied.
        announce: In a dry run: told of each call.
    """
    on_screen = args.live and sys.stdout.isatty()
    with fleet_session(args, acts=True, mute=on_screen) as running:
        applier = Applier(schemes, announce, time.monotonic_ns())
        accounts = _Accounts(running.fleet, applier)
        observers: list[Observer] = [accounts]
        if args.live:
            observers.append(FleetScreen(running.fleet, on_screen=on_screen,
                                         schemes=partial(all_state_lines, applier)))
        with recorded(args, partial(fleet_header_of, running, args.argv), applier, running.fleet) as log:
            _go_through(running, applier, Observers([*observers, log]))
        accounts.look_once_more()
        refuse_emptiness(running)
        summary = _summary(running, applier, accounts)
        print(json.dumps(summary) if args.json else "\n".join(_in_words(summary)))
        if args.output is not None:
            draw_memory(args.output, accounts.course.points, f"{summary['processes']} processes: {args.schemes.name}")
    return running.exit_status


def _go_through(running: FleetSession, applier: Applier, observers: Observer) -> None:
    treatment = Treatment(running.fleet, applier)
    treatment.on_event = observers.happened
    for snapshot in treatment.snapshots(running.waiter, observers.beat):
        observers.seen(snapshot)


def _summary(running: FleetSession, applier: Applier, accounts: _Accounts) -> dict[str, Any]:
    evictions = applier.evictions
    alive = [account for account in accounts.all if not account.ended]
    changed = asdict(accounts.change())
    del changed["swap_bytes"]  # nobody asked each of them at first
    ordered = sorted(accounts.all, key=lambda account: (-account.given_back_bytes, -account.rss_before_bytes))
    return {
        "rss_before_bytes": sum(account.rss_before_bytes for account in alive),
        "rss_after_bytes": sum(account.rss_after_bytes for account in alive),
        "given_back_bytes": evictions.evicted_bytes, "returned_bytes": evictions.returned_bytes,
        "returned_within_10s_bytes": evictions.returned_soon_bytes, "change": changed,
        **running.fleet.summary(), "schemes": [scheme_summary(applier, index) for index in range(len(applier.results))],
        "treated": [asdict(account) for account in ordered],
    }


def _in_words(summary: dict[str, Any]) -> list[str]:
    treated, refused = summary["treated"], summary["refused_processes"]
    took = [process for process in treated if process["given_back_bytes"]]
    lines = [f"{summary['processes']} processes" + (f", {refused} of them refused" if refused else ""),
             (f"resident: {format_size(summary['rss_before_bytes'])} before, "
              f"{format_size(summary['rss_after_bytes'])} after (of those that are still there)"),
             (f"given back {format_size(summary['given_back_bytes'])}; of that, "
              f"{format_size(summary['returned_bytes'])} came back, "
              f"{format_size(summary['returned_within_10s_bytes'])} of it within 10 s"),
             *course_words(Change(swap_bytes=0, **summary["change"]), "targets"),
             f"cost: {summary['cpu_percent']:.2f} % of a CPU, and the targets {summary['target_tax_percent']:.2f} %"]
    for scheme in summary["schemes"]:
        lines += scheme_words(scheme)
    if took:
        lines.append(f"{'PID':>8} {'BEFORE':>9} {'AFTER':>9} {'GIVEN':>9} {'RETURNED':>9}  NAME")
    for process in took[:_LINES]:
        sizes = (format_size(process[key]) for key in (
            "rss_before_bytes", "rss_after_bytes", "given_back_bytes", "returned_bytes"))
        ended = " (ended)" if process["ended"] else ""
        lines.append(f"{process['pid']:>8} {' '.join(f'{size:>9}' for size in sizes)}  "
                     f"{shortened(process['name'], 30)}{ended}")
    if len(took) > _LINES:
        lines.append(f"and {len(took) - _LINES} more: --json tells of all")
    return lines
