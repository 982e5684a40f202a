# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse run`: watch a target, and apply schemes to its memory."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pagepulse.apply import Applier, not_applied
from pagepulse.capture import check_new
from pagepulse.cli.memory_file import check_picture, check_writable, draw_memory
from pagepulse.cli.observers import Observer
from pagepulse.cli.options import add_monitoring, add_target, selection
from pagepulse.cli.record import header_of
from pagepulse.cli.run_several import run_several
from pagepulse.cli.scheme_log import recorded
from pagepulse.cli.scheme_state import all_state_lines, scheme_summary, scheme_words
from pagepulse.cli.screen import draw, print_lines
from pagepulse.cli.session import Session, refuse_silence, session
from pagepulse.errors import TargetGone, UsageError
from pagepulse.kernel.host import facts
from pagepulse.kernel.system import target_counters
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Counters
from pagepulse.policy.load import load_document
from pagepulse.policy.parse import refusal
from pagepulse.policy.scheme import Scheme
from pagepulse.report.before_after import Course, Point, before_after_json, before_after_text
from pagepulse.units import format_size


class Run:
    """Apply schemes to a target's memory: of one process, or of many, which then share what a scheme may do.

    A scheme acts on memory that shows its pattern: see schemes/README.md, and `pagepulse check`. Every page is read
    again before it is touched, and counts as done only if it was seen to be done. --dry-run prints the calls instead.
    A COMMAND that still runs when --duration is over, or when a signal ends the run, is ended with SIGTERM.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Target, monitoring, schemes."""
        add_target(parser)
        add_monitoring(parser)
        parser.add_argument("--schemes", type=Path, metavar="FILE", required=True, help="a scheme file (JSON)")
        parser.add_argument("--dry-run", action="store_true", help="print every call that would be made; make none")
        parser.add_argument("-o", "--output", type=Path, metavar="FILE",
                            help="draw the target's memory over time: a name that ends in .png or .svg")
        parser.add_argument("--live", action="store_true", help="show meanwhile what `monitor` shows, and the schemes")
        parser.add_argument("--record", type=Path, metavar="FILE",
                            help="record what was seen, and what schemes and guards did: for `pagepulse report`")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON (dry-run calls to stderr)")

    def run(self, args: argparse.Namespace) -> int:
        """Apply schemes until the end."""
        schemes = _schemes(args.schemes)
        _check_outputs(args)
        _warn_without_swap(schemes)
        if not selection(args).is_single:
            return run_several(args, schemes, _announcer(args))
        with session(args, acts=True, mute=args.live and sys.stdout.isatty()) as running:
            before = target_counters(running.process)
            applier = Applier(schemes, _announcer(args), time.monotonic_ns())
            seen = _Seen(running, applier, before)
            _watch(running, applier, _applied(running, applier, seen), args)
            _look_once_more(running, seen)
            after = seen.at_the_end()
            refuse_silence(running)
            summary = _summary(running, applier, before, after)
            if args.json:
                print(json.dumps(summary))
            else:
                print("\n".join([*before_after_text(before, after), *_in_words(summary)]))
            if args.output is not None:
                title = f"{running.process.name}, pid {running.process.pid}: {args.schemes.name}"
                draw_memory(args.output, seen.course.points, title)
        return running.exit_status


class _Seen:
    """The target's counters as it was last seen alive, and its memory over time."""

    def __init__(self, running: Session, applier: Applier, before: Counters) -> None:
        self._running, self._applier = running, applier
        self.before = self.last = before
        self.course = Course()
        self.course.add(Point(0, before.rss_bytes, before.swap_bytes, 0))

    def look(self) -> None:
        """Look again; of a target that has ended, nothing changes: its memory would read as nothing.

        Raises:
            TargetGone: It has ended, and was waited for.
        """
        counters = target_counters(self._running.process)
        if counters.rss_bytes and not self._running.process.has_exited():
            self.last = counters
            self.course.add(Point(counters.now_ns - self.before.now_ns, counters.rss_bytes, counters.swap_bytes,
                                  self._applier.evictions.away_bytes))

    def at_the_end(self) -> Counters:
        """As last seen alive. Faults and CPU of a target that ended are the kernel's last word, until it is reaped."""
        if not self._running.process.has_exited():
            return self.last
        try:
            stat = self._running.process.stat()
        except TargetGone:
            if self.last is not self.before:
                return self.last
            return replace(self.before, minor_faults=None, major_faults=None, cpu_ns=None)
        return replace(self.last, now_ns=time.monotonic_ns(), minor_faults=stat.minor_faults,
                       major_faults=stat.major_faults, cpu_ns=stat.cpu_ns)


