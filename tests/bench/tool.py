# SPDX-License-Identifier: GPL-2.0-only
"""What the benches on real programs have in common: their options, and how a failure reaches the reader."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from bench.command import CommandError
from bench.programs.program import ProgramError
from pagepulse.errors import PagepulseError
from workload import WorkloadError


def arguments(name: str, about: str, choices: Sequence[str], default_pairs: int) -> argparse.ArgumentParser:
    """Options: which ones, how many pairs, whether to write."""
    parser = argparse.ArgumentParser(prog=name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=choices, metavar="NAME",
                        help=f"measure this one; may be repeated (default: all): {', '.join(choices)}")
    parser.add_argument("--pairs", type=int, default=default_pairs, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="measure nothing: print, or write, what was kept")
    parser.add_argument("--write", action="store_true", help="write the table to tests/bench/RESULTS.md")
    return parser


def run(main: Callable[[], int | None], *, needs_root: bool = True) -> int:
    """Measure, and undo all that was set up for it on every way out.

    Args:
        main: Measures; its exit status, if it has one.
        needs_root: Simulations do not.

    Returns:
        The exit status: 0 or main's own, 1 if a measurement failed, 3 without the privileges, 128 and the number of the
        signal that ended it.
    """
    if needs_root and os.geteuid() != 0:
        print("The bench watches other processes' memory: it needs root.", file=sys.stderr)
        return 3
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unwind)
    try:
        return main() or 0
    except (CommandError, PagepulseError, ProgramError, WorkloadError, OSError, subprocess.SubprocessError) as error:
        print(f"The measurement failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _unwind(number: int, _frame: FrameType | None) -> None:
    """Every `with` block undoes what it did; once: what is being undone is not interrupted."""
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)
