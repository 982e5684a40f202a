# SPDX-License-Identifier: GPL-2.0-only
"""Table: many processes at once, the largest first: what each has, uses, and leaves idle."""

from __future__ import annotations

from collections.abc import Iterator

from pagepulse.model.snapshot import IDLE_EDGES_NS, Snapshot
from pagepulse.report.together import Together
from pagepulse.report.words import shortened
from pagepulse.units import format_share, format_size, format_time_ns

_IDLE_EDGE = 2  # of IDLE_EDGES_NS: 10 s


class ProcessTable:
    """Remembers the newest snapshot of each process, and lays them out."""

    def __init__(self) -> None:
        self._newest: dict[int, Snapshot] = {}
        self._names: dict[int, str] = {}
        self._sums = Together()

    def named(self, pid: int, name: str) -> None:
        """This process is watched from now on."""
        self._names[pid] = name

    def add(self, snapshot: Snapshot) -> None:
        """Take in a snapshot."""
        self._newest[snapshot.pid] = snapshot
        self._sums.add(snapshot)

    def ended(self, pid: int) -> None:
        """This process is no more."""
        self._newest.pop(pid, None)
        self._names.pop(pid, None)
        self._sums.ended(pid)

    def total(self, elapsed_ns: int, cpu_share: float) -> str:
        """All of them in a line; what several of them share counts once."""
        sizes = self._sums.sizes
        rss, wss, idle = map(format_size, (sizes.rss_bytes, sizes.wss_bytes, sizes.idle_bytes[_IDLE_EDGE]))
        return (f"{elapsed_ns / 1e9:8.1f} s  {len(self._names)} processes  rss {rss:>9}  wss {wss:>9}  "
                f"idle>={format_time_ns(IDLE_EDGES_NS[_IDLE_EDGE])} {idle:>9}  cpu {format_share(cpu_share)}")

    def lines(self, now_ns: int, width: int, height: int) -> Iterator[str]:
        """The table, at most `height` lines."""
        yield f"{'PID':>8} {'RESIDENT':>9} {'TOUCHED':>9} {'WITHIN':>8} {'IDLE>=10s':>9} {'SEEN':>8}  NAME"[:width]
        ordered = sorted(self._newest.values(), key=lambda snapshot: -snapshot.rss_bytes)
        for snapshot in ordered[:max(height - 1, 0)]:
            cells = (f"{snapshot.pid:>8} {format_size(snapshot.rss_bytes):>9} {format_size(snapshot.wss_bytes):>9} "
                     f"{format_time_ns(snapshot.end_ns - snapshot.start_ns):>8} "
                     f"{format_size(snapshot.idle_bytes[_IDLE_EDGE]):>9} "
                     f"{format_time_ns(now_ns - snapshot.end_ns):>8}  ")
            yield cells[:width] + shortened(self._names.get(snapshot.pid, "?"), max(width - len(cells), 3))
