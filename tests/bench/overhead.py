# SPDX-License-Identifier: GPL-2.0-only
"""What `pagepulse record` at its defaults costs: itself, and the program that it watches."""

from __future__ import annotations

import signal
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandError, start
from bench.machine import OtherWork
from bench.paired import Change, paired_change, rate_between
from bench.table import Row, row_at_most
from bench.watching import wait_for_snapshot
from pagepulse.capture import Recording
from workload import Workload, cpu_ns, now_ns, resident_bytes, status_bytes

TARGET = ("--size", "4GiB", "--hot", "512MiB", "--slice", "50ms", "--cpu", "0")
_SLOWER = 0.005  # the goal: at most this share of the target's throughput


@dataclass(frozen=True, slots=True)
class Phases:
    """How long each part of a pair lasts, in seconds."""

    pairs: int
    settle_s: float
    """From the first snapshot on: the first look at 4 GiB costs more than the watching."""
    measure_s: float


@dataclass(frozen=True, slots=True)
class Watched:
    """One phase with the recorder."""

    start_ns: int
    end_ns: int
    cpu_share: float
    rss_bytes: int
    peak_bytes: int
    first_sample_s: float


@dataclass(frozen=True, slots=True)
class Overhead:
    """All pairs."""

    phases: list[Watched]
    change: Change
    others_share: float


def measure(phases: Phases, place: Path) -> Overhead:
    """Alternate between peace and recording, on one running target.

    Args:
        phases: How often, how long.
        place: A directory for the recording.
    """
    with Workload("throughput", *TARGET) as target:
        others, alone_ns, watched = OtherWork(target.pid), [], []
        for _ in range(phases.pairs):
            begun_ns = now_ns()
            time.sleep(phases.measure_s)
            alone_ns.append((begun_ns, now_ns()))
            watched.append(_record(target.pid, phases, place / "overhead.data"))
        slices = target.events("slice")
        without = [rate_between(slices, *times) for times in alone_ns]
        with_it = [rate_between(slices, phase.start_ns, phase.end_ns) for phase in watched]
        return Overhead(watched, paired_change(without, with_it), others.share())


def rows(overhead: Overhead) -> list[Row]:
    """The table's part."""
    change = overhead.change
    # Only an interval that lies within the goal shows that it is met, or outside of it, that it is missed.
    within = True if change.low >= -_SLOWER else False if change.high < -_SLOWER else None
    return [
        row_at_most("start of `record` to its first sample, median",
                    statistics.median(phase.first_sample_s for phase in overhead.phases), 2, "s"),
        row_at_most("the recorder's RSS at steady state, largest",
                    max(phase.rss_bytes for phase in overhead.phases) / 2**20, 64, "MiB"),
        row_at_most("the recorder's CPU share at defaults, 4 GiB, 512 MiB hot, mean",
                    statistics.mean(phase.cpu_share for phase in overhead.phases) * 100, 1, "%"),
        Row("the target's throughput, recorded against not", str(change), "within 0.5 %", within),
    ]


def _record(pid: int, phases: Phases, path: Path) -> Watched:
    path.unlink(missing_ok=True)
    spawned_ns = now_ns()
    with start("record", "-o", path, "--pid", str(pid)) as recorder:
        try:
            wait_for_snapshot(recorder, path)
            time.sleep(phases.settle_s)
            before_ns, start_ns = cpu_ns(recorder.pid), now_ns()
            time.sleep(phases.measure_s)
            end_ns, after_ns = now_ns(), cpu_ns(recorder.pid)
            rss_bytes, peak_bytes = resident_bytes(recorder.pid), status_bytes(recorder.pid, "VmHWM")
        finally:
            recorder.send_signal(signal.SIGINT)
        _, complaint = recorder.communicate()
    if recorder.returncode:
        raise CommandError(complaint.strip())
    with Recording.open(path) as recording:
        first_ns = next(recording.snapshots()).start_ns
    return Watched(start_ns, end_ns, (after_ns - before_ns) / (end_ns - start_ns), rss_bytes, peak_bytes,
                   (first_ns - spawned_ns) / 1e9)
