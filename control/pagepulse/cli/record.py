# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse record`: watch a target, and keep what was seen."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pagepulse.capture import Series, check_new
from pagepulse.cli.options import add_monitoring, add_rotation, add_target, rotation_of, selection
from pagepulse.cli.session import FleetSession, Session, fleet_session, refuse_emptiness, refuse_silence, session
from pagepulse.fleet import Fleet
from pagepulse.kernel.host import facts, origin, require
from pagepulse.kernel.packing import packing
from pagepulse.kernel.usage import Waiter
from pagepulse.monitor import Monitor
from pagepulse.report.words import CLEARED_TOGETHER, not_known_yet
from pagepulse.units import format_size


class Record:
    """Watch a target and write what was seen to a file.

    The file grows by one snapshot for each aggregation interval, and every finished snapshot stays readable, whatever
    ends the recording. `pagepulse report` shows it. A COMMAND that still runs when --duration is over, or when a
    signal ends the recording, is ended with SIGTERM.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Target, monitoring and output options."""
        add_target(parser)
        add_monitoring(parser)
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", default=Path("pagepulse.data"),
                            help="the recording (default: pagepulse.data)")
        parser.add_argument("-f", "--force", action="store_true", help="replace FILE if it exists")
        add_rotation(parser)
        parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """Record until the end."""
        require(facts())  # first: without privileges nothing else matters
        check_new(args.output, force=args.force)
        if not selection(args).is_single:
            return _record_fleet(args)
        rotation = rotation_of(args)
        with (session(args) as running, packing() as pack,
              Series(args.output, header_of(running), rotation, force=args.force, pack=pack) as recorder):
            summary = _record(running.monitor, running.waiter, recorder)
            refuse_silence(running)
            _print_summary(summary, recorder, args)
        return running.exit_status


def _record_fleet(args: argparse.Namespace) -> int:
    rotation = rotation_of(args)
    with (fleet_session(args) as running, packing() as pack,
          Series(args.output, fleet_header_of(running, args.argv), rotation, force=args.force, pack=pack) as recorder):
        summary = _record(running.fleet, running.waiter, recorder)
        refuse_emptiness(running)
        _print_summary(summary, recorder, args)
    return running.exit_status


def _record(watcher: Monitor | Fleet, waiter: Waiter, recorder: Series) -> dict[str, Any]:
    """Record until the end; what it came to."""
    watcher.on_event = partial(record_event, recorder)
    for snapshot in watcher.snapshots(waiter):
        recorder.write(snapshot)
    summary = watcher.summary() | {"clearing": watcher.clearing()}
    recorder.close(summary)
    return summary


def _print_summary(summary: dict[str, Any], recorder: Series, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(summary))
    else:
        print(_in_words(summary, recorder), file=sys.stderr)


def record_event(recorder: Series, kind: str, data: dict[str, Any]) -> None:
    """Something happened to a target: append it, and say what its user should know."""
    recorder.event(kind, data)
    if kind == "clear":
        print("pagepulse: most of the target is shared with other processes, which MADV_COLD does not clear:\n"
              f"  {CLEARED_TOGETHER}", file=sys.stderr)
    elif kind == "clear_refused":
        print("pagepulse: most of the target is shared with other processes, and what is stays unclearable:\n"
              f"  {data['why']}", file=sys.stderr)


def header_of(running: Session) -> dict[str, Any]:
    """How a recording of one process is made."""
    process = running.process
    return origin() | {"pid": process.pid, "name": process.name, "command": process.command_line(),
                       "options": asdict(running.options), "prices": asdict(running.monitor.prices),
                       "probes": running.monitor.totals.probes}


def fleet_header_of(running: FleetSession, command: Sequence[str] | None) -> dict[str, Any]:
    """How a recording of many processes is made."""
    chosen = running.fleet.roster.selection
    target = asdict(chosen) | {"pids": sorted(chosen.pids), "cgroup": chosen.cgroup and str(chosen.cgroup)}
    return origin() | {"pid": None, "target": target, "options": asdict(running.options),
                       "prices": asdict(running.fleet.prices), "probes": [], "command": command}


def _in_words(summary: dict[str, Any], recorder: Series) -> str:
    lost = f"; {summary['dropped']} reads lost" if summary["dropped"] else ""
    clearing = summary["clearing"]
    together = "" if clearing["how"] == "cold" else (
        f"{clearing['clears']} clears by clear_refs held the target's mmap lock for "
        f"{clearing['longest_clear_us'] / 1000:.1f} ms at most\n")
    if summary.get("major_faults") is not None:
        counted = f"{summary['faults']} page faults and " if any("fault" in name for name in summary["probes"]) else ""
        together += f"{counted}{summary['major_faults']} major faults (waits for a disk or swap) of the target\n"
    of = f" of {summary['processes']} processes" if "processes" in summary else ""
    if summary.get("not_known_yet"):
        left = not_known_yet(summary["not_known_yet"], summary["not_known_yet_bytes"])
        together += f"{left}: the budget allowed no more\n"
    return (f"{summary['snapshots']} snapshots{of} in {summary['duration_s']:.1f} s to {recorder.path} "
            f"({format_size(recorder.size_bytes)}); cost {summary['cpu_percent']:.2f} % of a CPU, "
            f"and the target {summary['target_tax_percent']:.2f} %{lost}\n{together}"
            f"next: pagepulse report {'wss' if of else 'heatmap'} {recorder.path}")


COMMAND = Record()
