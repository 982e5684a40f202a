# SPDX-License-Identifier: GPL-2.0-only
"""Options that several verbs share: the target, the intervals, the budget."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from pagepulse.errors import UsageError
from pagepulse.model.clearing import AUTO, WAYS
from pagepulse.monitor import MonitorOptions
from pagepulse.units import parse_share, parse_time_ns

T = TypeVar("T")


def unit(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type that reports the parser's own message."""
    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


def add_target(parser: argparse.ArgumentParser) -> None:
    """`--pid PID`, or `-- COMMAND ARGS...`."""
    group = parser.add_argument_group("target (one of)")
    group.add_argument("--pid", type=int, help="a running process")
    group.add_argument("argv", nargs="*", metavar="-- COMMAND",
                       help="start this command and watch it; its exit status is passed on")


def add_monitoring(parser: argparse.ArgumentParser) -> None:
    """Intervals, number of regions, budget and duration, as `MonitorOptions` has them."""
    defaults = MonitorOptions()
    group = parser.add_argument_group("monitoring")
    time = unit(parse_time_ns)
    group.add_argument("--duration", type=time, metavar="TIME",
                       help="stop after this long (default: when the target ends, or at a signal)")
    group.add_argument("--sample", type=time, metavar="TIME", default=defaults.sampling_ns,
                       help="sampling interval: the finest time that is told apart (default: 5ms)")
    group.add_argument("--aggregate", type=time, metavar="TIME",
                       help="aggregation interval: one snapshot each (default: 100ms, or longer to stay in budget)")
    group.add_argument("--update", type=time, metavar="TIME", default=defaults.update_ns,
                       help="how soon new mappings are seen (default: 1s)")
    group.add_argument("--min-regions", type=int, metavar="N", default=defaults.min_regions, help="(default: 10)")
    group.add_argument("--max-regions", type=int, metavar="N", default=defaults.max_regions, help="(default: 1000)")
    group.add_argument("--budget", type=unit(parse_share), metavar="SHARE", default=defaults.budget,
                       help="share of one CPU that monitoring may cost, the target's part included (default: 1%%)")
    group.add_argument("--clear", choices=WAYS, default=AUTO,
                       help="how accessed bits are cleared: cold (MADV_COLD: any pages but those that several "
                            "processes map), refs (/proc/PID/clear_refs: all of the process at once, intervals of "
                            "a second or more), or auto: cold, then refs for memory with a file behind it, once most "
                            "of the target turns out to be shared (default: auto)")


def monitor_options(args: argparse.Namespace) -> MonitorOptions:
    """Check what was given, before anything is attached.

    Raises:
        UsageError: The options contradict each other.
    """
    aggregation_ns = args.aggregate or MonitorOptions().aggregation_ns
    if not 0 < args.sample <= aggregation_ns:
        raise UsageError("--sample must be above 0 and at most --aggregate")
    if aggregation_ns > args.update:
        raise UsageError("--update must be at least --aggregate")
    if not 3 <= args.min_regions <= args.max_regions:
        raise UsageError("--min-regions must be at least 3 and at most --max-regions")
    if not 0 < args.budget <= 1:
        raise UsageError("--budget must be above 0% and at most 100% of one CPU")
    if args.duration is not None and args.duration <= 0:
        raise UsageError("--duration must be above 0")
    return MonitorOptions(args.sample, aggregation_ns, args.update, args.min_regions, args.max_regions, args.budget,
                          args.duration, args.clear, pinned=args.aggregate is not None)
