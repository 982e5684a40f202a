# SPDX-License-Identifier: GPL-2.0-only
"""Waits: what a target waits for, looked at now and then: delays of its threads, and pressure in its control group."""

from __future__ import annotations

from pathlib import Path

from pagepulse.errors import UsageError
from pagepulse.kernel.cgroup import Cgroup
from pagepulse.kernel.taskstats import TaskDelays
from pagepulse.model.system import Delays, Pressure, Waits

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
        self._pid, self._delays, self._roots = pid, delays, roots
        self._membership = proc / str(pid) / "cgroup"
        self._due_ns = self._looked_ns = 0
        self.newest = Waits()
        """As last seen."""

    def look(self, now_ns: int) -> Waits:
        """What it waits for; not asked anew within two seconds."""
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + _EVERY_NS
            delays = None if self._delays is None else self._delays.of(self._pid)
            self.newest = Waits(delays, self._pressure(), self._share(delays, now_ns))
            self._looked_ns = now_ns
        return self.newest

    def _share(self, delays: Delays | None, now_ns: int) -> float:
        before = self.newest.delays
        if delays is None or before is None:
            return 0.0
        return max(delays.total_ns - before.total_ns, 0) / max(now_ns - self._looked_ns, 1)

    def _pressure(self) -> Pressure | None:
        """Of the control group that it is in now; None in the topmost one, whose pressure is the machine's."""
        try:
            lines = self._membership.read_text(errors="surrogateescape").splitlines()
            path = next(line[3:] for line in lines if line.startswith("0::"))
            return None if path == "/" else Cgroup(Path(path.lstrip("/")), self._roots).pressure()
        except (OSError, StopIteration, UsageError):
            return None
