# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse monitor`: a live view of a target's memory."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from typing import Any

from pagepulse.cli.options import add_monitoring, add_target, selection
from pagepulse.cli.session import FleetSession, Session, fleet_session, refuse_emptiness, refuse_silence, session
from pagepulse.fleet import Fleet
from pagepulse.kernel.terminal import Keys
from pagepulse.kernel.usage import Waiter, cpu_ns
from pagepulse.model.clearing import REFS
from pagepulse.monitor import Monitor
from pagepulse.report.live import LiveView, Standing, plain_line
from pagepulse.report.words import CLEARED_TOGETHER, not_known_yet

_REFRESH_NS = 1_000_000_000  # drawing costs CPU, too


class MonitorVerb:
    """Show live what a target's memory does.

    Heat over the address space, newest at the right; the hottest and the idlest regions; what it costs. q or Ctrl-C
    quits, p pauses the picture. Where standard output is no terminal, a line a second is printed; with --json, one
    object for each snapshot. On a terminal, a COMMAND's own output is discarded: it would garble the screen. A
    COMMAND that still runs at the end is ended with SIGTERM.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Target and monitoring options."""
        add_target(parser)
        add_monitoring(parser)
        parser.add_argument("--json", action="store_true", help="print each snapshot as a line of JSON")

    def run(self, args: argparse.Namespace) -> int:
        """Show until the end."""
        on_screen = sys.stdout.isatty() and not args.json
        if not selection(args).is_single:
            return _show_fleet(args, on_screen=on_screen)
        with session(args, mute=on_screen) as running:
            if args.json:
                _print_json(running.monitor, running.waiter)
            elif on_screen:
                _draw(running)
            else:
                _print_lines(running)
            refuse_silence(running)
            print(_last_words(running.monitor), file=sys.stderr)
        return running.exit_status


def _show_fleet(args: argparse.Namespace, *, on_screen: bool) -> int:
    with fleet_session(args, mute=on_screen) as running:
        if args.json:
            _print_json(running.fleet, running.waiter)
        else:
            _print_table(running, on_screen=on_screen)
        refuse_emptiness(running)
        print(_last_words(running.fleet), file=sys.stderr)
    return running.exit_status


def _print_table(running: FleetSession, *, on_screen: bool) -> None:
    """On a screen a table, redrawn once a second; else a line for all."""
    from pagepulse.report.table import ProcessTable  # noqa: PLC0415
    table, due, fleet = ProcessTable(), _Refresh(), running.fleet

    def happened(kind: str, data: dict[str, Any]) -> None:
        if kind == "watched":
            table.named(data["pid"], data["name"])
        elif kind == "ended":
            table.ended(data["pid"])

    fleet.on_event = happened
    for snapshot in fleet.snapshots(running.waiter):
        table.add(snapshot)
        if not due():
            continue
        summary = fleet.summary()
        total = table.total(round(summary["duration_s"] * 1e9), summary["cpu_percent"] / 100)
        if fleet.unknown.processes:
            total += f"  {not_known_yet(fleet.unknown.processes, fleet.unknown.rss_bytes)}"
        if on_screen:
            width, height = shutil.get_terminal_size()
            lines = [total[:width], *table.lines(snapshot.end_ns, width, height - 2)]
            print("\033[H\033[J" + "\n".join(lines), flush=True)
        else:
            print(total, flush=True)


def _print_json(watcher: Monitor | Fleet, waiter: Waiter) -> None:
    from pagepulse.report.regions import snapshot_json  # noqa: PLC0415 - each way of showing loads its own
    for snapshot in watcher.snapshots(waiter):
        print(json.dumps(snapshot_json(snapshot) | {"rss_bytes": snapshot.rss_bytes, "wss_bytes": snapshot.wss_bytes}),
              flush=True)


def _print_lines(running: Session) -> None:
    due = _Refresh()
    for snapshot in running.monitor.snapshots(running.waiter):
        if due():
            print(plain_line(snapshot, _standing(running)), flush=True)


def _draw(running: Session) -> None:
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console, view, due = Console(), LiveView(), _Refresh()
    is_paused = False
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False,
                              redirect_stderr=False) as live:
        for snapshot in running.monitor.snapshots(running.waiter):
            pressed = keys.pressed()
            if "q" in pressed:
                return
            is_paused ^= pressed.count("p") % 2 == 1
            if is_paused or not due():
                continue
            begun_ns = cpu_ns()
            view.add(snapshot)
            size = console.size
            live.update(Group(*view.lines(_standing(running), size.width, size.height - 1)), refresh=True)
            running.monitor.leave_out(cpu_ns() - begun_ns)


class _Refresh:
    """Says once in _REFRESH_NS that it is time to show something."""

    def __init__(self) -> None:
        self._due_ns = 0

    def __call__(self) -> bool:
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + _REFRESH_NS
        return True


def _standing(running: Session) -> Standing:
    summary = running.monitor.totals.summary()
    clearing = running.monitor.clearing()
    caveat = f"{clearing['what']} is {CLEARED_TOGETHER}" if clearing["how"] == REFS else ""
    return Standing(running.process.name, round(summary["duration_s"] * 1e9), summary["cpu_percent"] / 100,
                    summary["target_tax_percent"] / 100, summary["probes"], caveat)


def _last_words(watcher: Monitor | Fleet) -> str:
    summary = watcher.summary()
    return (f"{summary['snapshots']} snapshots in {summary['duration_s']} s; cost {summary['cpu_percent']} % of a CPU "
            f"with the drawing, and the target {summary['target_tax_percent']} %")


COMMAND = MonitorVerb()
