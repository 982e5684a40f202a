# SPDX-License-Identifier: GPL-2.0-only
"""Instruments: what many targets are looked at with. Opened once, for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pagepulse.errors import Unsupported
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.shared_probes import SharedProbes
from pagepulse.kernel.taskstats import TaskDelays


@dataclass(frozen=True, slots=True)
class Instruments:
    """What many targets are looked at with."""

    reader: Reader
    probes: SharedProbes
    delays: TaskDelays | None = None
    """Tells what they wait for; None: the kernel does not count that."""


@contextmanager
def instruments() -> Iterator[Instruments]:
    """Load and attach everything; detach on every way out.

    Raises:
        Unsupported: This kernel or these privileges cannot do it.
        PagepulseError: A program was refused.
    """
    with ExitStack() as stack:
        programs = stack.enter_context(Programs())
        reader, probes = Reader(programs), SharedProbes(programs)
        stack.callback(probes.close)
        yield Instruments(reader, probes, delays_if_counted(stack))


def delays_if_counted(stack: ExitStack) -> TaskDelays | None:
    """Who tells what targets wait for, if the kernel counts it."""
    if TaskDelays.hint():
        return None
    try:
        delays = TaskDelays()
    except Unsupported:
        return None
    stack.callback(delays.close)
    return delays
