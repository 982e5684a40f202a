# SPDX-License-Identifier: GPL-2.0-only
"""The live view: what a target's memory does now, on one screen. From snapshots to lines; it draws nothing itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from pagepulse.model.snapshot import IDLE_EDGES_NS, Snapshot
from pagepulse.report.folding import SpanCollector, fold
from pagepulse.report.heat import heat
from pagepulse.report.heat_text import heat_text, time_columns
from pagepulse.report.words import not_known, percent, shortened, waits
from pagepulse.units import format_share, format_size, format_time_ns

_HISTORY = 240  # columns of the widest terminal that is filled
_TABLE_ROWS = 4
_IDLE_EDGE = 2  # of IDLE_EDGES_NS: 10 s


@dataclass(frozen=True, slots=True)
class Standing:
    """What the screen says beside the newest snapshot."""

    name: str
    elapsed_ns: int
    cpu_share: float
    """Of one CPU, drawing included."""
    tax_share: float
    probes: Sequence[str]
    caveat: str = ""
    """What limits all that is shown."""
    schemes: Sequence[str] = ()
    """What is done to the target, in lines."""


class LiveView:
    """Remembers as many snapshots as a screen has columns, and lays them out."""

    def __init__(self) -> None:
        self._history: deque[Snapshot] = deque(maxlen=_HISTORY)

    def add(self, snapshot: Snapshot) -> None:
        """Take in the snapshot that the next column shows."""
        self._history.append(snapshot)

    def lines(self, standing: Standing, width: int, height: int) -> Iterator[Text]:
        """The screen, at most `height` lines of at most `width` columns."""
        body = [*self._head(standing), *self._tables(width)] if self._history else ["waiting for the first snapshot"]
        foot = list(self._foot(standing)) if self._history else []
        room = height - len(body) - len(foot)
        drawn = list(self._heat(width, room)) if self._history and room >= 8 else []
        whole = [*_texts(body[:2]), *drawn, *_texts(body[2:]), *_texts(foot)]
        for line in whole[:height]:
            line.truncate(width)
            yield line

    def _head(self, standing: Standing) -> Iterator[str]:
        newest = self._history[-1]
        yield (f"pagepulse  {standing.name} ({newest.pid})  {format_time_ns(standing.elapsed_ns)}  "
               f"q quits, p pauses")
        idle = newest.idle_bytes[_IDLE_EDGE]
        yield (f"{format_size(newest.rss_bytes)} resident, {format_size(newest.wss_bytes)} touched within "
               f"{format_time_ns(newest.end_ns - newest.start_ns)}, {format_size(idle)} "
               f"({percent(idle, newest.rss_bytes)}) idle for {format_time_ns(IDLE_EDGES_NS[_IDLE_EDGE])}")

    def _heat(self, width: int, room: int) -> Iterator[Text]:
        history = list(self._history)[-time_columns(width):]
        collector = SpanCollector()
        for snapshot in history:
            collector.add(snapshot)
        cells = max(room - 8, 3)  # the title, the axis, the legend, and folds between groups
        groups = max(cells // 3, 1)
        folding = fold(collector.spans(), cells - groups // 2, max_groups=groups)
        newest = history[-1]
        drawn = heat(history, folding, len(history), history[0].start_ns, newest.end_ns,
                     newest.end_ns - newest.start_ns)
        yield from list(heat_text(drawn, width))[:room]

    def _tables(self, width: int) -> Iterator[str]:
        newest = self._history[-1]
        known = newest.regions[newest.regions["present_bytes"]
                               > newest.regions["unknown_bytes"] + newest.regions["unclearable_bytes"]]
        hottest = known[np.lexsort((-known["present_bytes"].astype(np.int64), -known["rate_hz"]))[:_TABLE_ROWS]]
        idle = known[known["touched_bytes"] == 0]
        idle_ns = (newest.end_ns - idle["since_ns"]).astype(np.float64)
        idlest = idle[np.argsort(-idle["present_bytes"].astype(np.float64) * idle_ns, kind="stable")[:_TABLE_ROWS]]
        for title, rows in (("HOTTEST", hottest), ("IDLEST", idlest)):
            yield f"{title:<9}{'SIZE':>9} {'RATE/s':>7} {'AGE':>9}  MAPPING"
            for row in rows:
                mapping = shortened(newest.mappings[row["mapping"]], max(width - 37, 3))
                yield (f"{'':<9}{format_size(int(row['present_bytes'])):>9} {row['rate_hz']:>7.3g} "
                       f"{format_time_ns(newest.end_ns - int(row['since_ns'])):>9}  {mapping}")

    def _foot(self, standing: Standing) -> Iterator[str]:
        probes = ", ".join(standing.probes) or "none"
        yield (f"cost {format_share(standing.cpu_share)} of a CPU, the target {format_share(standing.tax_share)}; "
               f"probes: {probes}")
        yield from not_known(self._history[-1])
        yield from waits(self._history[-1])
        yield from standing.schemes
        if standing.caveat:
            yield standing.caveat


def plain_line(snapshot: Snapshot, standing: Standing) -> str:
    """One line for a log: time, resident and touched memory, what is idle for 10 s, cost."""
    return (f"{standing.elapsed_ns / 1e9:8.1f} s  rss {format_size(snapshot.rss_bytes):>9}  "
            f"wss {format_size(snapshot.wss_bytes):>9}  idle>=10s {format_size(snapshot.idle_bytes[_IDLE_EDGE]):>9}  "
            f"cpu {format_share(standing.cpu_share)}")


def _texts(lines: Iterable[str]) -> Iterator[Text]:
    return (Text(line, no_wrap=True) for line in lines)
