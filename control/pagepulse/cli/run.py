# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse run`: watch a target, and apply schemes to its memory."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pagepulse.apply import Applier, not_applied
from pagepulse.cli.options import add_monitoring, add_target
from pagepulse.cli.session import Session, refuse_silence, session
from pagepulse.errors import TargetGone
from pagepulse.kernel.host import facts
from pagepulse.policy.load import load_document
from pagepulse.policy.parse import refusal
from pagepulse.policy.result import SchemeResult
from pagepulse.policy.scheme import Scheme
from pagepulse.units import format_size


class Run:
    """Apply schemes to a target's memory.

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
        parser.add_argument("--json", action="store_true", help="print the summary as JSON (dry-run calls to stderr)")

    def run(self, args: argparse.Namespace) -> int:
        """Apply schemes until the end."""
        schemes = _schemes(args.schemes)
        _warn_without_swap(schemes)
        with session(args, acts=True) as running:
            rss_before_bytes = running.process.rss_bytes()
            applier = Applier(running.monitor, schemes, _announcer(args))
            rss_after_bytes = _apply_until_the_end(running, applier, rss_before_bytes)
            summary = _summary(running, applier, rss_before_bytes, rss_after_bytes)
            refuse_silence(running)
            if args.json:
                print(json.dumps(summary))
            else:
                print(_in_words(summary))
        return running.exit_status


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


def _apply_until_the_end(running: Session, applier: Applier, rss_bytes: int) -> int:
    """Resident size when the target was last seen."""
    for snapshot in running.monitor.snapshots(running.waiter):
        try:
            applier.apply(snapshot)
            rss_bytes = running.process.rss_bytes()
        except TargetGone:
            continue  # it ended, or became another program, between decision and action: the monitor finds out which
    try:
        running.monitor.count_returned()
        rss_bytes = running.process.rss_bytes()
    except TargetGone:
        pass
    return rss_bytes


def _warn_without_swap(schemes: tuple[Scheme, ...]) -> None:
    if any(scheme.action == "pageout" for scheme in schemes) and not facts().swap_total_bytes:
        print("pagepulse: no swap is active: pageout gives back file-backed memory only", file=sys.stderr)


def _summary(running: Session, applier: Applier, rss_before_bytes: int, rss_after_bytes: int) -> dict[str, Any]:
    return {
        "rss_before_bytes": rss_before_bytes, "rss_after_bytes": rss_after_bytes,
        "returned_bytes": running.monitor.totals.returned_bytes, "swap_bytes": running.process.swap_bytes(),
        **running.monitor.totals.summary(),
        "schemes": [_scheme_summary(applier, result) for result in applier.results],
    }


def _scheme_summary(applier: Applier, result: SchemeResult) -> dict[str, Any]:
    return asdict(result) | {"waits_for": applier.waits.get(result.name, ""),
                             "guards": [asdict(verdict) for verdict in applier.verdicts[result.name]]}


def _in_words(summary: dict[str, Any]) -> str:
    before, after, returned = (format_size(summary[f"{key}_bytes"]) for key in ("rss_before", "rss_after", "returned"))
    lines = [f"resident memory: {before} before, {after} after; {returned} came back",
             f"cost: {summary['cpu_percent']:.2f} % of a CPU, and the target {summary['target_tax_percent']:.2f} %"]
    for scheme in summary["schemes"]:
        errors = f", {scheme['errors']} refused" if scheme["errors"] else ""
        lines.append(f"{scheme['name']}: {scheme['action']} tried on {format_size(scheme['tried_bytes'])}, "
                     f"done on {format_size(scheme['applied_bytes'])} ({scheme['calls']} calls{errors})")
        if scheme["waits_for"]:
            lines.append(f"  waits: {scheme['waits_for']}")
        lines += [f"  guard {guard['guard']}: {guard['reason']}"
                  for guard in scheme["guards"] if guard["stance"] == "limits"]
        lines += [f"  no effect on {format_size(size)}: {reason}" for reason, size in scheme["reasons"].items()]
    return "\n".join(lines)


COMMAND = Run()
