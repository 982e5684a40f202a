# SPDX-License-Identifier: GPL-2.0-only
"""Session: from the command line to a monitor that runs, and back to a system without a trace of us."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from pagepulse.cli.options import monitor_options, selection
from pagepulse.errors import PagepulseError, TargetGone, UsageError
from pagepulse.fleet import Fleet, Roster
from pagepulse.kernel.census import allow_many_files
from pagepulse.kernel.host import facts, require
from pagepulse.kernel.instruments import delays_if_counted, instruments
from pagepulse.kernel.launch import Command
from pagepulse.kernel.lock import TargetLock
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.process import Process
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.usage import Waiter, end_at_interrupt
from pagepulse.monitor import Monitor, MonitorOptions


@dataclass(slots=True)
class Session:
    """A running monitor and what belongs to it."""

    monitor: Monitor
    process: Process
    waiter: Waiter
    options: MonitorOptions
    command: Command | None
    exit_status: int = 0
    """What the verb shall return: the command's own status, once the session is over."""


@contextmanager
def session(args: argparse.Namespace, *, acts: bool = False, mute: bool = False) -> Iterator[Session]:
    """Attach to the target that the arguments name; detach on every way out.

    Args:
        args: Parsed by `options.add_target` and `add_monitoring`.
        acts: The verb will change the target's memory: some targets are refused.
        mute: Discard the output of a command that we start.

    Raises:
        UsageError: No such target, or a wrong one.
        Unsupported: This kernel or these privileges cannot do it.
    """
    options = monitor_options(args)
    _check_target(args, acts=acts)
    end_at_interrupt()
    require(facts())
    with ExitStack() as stack:
        process = Process(args.pid[0]) if args.pid else None
        if process is not None:
            stack.callback(process.close)
        programs = stack.enter_context(Programs())
        reader = Reader(programs)
        probes = Probes(programs)
        stack.callback(probes.close)
        command = None
        if process is None:
            command = Command(args.argv, mute=mute)
            stack.callback(command.end)  # whatever fails from here on, it does not run on unwatched
            process = Process(command.pid)
            stack.callback(process.close)
        lock = TargetLock(process)
        stack.callback(lock.close)
        waiter = Waiter(process.pidfd)
        stack.callback(waiter.close)
        try:
            monitor = Monitor(process, reader, probes, options, delays=delays_if_counted(stack))
        except TargetGone:
            raise _ended_too_soon() from None
        stack.callback(monitor.close)
        running = Session(monitor, process, waiter, options, command)
        yield running
        if command is not None:
            if waiter.target_ended:
                command.wait_briefly()
            running.exit_status = command.end()


def _check_target(args: argparse.Namespace, *, acts: bool) -> None:
    chosen = selection(args)
    if acts and 1 in chosen.pids:
        raise UsageError("schemes are not applied to process 1", why="the whole system depends on its memory",
                         hint="`pagepulse record --pid 1` watches it")


@dataclass(slots=True)
class FleetSession:
    """Many processes that are watched, and what belongs to it."""

    fleet: Fleet
    waiter: Waiter
    options: MonitorOptions
    command: Command | None
    exit_status: int = 0
    """As a Session's."""


@contextmanager
def fleet_session(args: argparse.Namespace, *, acts: bool = False, mute: bool = False) -> Iterator[FleetSession]:
    """Attach to the processes that the arguments name, and to those that join them; as `session`."""
    options, chosen = monitor_options(args), selection(args)
    _check_target(args, acts=acts)
    end_at_interrupt()
    require(facts())
    for pid in chosen.pids:
        Process(pid).close()  # a named process that is not there is a mistake
    allow_many_files()
    with ExitStack() as stack:
        tools = stack.enter_context(instruments())
        command = Command(args.argv, mute=mute) if args.argv else None
        if command is not None:
            stack.callback(command.end)
            chosen = replace(chosen, pids=frozenset({command.pid}))
        roster = Roster(chosen)
        stack.callback(roster.close)
        if roster.deaf is not None:
            print(f"pagepulse: {roster.deaf.what}: {roster.deaf.why}\n"
                  "  new processes are looked for once a second", file=sys.stderr)
        waiter = Waiter(None)
        stack.callback(waiter.close)
        fleet = Fleet(tools, roster, options)
        stack.callback(fleet.close)
        running = FleetSession(fleet, waiter, options, command)
        yield running
        if command is not None:
            running.exit_status = command.end()


def refuse_emptiness(running: FleetSession) -> None:
    """Say so if nobody was watched.

    Raises:
        PagepulseError: There is no snapshot, and nobody asked us to stop.
    """
    fleet = running.fleet
    if fleet.totals.snapshots or running.waiter.signal is not None:
        return
    if fleet.refused:
        pid, why = next(iter(fleet.refused.items()))
        raise PagepulseError(f"none of {len(fleet.refused)} processes could be watched", why=f"process {pid}: {why}")
    if fleet.opened:
        raise _ended_too_soon()
    raise PagepulseError("there was no process to watch", why="none belongs to the target and has enough memory",
                         hint="see --min-rss; `ps -eo pid,rss,args --sort -rss` lists processes")


def refuse_silence(running: Session) -> None:
    """Say so if there was no time to see anything.

    Raises:
        PagepulseError: There is no snapshot, and nobody asked us to stop.
    """
    if running.monitor.totals.snapshots or running.waiter.signal is not None:
        return
    if running.process.has_exited():
        raise _ended_too_soon()
    raise PagepulseError("there was no time for a snapshot", why="--duration is shorter than an interval",
                         hint="give it more time")


def _ended_too_soon() -> PagepulseError:
    return PagepulseError("the target ended before there was a snapshot", why="it ran for less than an interval",
                          hint="watch something that runs longer")
