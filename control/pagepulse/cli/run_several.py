# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse run` on several processes: one account for each scheme, and a line for each process it took from."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pagepulse.apply import Applier
from pagepulse.cli.session import FleetSession, fleet_session, refuse_emptiness
from pagepulse.errors import TargetGone
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Evictions
from pagepulse.policy.scheme import Scheme
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
    given_back_bytes: int = 0
    returned_bytes: int = 0
    ended: bool = False

    def take(self, evictions: Evictions) -> None:
        self.given_back_bytes, self.returned_bytes = evictions.evicted_bytes, evictions.returned_bytes


class _Accounts:
    """Of all processes that were watched; one whose number was used again is another one."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._open: dict[int, _Account] = {}
        self.all: list[_Account] = []

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "watched":
            self._open[data["pid"]] = account = _Account(data["pid"], data["name"])
            self.all.append(account)
        elif kind == "ended" and (gone := self._open.pop(data["pid"], None)) is not None:
            gone.ended = True

    def seen(self, snapshot: Snapshot) -> None:
        account = self._open.get(snapshot.pid)
        if account is not None:
            account.rss_before_bytes = account.rss_before_bytes or snapshot.rss_bytes
            account.rss_after_bytes = snapshot.rss_bytes
            account.take(self._applier.evictions_of(snapshot.pid))

    def look_once_more(self, running: FleetSession) -> None:
        """At the end: what is resident now, and what came back after the last look."""
        for pid, monitor in running.fleet.monitors.items():
            with suppress(TargetGone):
                self._open[pid].rss_after_bytes = monitor.target.rss_bytes()
                self._open[pid].take(self._applier.evictions_of(pid))


def run_several(args: argparse.Namespace, schemes: Sequence[Scheme], announce: Callable[[str], None] | None) -> int:
    """Apply schemes to all of them until the end.

    Args:
        args: Of `run`.
        schemes: All of them can be applied.
        announce: In a dry run: told of each call.
    """
    with fleet_session(args, acts=True) as running:
        applier = Applier(schemes, announce, time.monotonic_ns())
        treatment, accounts = Treatment(running.fleet, applier), _Accounts(applier)
        treatment.on_event = accounts.happened
        for snapshot in treatment.snapshots(running.waiter):
            accounts.seen(snapshot)
        accounts.look_once_more(running)
        refuse_emptiness(running)
        summary = _summary(running, applier, accounts.all)
        print(json.dumps(summary) if args.json else "\n".join(_in_words(summary)))
    return running.exit_status


def _summary(running: FleetSession, applier: Applier, accounts: Sequence[_Account]) -> dict[str, Any]:
    evictions = applier.evictions
    alive = [account for account in accounts if not account.ended]
    ordered = sorted(accounts, key=lambda account: (-account.given_back_bytes, -account.rss_before_bytes))
    return {
        "rss_before_bytes": sum(account.rss_before_bytes for account in alive),
        "rss_after_bytes": sum(account.rss_after_bytes for account in alive),
        "given_back_bytes": evictions.evicted_bytes, "returned_bytes": evictions.returned_bytes,
        **running.fleet.summary(), "schemes": [scheme_summary(applier, index) for index in range(len(applier.results))],
        "treated": [asdict(account) for account in ordered],
    }


def scheme_summary(applier: Applier, index: int) -> dict[str, Any]:
    """A scheme's result, why it waits, and what its guards say."""
    result = applier.results[index]
    return asdict(result) | {"waits_for": applier.waits.get(result.name, ""),
                             "guards": [asdict(verdict) for verdict in applier.verdicts[result.name]]}


def scheme_words(scheme: dict[str, Any]) -> list[str]:
    """The same for people."""
    errors = f", {scheme['errors']} refused" if scheme["errors"] else ""
    lines = [(f"{scheme['name']}: {scheme['action']} tried on {format_size(scheme['tried_bytes'])}, "
              f"done on {format_size(scheme['applied_bytes'])} ({scheme['calls']} calls{errors})")]
    if scheme["saved_bytes"]:
        lines.append(f"  left {format_size(scheme['saved_bytes'])} of the same regions, page by page: they are in use")
    if scheme["waits_for"]:
        lines.append(f"  waits: {scheme['waits_for']}")
    lines += [f"  guard {guard['guard']}: {guard['reason']}"
              for guard in scheme["guards"] if guard["stance"] == "limits"]
    return lines + [f"  no effect on {format_size(size)}: {reason}" for reason, size in scheme["reasons"].items()]


def _in_words(summary: dict[str, Any]) -> list[str]:
    treated, refused = summary["treated"], summary["refused_processes"]
    took = [process for process in treated if process["given_back_bytes"]]
    lines = [f"{summary['processes']} processes" + (f", {refused} of them refused" if refused else ""),
             (f"resident: {format_size(summary['rss_before_bytes'])} before, "
              f"{format_size(summary['rss_after_bytes'])} after (of those that are still there)"),
             (f"given back {format_size(summary['given_back_bytes'])}; of that, "
              f"{format_size(summary['returned_bytes'])} came back"),
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
