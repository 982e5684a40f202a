# SPDX-License-Identifier: GPL-2.0-only
"""Waits: what a target waits for, looked at now and then: delays of its threads, and pressure in its control group."""

from __future__ import annotations

from pathlib import Path

from pagepulse.errors import UsageError
from pagepulse.kernel.cgroup import Cgroup
from pagepulse.kernel.system import pressure_of
from pagepulse.kernel.taskstats import TaskDelays
from pagepulse.model.system import REFAULTS_ABOVE_HZ, Delays, Pressure, Waits

_EVERY_NS = 2_000_000_000
_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


class WaitWatch:
    """Looks at what one process waits for, every other second at most: some 60 us.

    Args:
        pid: The process.
        delays: Tells delays; None: they are not known.
        proc: Where /proc is; tests give another.
        roots: Where control groups of version 2 are.
    """

    def __init__(self, pid: int, delays: TaskDelays | None, proc: Path = Path("/proc"),
                 roots: tuple[Path, ...] = _ROOTS) -> None:
        self._pid, self._delays, self._proc, self._roots = pid, delays, proc, roots
        self._membership = proc / str(pid) / "cgroup"
        self._due_ns = self._looked_ns = 0
        self._refaults: tuple[Path, int] | None = None
        self.newest = Waits()
        """As last seen."""

    def look(self, now_ns: int) -> Waits:
        """What it waits for; not asked anew within two seconds."""
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + _EVERY_NS
            delays = None if self._delays is None else self._delays.of(self._pid)
            pressure = self._pressure()
            self.newest = Waits(delays, pressure, self._share(delays, now_ns), self._is_short(pressure, now_ns))
            self._looked_ns = now_ns
        return self.newest

    def _share(self, delays: Delays | None, now_ns: int) -> float:
        before = self.newest.delays
        if delays is None or before is None:
            return 0.0
        return max(delays.total_ns - before.total_ns, 0) / max(now_ns - self._looked_ns, 1)

    def _pressure(self) -> Pressure | None:
        """Of the control group that it is in now; None in the topmost one, whose pressure is the machine's."""
        path = self._group("")
        try:
            return None if path in {None, "/"} else Cgroup(Path(str(path).lstrip("/")), self._roots).pressure()
        except UsageError:
            return None

    def _group(self, controller: str) -> str | None:
        """The group of version 2, for "", or that of a controller of version 1; None: it has none."""
        try:
            lines = self._membership.read_text(errors="surrogateescape").splitlines()
        except OSError:
            return None
        found = (line.split(":", 2) for line in lines)
        return next((path for _, controllers, path in found if controller in controllers.split(",")), None)

    def _is_short(self, pressure: Pressure | None, now_ns: int) -> bool:
        """By the pressure of the group, else by that of the machine, else by what is fetched back after reclaim."""
        pressure = pressure or pressure_of(self._proc / "pressure/memory")
        if pressure is not None:
            return pressure.is_high
        before, self._refaults = self._refaults, self._count_refaults()
        if before is None or self._refaults is None or before[0] != self._refaults[0]:
            return False
        came_back = self._refaults[1] - before[1]
        return came_back * 1e9 > REFAULTS_ABOVE_HZ * max(now_ns - self._looked_ns, 1)

    def _count_refaults(self) -> tuple[Path, int] | None:
        """Pages that came back after reclaim, and of whom: of its group, of either version, or of the machine."""
        groups = [(self._group(""), self._roots), (self._group("memory"), self._memory_roots())]
        places = [root / path.lstrip("/") / "memory.stat" for path, roots in groups if path and path != "/"
                  for root in roots]
        for place in [*places, self._proc / "vmstat"]:
            try:
                counters = dict(line.split() for line in place.read_text().splitlines())
            except (OSError, ValueError):
                continue
            found = [int(value) for name, value in counters.items() if name.startswith("workingset_refault")]
            if found:
                return place, sum(found)
        return None

    def _memory_roots(self) -> tuple[Path, ...]:
        return tuple(root / "memory" for root in self._roots)
