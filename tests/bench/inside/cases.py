# SPDX-License-Identifier: GPL-2.0-only
"""What is watched by DAMON and by pagepulse: programs that know what they touch, and a real one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.paired import rate_between
from bench.programs.stores import Redis
from workload import Workload

Span = tuple[int, int]
ORACLE_MS = (50, 100, 200, 400, 800, 1600, 3200, 6400, 12800)
_ORACLE_TIMES, _ORACLE_LONG_MS = 3, 1600


def _only_wait(seconds: float) -> None:
    time.sleep(seconds)


@dataclass(slots=True)
class Running:
    """A program at work."""

    pid: int
    hot: list[tuple[int, list[Span]]] = field(default_factory=list)
    """What is hot from a time on (CLOCK_MONOTONIC)."""
    wss_bytes: dict[int, int] = field(default_factory=dict)
    """Of one that cannot say: what was touched within so many milliseconds, by the kernel's own count."""
    counts: bool = False
    """Whether it counts its operations."""
    work: Callable[[float], float | None] = _only_wait
    """Lets it work for so many seconds, and returns its operations a second, if it counts them."""


@contextmanager
def _neighbour() -> Iterator[None]:
    """A program that sleeps nearly always, on the processor of the one that is watched.

    An emulated TLB holds more than any processor's, and only a switch to another program empties it. Without one,
    DAMON, which does not flush, would see nearly nothing of a program that never waits: so no real machine is.
    """
    with Workload("pulse", "--size", "4KiB", "--hot", "100%", "--period", "5ms") as neighbour:
        _bind(neighbour.pid)
        yield


def _bind(pid: int) -> None:
    os.sched_setaffinity(pid, {0})


@contextmanager
def still() -> Iterator[Running]:
    """One hot range."""
    with _neighbour(), Workload("throughput", "--size", "1GiB", "--hot", "128MiB", "--slice", "250ms", "--cpu",
                                "0") as program:
        def work(seconds: float) -> float:
            begun_ns = time.monotonic_ns()
            time.sleep(seconds)
            return rate_between(program.events("slice"), begun_ns, time.monotonic_ns())
        yield Running(program.pid, [(0, _spans(program.ready["hot"]))], counts=True, work=work)


@contextmanager
def spots() -> Iterator[Running]:
    """Many small hot ranges."""
    with _neighbour(), Workload("pulse", "--size", "1GiB", "--hot", "12.5%", "--scatter", "random", "--grain", "2MiB",
                                "--period", "50ms") as program:
        _bind(program.pid)
        yield Running(program.pid, [(0, _spans(program.ready["hot"]))])


@contextmanager
def phases() -> Iterator[Running]:
    """One area after the other; the account of them is complete when the program ends."""
    with _neighbour(), Workload("stairs", "--areas", "45", "--bytes", "48MiB", "--phase", "6s") as program:
        _bind(program.pid)
        running = Running(program.pid)
        yield running
        running.hot += [(event["start_ns"], [(event["start"], event["end"])]) for event in program.events("phase")]


class SmallRedis(Redis):
    """As much as an emulated processor can fill."""

    keys, asked_for = 200_000, 200_000


@contextmanager
def redis() -> Iterator[Running]:
    """A real program. What it touches is asked of the kernel beforehand."""
    with SmallRedis() as program:
        yield Running(program.pid, wss_bytes={ms: touched_within(program.pid, ms) for ms in ORACLE_MS},
                      counts=True, work=lambda seconds: program.measure(seconds).rate)


CASES = {"still": still, "spots": spots, "phases": phases, "redis": redis}


def touched_within(pid: int, milliseconds: int) -> int:
    """Bytes that a process touches in so long: clear_refs, wait, smaps. The median of some times, if it is short."""
    found = []
    for _ in range(_ORACLE_TIMES if milliseconds < _ORACLE_LONG_MS else 1):
        Path(f"/proc/{pid}/clear_refs").write_text("1")
        Path(f"/proc/{pid}/clear_refs").write_text("4")  # soft-dirty bits: for the flush of the TLB that it brings
        time.sleep(milliseconds / 1000)
        rollup = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        found.append(int(rollup["Referenced"].split()[0]) * 1024)
    return sorted(found)[len(found) // 2]


def _spans(said: list[Any]) -> list[Span]:
    return [(start, end) for start, end in said]
