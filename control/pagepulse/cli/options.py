# SPDX-License-Identifier: GPL-2.0-only
"""Options that several verbs share: the target, the intervals, the budget."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pagepulse.capture import Rotation
from pagepulse.errors import UsageError
from pagepulse.fleet import Selection
from pagepulse.model.clearing import AUTO, WAYS
from pagepulse.monitor import MonitorOptions
from pagepulse.units import parse_share, parse_size, parse_time_ns

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
    """`--pid PID...`, or `-- COMMAND ARGS...`, and all else that `Selection` knows."""
    group = parser.add_argument_group("target (one of)")
    group.add_argument("--pid", type=int, action="extend", nargs="+", help="running processes")
    _add_selection(group, parser.add_argument_group("which of them"))
    group.add_argument("argv", nargs="*", metavar="-- COMMAND",
                       help="start this command and watch it; its exit status is passed on")


def _add_selection(target: argparse._ArgumentGroup, which: argparse._ArgumentGroup) -> None:
    target.add_argument("--cgroup", type=Path, metavar="PATH",
                        help="the processes of this control group and those below it, as they come and go")
    target.add_argument("--system", action="store_true",
                        help="all processes of at least --min-rss (default then: 16MiB)")
    which.add_argument("--children", action="store_true",
                       help="their children, too, and so on, as they start (default: only the process itself)")
    which.add_argument("--exe", metavar="GLOB",
                       help="only programs of this name, or path if it has a slash; alone: of the whole system")
    which.add_argument("--user", type=_user, metavar="NAME", help="only this user's; alone: of the whole system")
    which.add_argument("--min-rss", type=unit(parse_size), metavar="SIZE", default=0,
                       help="only what has this much resident memory (default: 256KiB)")


def _user(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None


def selection(args: argparse.Namespace) -> Selection:
    """What was said about the target; a command is not started yet, and not in it.

    Raises:
        UsageError: No target, more than one kind, or ones that contradict each other.
    """
    pids = frozenset(args.pid or ())
    chosen = Selection(pids, args.children, args.cgroup, args.system, args.exe, args.user, args.min_rss)
    kinds = sum(map(bool, (pids, chosen.cgroup, args.argv, chosen.system)))
    if kinds > 1 or not (kinds or chosen.is_wide):
        raise UsageError("give one target: --pid PID..., --cgroup PATH, --system, or -- COMMAND ARGS...")
    if chosen.children and not (pids or args.argv):
        raise UsageError("--children belongs to --pid or to a command", hint="--cgroup and --system have them anyway")
    if (pids or args.argv) and not chosen.children and (args_filter := _filter_given(chosen)):
        raise UsageError(f"{args_filter} says nothing about processes that are named",
                         hint="give it with --children, --cgroup or --system")
    if os.getpid() in pids:
        raise UsageError("pagepulse does not watch itself", hint="give another process")
    return chosen


def _filter_given(chosen: Selection) -> str | None:
    given = {"--exe": chosen.exe is not None, "--user": chosen.user is not None, "--min-rss": chosen.min_rss_bytes > 0}
    return next((name for name, is_given in given.items() if is_given), None)


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


def add_rotation(parser: argparse.ArgumentParser) -> None:
    """When a part of the recording ends, and how many stay."""
    group = parser.add_argument_group("recording for weeks")
    group.add_argument("--rotate-size", type=unit(parse_size), metavar="SIZE",
                       help="go on in a new file when this one is so large; the old one gets the time into its name, "
                            "and is packed (xz)")
    group.add_argument("--rotate-every", type=unit(parse_time_ns), metavar="TIME", help="... when it is so old")
    group.add_argument("--keep", type=int, metavar="N", help="so many old files stay (default: all)")


def rotation_of(args: argparse.Namespace) -> Rotation:
    """What was said of it.

    Raises:
        UsageError: It makes no sense.
    """
    rotation = Rotation(args.rotate_size, args.rotate_every, args.keep)
    if fault := rotation.fault:
        raise UsageError(f"--{fault}")
    if rotation.keep is not None and not rotation.rotates:
        raise UsageError("--keep says nothing without --rotate-size or --rotate-every",
                         why="there is one file, and it stays")
    return rotation


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
