# SPDX-License-Identifier: GPL-2.0-only
"""Overview: what one pass over the snapshots gathers, so that an hour need not be held in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagepulse.errors import PagepulseError
from pagepulse.model.snapshot import Snapshot
from pagepulse.report.folding import SpanCollector, Spans


@dataclass(frozen=True, slots=True)
class Overview:
    """A whole recording in a few numbers and series."""

    snapshots: int
    start_ns: int
    last: Snapshot
    times_ns: npt.NDArray[np.int64]
    """Shape (snapshots,): the end of each, CLOCK_MONOTONIC."""
    wss_bytes: npt.NDArray[np.int64]
    rss_bytes: npt.NDArray[np.int64]
    cpu_ns: int
    tax_ns: int
    dropped: int
    spans: Spans
    aggregation_ns: float
    """The aggregation interval: the median."""

    @property
    def end_ns(self) -> int:
        """When the newest snapshot ended."""
        return self.last.end_ns

    @property
    def duration_ns(self) -> int:
        """From the start of the oldest snapshot to the end of the newest."""
        return self.end_ns - self.start_ns


def overview(snapshots: Iterable[Snapshot]) -> Overview:
    """Gather it.

    Raises:
        PagepulseError: There are no snapshots.
    """
    collector = SpanCollector()
    series: list[tuple[int, int, int, int]] = []
    cpu_ns = tax_ns = dropped = 0
    start_ns: int | None = None
    snapshot = None
    for snapshot in snapshots:
        start_ns = snapshot.start_ns if start_ns is None else start_ns
        collector.add(snapshot)
        series.append((snapshot.end_ns, snapshot.wss_bytes, snapshot.rss_bytes, snapshot.end_ns - snapshot.start_ns))
        cpu_ns += snapshot.cost.cpu_ns
        tax_ns += snapshot.cost.tax_ns
        dropped += snapshot.dropped
    if snapshot is None or start_ns is None:
        raise PagepulseError("there is no snapshot to report on",
                             hint="record for longer than one --aggregate interval")
    times, wss, rss, lengths = np.array(series, np.int64).T
    return Overview(len(series), start_ns, snapshot, times, wss, rss, cpu_ns, tax_ns, dropped, collector.spans(),
                    float(np.median(lengths)))
