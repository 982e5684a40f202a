# SPDX-License-Identifier: GPL-2.0-only
"""Working set, idle memory, and what watching cost: numbers of a whole recording, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from pagepulse.model.snapshot import IDLE_EDGES_NS, Snapshot
from pagepulse.report.overview import Overview
from pagepulse.report.words import DROPPED_MEANS, counted, not_known, not_watched, percent, waits, wrapped
from pagepulse.units import format_share, format_size, format_time_ns

PERCENTILES = (0, 25, 50, 75, 100)


def wss_percentiles(summed: Overview) -> dict[int, int]:
    """Bytes of the working set at each of PERCENTILES, over the snapshots."""
    values = np.percentile(summed.wss_bytes, PERCENTILES)
    return {percentile: round(value) for percentile, value in zip(PERCENTILES, values.tolist(), strict=True)}


def wss_json(summed: Overview) -> dict[str, Any]:
    """Percentiles of the working set."""
    return {"wss_bytes": {f"p{percentile}": value for percentile, value in wss_percentiles(summed).items()},
            "snapshots": summed.snapshots}


def wss_text(summed: Overview, width: int = 80) -> Iterator[str]:
    """Percentiles of the working set, with bars."""
    values = wss_percentiles(summed)
    top, room = max(values.values()), max(width - 25, 4)
    yield from wrapped((f"working set: memory touched within {format_time_ns(summed.aggregation_ns)}",
                        f"{counted(summed.snapshots, 'snapshot')} over {format_time_ns(summed.duration_ns)}"), width)
    yield "percentile        size"
    for percentile, value in values.items():
        bar = "*" * round(room * value / top) if top else ""
        yield f"{percentile:>10}{format_size(value):>12} |{bar:<{room}}|"
    yield from wrapped([*costs_text(summed), *not_watched(summed.last), *waits(summed.last)], width)


def idle_json(snapshot: Snapshot) -> dict[str, Any]:
    """Bytes not touched for at least so long."""
    return {"idle_bytes": {f"{edge_ns // 1_000_000_000}s": size_bytes
                           for edge_ns, size_bytes in zip(IDLE_EDGES_NS, snapshot.idle_bytes, strict=True)},
            "rss_bytes": snapshot.rss_bytes}


def idle_rows(snapshot: Snapshot, watched_ns: int) -> Iterator[tuple[str, str, str]]:
    """Size, share of the resident memory, and what it means, for each age that there was time to see."""
    for edge_ns, size_bytes in zip(IDLE_EDGES_NS, snapshot.idle_bytes, strict=True):
        if edge_ns > watched_ns and not size_bytes:
            yield "?", "", f"not touched for {format_time_ns(edge_ns)}: watched only for {format_time_ns(watched_ns)}"
            return
        meaning = f"not touched for at least {_words(edge_ns)}" if edge_ns else "could be watched"
        yield format_size(size_bytes), percent(size_bytes, snapshot.rss_bytes), meaning


def idle_text(snapshot: Snapshot, watched_ns: int, width: int = 80) -> Iterator[str]:
    """How much memory has not been touched for how long.

    Args:
        snapshot: The newest.
        watched_ns: How long the target had been watched by then.
        width: Of the terminal.
    """
    watched, rss = format_time_ns(watched_ns), format_size(snapshot.rss_bytes)
    who = f"pid {snapshot.pid}" if snapshot.pid else "all processes together"
    yield from wrapped([f"{who}, watched for {watched}: {rss} resident"], width)
    for size, share, meaning in idle_rows(snapshot, watched_ns):
        first, *more = textwrap.wrap(meaning, max(width - 21, 10))
        yield f"{size:>10} {f'({share})' if share else '':<9} {first}"
        yield from (f"{'':21}{line}" for line in more)
    yield from wrapped([*not_known(snapshot), *waits(snapshot)], width)


def costs_text(summed: Overview) -> Iterator[str]:
    """What watching cost, and what was lost."""
    yield (f"watching cost {format_share(summed.cpu_ns / summed.duration_ns)} of one CPU, and the target "
           f"{format_share(summed.tax_ns / summed.duration_ns)}")
    if summed.dropped:
        yield f"{counted(summed.dropped, 'sample')} lost in the whole recording: {DROPPED_MEANS}"


def _words(time_ns: int) -> str:
    seconds = time_ns // 1_000_000_000
    count, word = (seconds, "second") if seconds <= 60 else (seconds // 60, "minute")
    return f"{count} {word}{'s' if count != 1 else ''}"
