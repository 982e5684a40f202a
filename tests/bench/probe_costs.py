# SPDX-License-Identifier: GPL-2.0-only
"""What the fault probe costs those it looks at and those it looks past, and what reading before a clear costs.

All times are nanoseconds for each page, one for each round.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pagepulse.kernel.probes import Probes
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Identity, Reader
from pagepulse.kernel.syscalls import MADV_COLD, MADV_NOHUGEPAGE, process_madvise
from pagepulse.model.memory import PAGE, WINDOW
from workload import Workload

Rounds = dict[str, list[float]]
"""What was done -> ns a page, round by round."""

PAGES = 16384
NO_PROBE, PAST, AT = "no probe", "on another process", "on this one"
CLEAR, READ_FIRST = "clear", "read, then clear"


def fault_rounds(programs: Programs, rounds: int) -> Rounds:
    """Minor faults of our own: first reads of anonymous memory, which map the page of zeros, the cheapest there is.

    Args:
        programs: The loaded programs.
        rounds: Of each.
    """
    memory = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(MADV_NOHUGEPAGE)
    first_bytes = np.frombuffer(memory, np.uint8)[::PAGE]
    with _identity_of(programs, os.getpid()) as ourselves, Workload("touch", "--area", "a:1MiB") as touch, \
            _identity_of(programs, touch.pid) as other:
        def fault() -> None:
            first_bytes.max()

        found: Rounds = {}
        for _ in range(rounds):
            for who, target in ((NO_PROBE, None), (PAST, other), (AT, ourselves)):
                with _looking_at(programs, target) as probes:
                    memory.madvise(mmap.MADV_DONTNEED)
                    found.setdefault(who, []).append(_ns_a_page(fault))
                    if probes is not None:
                        probes.drain_faults()
    return found


def sweep_rounds(programs: Programs, rounds: int) -> dict[str, Rounds]:
    """Clearing 64 MiB, all of it touched, alone and after a read of all its windows; by call.

    Args:
        programs: The loaded programs.
        rounds: Of each.
    """
    reader = Reader(programs)
    found: dict[str, Rounds] = {}
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch, _identity_of(programs, touch.pid) as target, \
            _pidfd(touch.pid) as pidfd:
        start, end = touch.area("a")
        windows = np.arange(start // WINDOW * WINDOW, end, WINDOW, dtype=np.uint64)
        everything = np.array([[start, end - start]], np.uint64)

        def read() -> int:
            return int(np.bitwise_count(reader.windows(pidfd, windows, target).young).sum())

        clears: dict[str, Callable[[], object]] = {
            "clear_refs": lambda: Path(f"/proc/{touch.pid}/clear_refs").write_text("1"),
            "MADV_COLD": lambda: process_madvise(pidfd, everything, MADV_COLD)}
        for _ in range(rounds):
            for name, clear in clears.items():
                touch.command(f"touch a 0 {PAGES}")
                alone = _ns_a_page(clear)
                touch.command(f"touch a 0 {PAGES}")
                reading = _ns_a_page(read)
                rows = found.setdefault(name, {CLEAR: [], READ_FIRST: []})
                rows[CLEAR].append(alone)
                rows[READ_FIRST].append(reading + _ns_a_page(clear))
    return found


def _ns_a_page(work: Callable[[], object]) -> float:
    """CPU time: what other programs take of the machine meanwhile does not count."""
    begun_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - begun_ns) / PAGES


@contextmanager
def _looking_at(programs: Programs, target: Identity | None) -> Iterator[Probes | None]:
    """Probes on this process, gone afterwards; None: none."""
    if target is None:
        yield None
        return
    probes = Probes(programs)
    probes.watch(target)
    try:
        yield probes
    finally:
        probes.close()


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


@contextmanager
def _identity_of(programs: Programs, pid: int) -> Iterator[Identity]:
    with _pidfd(pid) as pidfd:
        yield Reader(programs).identity(pidfd)
