# SPDX-License-Identifier: GPL-2.0-only
"""Facts of the machine's memory, as they are now: what goals, watermarks and guards of schemes are measured against."""

from __future__ import annotations

import time
from pathlib import Path

from pagepulse.kernel.host import meminfo
from pagepulse.kernel.process import Process
from pagepulse.model.memory import PAGE
from pagepulse.model.system import Counters, Pressure, SystemFacts


def system_facts(proc: Path = Path("/proc")) -> SystemFacts:
    """Read `meminfo`, `vmstat` and `pressure/memory`.

    Raises:
        OSError: There is no such file system.
    """
    sizes = meminfo((proc / "meminfo").read_text())
    events = dict(line.split() for line in (proc / "vmstat").read_text().splitlines())
    return SystemFacts(
        now_ns=time.monotonic_ns(), total_bytes=sizes["MemTotal"], free_bytes=sizes["MemFree"],
        available_bytes=sizes["MemAvailable"], swap_total_bytes=sizes.get("SwapTotal", 0),
        swap_free_bytes=sizes.get("SwapFree", 0), swapped_out_bytes=int(events.get("pswpout", 0)) * PAGE,
        pressure=pressure_of(proc / "pressure/memory"))


def target_counters(process: Process, proc: Path = Path("/proc")) -> Counters:
    """A target's memory, faults and CPU, and the machine's memory pressure.

    Raises:
        TargetGone: The process has exited.
    """
    stat, pressure = process.stat(), pressure_of(proc / "pressure/memory")
    return Counters(time.monotonic_ns(), process.rss_bytes(), process.swap_bytes(), stat.minor_faults,
                    stat.major_faults, stat.cpu_ns, pressure.some_us if pressure else None,
                    pressure.full_us if pressure else None)


def pressure_of(path: Path) -> Pressure | None:
    """`some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and a line for full; None without PSI, or with psi=0."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    some, full = ({key: float(value) for key, value in (word.split("=") for word in line.split()[1:])}
                  for line in lines)
    return Pressure(some_us=int(some["total"]), full_us=int(full["total"]),
                    some_avg10=some["avg10"] / 100, full_avg10=full["avg10"] / 100)
