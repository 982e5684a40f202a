# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse monitor`: a live view of a target's memory."""

from __future__ import annotations

import argparse
import json
import sys

from pagepulse.cli.options import add_monitoring, add_target, selection
from pagepulse.cli.screen import draw, print_lines
from pagepulse.cli.session import fleet_session, refuse_emptiness, refuse_silence, session
from pagepulse.fleet import Fleet
from pagepulse.kernel.usage import Waiter
from pagepulse.monitor import Monitor


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
                draw(running, running.monitor.snapshots(running.waiter))
            else:
                print_lines(running, running.monitor.snapshots(running.waiter))
            refuse_silence(running)
            print(_last_words(running.monitor), file=sys.stderr)
        return running.exit_status


def _show_fleet(args: argparse.Namespace, *, on_screen: bool) -> int:
    with fleet_session(args, mute=on_screen) as running:
        if args.json:
            _print_json(running.fleet, running.waiter)
        else:
            from pagepulse.cli.fleet_screen import FleetScreen  # noqa: PLC0415 - each way of showing loads its own
            screen = FleetScreen(running.fleet, on_screen=on_screen)
            running.fleet.on_event = screen.happened
            for snapshot in running.fleet.snapshots(running.waiter, screen.beat):
                screen.seen(snapshot)
        refuse_emptiness(running)
        print(_last_words(running.fleet), file=sys.stderr)
    return running.exit_status


def _print_json(watcher: Monitor | Fleet, waiter: Waiter) -> None:
    from pagepulse.report.regions import snapshot_json  # noqa: PLC0415
    for snapshot in watcher.snapshots(waiter):
        print(json.dumps(snapshot_json(snapshot) | {"rss_bytes": snapshot.rss_bytes, "wss_bytes": snapshot.wss_bytes}),
              flush=True)


def _last_words(watcher: Monitor | Fleet) -> str:
    summary = watcher.summary()
    return (f"{summary['snapshots']} snapshots in {summary['duration_s']} s; cost {summary['cpu_percent']} % of a CPU "
            f"with the drawing, and the target {summary['target_tax_percent']} %")


COMMAND = MonitorVerb()
