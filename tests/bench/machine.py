# SPDX-License-Identifier: GPL-2.0-only
"""The machine that a measurement was made on, and what else it was doing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from workload import cpu_ns, now_ns

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class OtherWork:
    """What other programs take of the machine from now on.

    Args:
        *pids: Running processes that belong to the measurement. Children that have ended are known.
    """

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._begun_ns = now_ns()
        self._busy_ns = self._others_ns()

    def share(self) -> float:
        """Fraction of all processors, 0 to 1."""
        elapsed_ns = (now_ns() - self._begun_ns) * (os.cpu_count() or 1)
        return max(0.0, (self._others_ns() - self._busy_ns) / elapsed_ns)

    def _others_ns(self) -> int:
        return _busy_ns() - round(sum(os.times()[:4]) * 1e9) - sum(cpu_ns(pid) for pid in self._pids)


def _busy_ns() -> int:
    """Time that the processors were not idle; proc(5): user, nice, system, idle, iowait, irq, softirq, steal."""
    user, nice, system, _, _, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK_NS


def description() -> str:
    """Kernel and processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"Linux {platform.release()}, {os.cpu_count()} processors, {next(models, 'of a model unknown')}"
