# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's DAMON on one process, started by damo; what its thread cost, and all regions that it told."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KDAMOND = Path("/sys/kernel/mm/damon/admin/kdamonds/0")
AUTO_TUNED = ("--monitoring_intervals_autotune",)
TUNING_GOAL = KDAMOND / "contexts/0/monitoring_attrs/intervals/intervals_goal"
"""Only kernels from 6.15 on can tune intervals; it is there once a kdamond is."""
_PARENT = KDAMOND.parent / "nr_kdamonds"
_TRACING = Path("/sys/kernel/tracing")
_BUFFER_KIB = 64 << 10
"""For each processor: all lines of a measurement. So nobody has to read them meanwhile."""


def damo(*arguments: str) -> None:
    """Call damo.

    Raises:
        subprocess.CalledProcessError: It failed; its output is on our terminal.
    """
    subprocess.run([Path(sys.executable).with_name("damo"), *arguments], check=True)


def cpu_ns() -> int:
    """What kdamond's thread has used, by its schedstat."""
    pid = (KDAMOND / "pid").read_text().strip()
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


@contextmanager
def traced(place: Path) -> Iterator[None]:
    """What DAMON tells at the end of each aggregation, as damo's recorder has it, too; in this file afterwards."""
    if not (_TRACING / "events").exists():
        subprocess.run(["mount", "-t", "tracefs", "nodev", _TRACING], check=True)
    event = _TRACING / "events/damon/damon_aggregated/enable"
    (_TRACING / "trace_clock").write_text("mono")  # as the workloads have it
    (_TRACING / "buffer_size_kb").write_text(str(_BUFFER_KIB))
    (_TRACING / "trace").write_text("")
    event.write_text("1")
    try:
        yield
    finally:
        event.write_text("0")
        with (_TRACING / "trace").open() as lines, place.open("w") as kept:
            kept.writelines(line for line in lines if "damon_aggregated" in line)
        (_TRACING / "buffer_size_kb").write_text("1408")


@contextmanager
def monitored(pid: int, settle_s: float, *options: str) -> Iterator[None]:
    """DAMON watches inside the block; it has had some time to find its regions."""
    damo("start", str(pid), *options)
    try:
        time.sleep(settle_s)
        yield
    finally:
        damo("stop")


def can_tune() -> bool:
    """Whether this kernel tunes intervals of itself."""
    _PARENT.write_text("1")
    contexts = KDAMOND / "contexts/nr_contexts"
    contexts.write_text("1")
    return TUNING_GOAL.exists()