class _Meanwhile:
    """Sleeps for the monitor, and lets schemes go on meanwhile with what quotas and guards held back.

    An interval may be longer than that of a quota.
    """

    def __init__(self, running: Session, applier: Applier) -> None:
        self._running, self._applier = running, applier
        self.newest: Snapshot | None = None
        """What the schemes were last applied to."""

    @property
    def is_over(self) -> bool:
        """Whether a signal came or the target ended."""
        return self._running.waiter.is_over

    def wait_until(self, deadline_ns: int) -> bool:
        """As a Waiter does."""
        while (newest := self.newest) is not None:
            again_ns = self._applier.again_ns(newest.pid)
            if again_ns is None or again_ns >= deadline_ns:
                break
            if not self._running.waiter.wait_until(again_ns):
                return False
            self._go_on(newest)
        return self._running.waiter.wait_until(deadline_ns)

    def _go_on(self, newest: Snapshot) -> None:
        try:
            self._applier.apply(self._running.monitor, newest.as_of(time.monotonic_ns()))
        except TargetGone:  # or another program: the monitor finds out which
            self.newest = None


def _schemes(path: Path) -> tuple[Scheme, ...]:
    """What the file says, all of it to be applied.

    Raises:
        RefusedFile: The file is not sound, or asks for what is not applied.
    """
    document = load_document(path)
    for note in document.notes:
        print(f"pagepulse: {path}: {note}", file=sys.stderr)
    faults = [f"{scheme.name}: expected nothing that run does not apply yet, got {what}"
              for scheme in document.schemes for what in not_applied(scheme)]
    if faults:
        raise refusal(str(path), faults)
    return document.schemes


def _announcer(args: argparse.Namespace) -> Any:
    if not args.dry_run:
        return None
    stream = sys.stderr if args.json else sys.stdout
    return lambda text: print(text, file=stream)


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what cannot be written, or would garble what else is printed."""
    if args.output is not None:
        check_picture(args.output)
        check_writable(args.output)
    if args.live and (args.json or args.dry_run):
        raise UsageError(f"--live and {'--json' if args.json else '--dry-run'} contradict each other",
                         why="both write to standard output", hint="give one of them")
    if args.record is not None:
        check_new(args.record, force=False)


def _applied(running: Session, applier: Applier, seen: _Seen) -> Iterator[Snapshot]:
    """Snapshots to which the schemes were applied; the target's memory over time goes to `seen`."""
    meanwhile = _Meanwhile(running, applier)
    for snapshot in running.monitor.snapshots(meanwhile):
        meanwhile.newest = snapshot
        try:
            applier.apply(running.monitor, snapshot)
            if seen.course.is_due(snapshot.end_ns - seen.before.now_ns):
                seen.look()
        except TargetGone:
            continue  # it ended, or became another program, between decision and action: the monitor finds out which
        yield snapshot


def _watch(running: Session, applier: Applier, snapshots: Iterator[Snapshot], args: argparse.Namespace) -> None:
    """Go through the snapshots until the end: recorded, shown, or neither."""
    with recorded(args, partial(header_of, running), applier, running.monitor) as log:
        running.monitor.on_event = log.happened
        _show(running, applier, _seen_by(log, snapshots), args)


def _seen_by(observer: Observer, snapshots: Iterator[Snapshot]) -> Iterator[Snapshot]:
    """The same snapshots; the observer sees them as they come."""
    for snapshot in snapshots:
        observer.seen(snapshot)
        yield snapshot


def _show(running: Session, applier: Applier, snapshots: Iterator[Snapshot], args: argparse.Namespace) -> None:
    schemes = partial(all_state_lines, applier)
    if not args.live:
        deque(snapshots, maxlen=0)
    elif sys.stdout.isatty():
        draw(running, snapshots, schemes)
    else:
        print_lines(running, snapshots, schemes)


def _look_once_more(running: Session, seen: _Seen) -> None:
    """At the end: what came back until now."""
    try:
        running.monitor.count_returned()
        seen.look()
    except TargetGone:
        pass


def _warn_without_swap(schemes: tuple[Scheme, ...]) -> None:
    if any(scheme.action == "pageout" for scheme in schemes) and not facts().swap_total_bytes:
        print("pagepulse: no swap is active: pageout gives back file-backed memory only", file=sys.stderr)


def _summary(running: Session, applier: Applier, before: Counters, after: Counters) -> dict[str, Any]:
    return {
        "rss_before_bytes": before.rss_bytes, "rss_after_bytes": after.rss_bytes,
        "returned_bytes": running.monitor.totals.returned_bytes,
        "returned_within_10s_bytes": running.monitor.totals.returned_soon_bytes, "swap_bytes": after.swap_bytes,
        **before_after_json(before, after),
        **running.monitor.totals.summary(),
        "schemes": [scheme_summary(applier, index) for index in range(len(applier.results))],
    }


def _in_words(summary: dict[str, Any]) -> list[str]:
    lines = [(f"of what went, {format_size(summary['returned_bytes'])} came back, "
             f"{format_size(summary['returned_within_10s_bytes'])} of it within 10 s"),
             f"cost: {summary['cpu_percent']:.2f} % of a CPU, and the target {summary['target_tax_percent']:.2f} %"]
    for scheme in summary["schemes"]:
        lines += scheme_words(scheme)
    return lines


COMMAND = Run()
