# SPDX-License-Identifier: GPL-2.0-only
"""Session: from the command line to a monitor that runs, and back to a system without a trace of us."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pagepulse.cli.options import monitor_options
from pagepulse.errors import PagepulseError, TargetGone, UsageError
from pagepulse.kernel.host import facts, require
from pagepulse.kernel.launch import Command
from pagepulse.kernel.lock import TargetLock
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.process import Process
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.usage import Waiter
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
    require(facts())
    with ExitStack() as stack:
        process = Process(args.pid) if args.pid is not None else None
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
            monitor = Monitor(process, reader, probes, options)
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
    if (args.pid is None) == (not args.argv):
        raise UsageError("give one target: --pid PID, or -- COMMAND ARGS...")
    if args.pid == os.getpid():
        raise UsageError("pagepulse does not watch itself", hint="give another process")
    if acts and args.pid == 1:
        raise UsageError("schemes are not applied to process 1", why="the whole system depends on its memory",
                         hint="`pagepulse record --pid 1` watches it")


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
