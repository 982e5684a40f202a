# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse record` on a running process, for a while, and what it said of its own cost."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.command import CommandError, start
from pagepulse.capture import Recording
from pagepulse.errors import RefusedFile
from pagepulse.model.snapshot import Snapshot
from workload import now_ns, resident_bytes

START_LIMIT_S = 120
"""An emulated processor takes a minute to compile the BPF programs."""


@dataclass(slots=True)
class Watch:
    """A recorder at work, and after it ended what it recorded."""

    pid: int = 0
    """Of the recorder."""
    rss_bytes: int = 0
    """Of the recorder, once it had settled."""
    measured_from_ns: int = 0
    snapshots: list[Snapshot] = field(default_factory=list)
    """Those of the time that was measured."""

    def shares(self) -> tuple[float, float]:
        """Own processor time and the target's tax, as shares of one CPU."""
        time_ns = sum(one.end_ns - one.start_ns for one in self.snapshots)
        return (sum(one.cost.cpu_ns for one in self.snapshots) / max(1, time_ns),
                sum(one.cost.tax_ns for one in self.snapshots) / max(1, time_ns))


@contextmanager
def watched(pid: int, place: Path, settle_s: float, *options: str) -> Iterator[Watch]:
    """Watch a process inside the block; the first look at it, which costs more, is over when the block begins.

    Raises:
        CommandError: The recorder failed.
    """
    path, watch = place / "watched.data", Watch()
    path.unlink(missing_ok=True)
    with start("record", "-o", path, "--pid", str(pid), *options) as recorder:
        try:
            wait_for_snapshot(recorder, path)
            time.sleep(settle_s)
            watch.pid = recorder.pid
            watch.rss_bytes, watch.measured_from_ns = resident_bytes(recorder.pid), now_ns()
            yield watch
        finally:
            ended_ns = now_ns()
            if not _has_ended(pid, recorder):
                recorder.send_signal(signal.SIGINT)
        _, complaint = recorder.communicate()
    if recorder.returncode:
        raise CommandError(complaint.strip() or f"pagepulse record ended with status {recorder.returncode}")
    with Recording.open(path) as recording:
        watch.snapshots = [one for one in recording.snapshots()
                           if watch.measured_from_ns <= one.start_ns and one.end_ns <= ended_ns]


def wait_for_snapshot(recorder: subprocess.Popen[str], path: Path) -> None:
    """Until the recording has one.

    Raises:
        CommandError: The recorder ended, or has none in time.
    """
    deadline_ns = now_ns() + START_LIMIT_S * 1_000_000_000
    while not _has_snapshot(path):
        if recorder.poll() is not None or now_ns() > deadline_ns:
            raise CommandError(f"`record` ended, or had no snapshot after {START_LIMIT_S} s")
        time.sleep(0.05)


def _has_ended(pid: int, recorder: subprocess.Popen[str]) -> bool:
    """Whether the recorder has ended of itself, as it does soon after its target."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        recorder.wait(5)
    except subprocess.TimeoutExpired:
        return False
    return True


def _has_snapshot(path: Path) -> bool:
    try:
        with Recording.open(path) as recording:
            return recording.snapshot_count > 0
    except RefusedFile:  # not there yet, or without its header
        return False
