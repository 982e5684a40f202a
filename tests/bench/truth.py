# SPDX-License-Identifier: GPL-2.0-only
"""What `pagepulse report regions --json` says is hot, against what the workload knows to be hot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Span = Sequence[int]
"""Start and end."""


class Found(NamedTuple):
    """How well hot bytes were found, as fractions of 1."""

    precision: float
    """Share of the bytes called hot that are hot. With none called hot there is nothing wrong among them: 1."""
    recall: float
    """Share of the hot bytes that were called hot."""


def _overlap(span: Span, others: Iterable[Span]) -> int:
    return sum(max(0, min(span[1], other[1]) - max(span[0], other[0])) for other in others)


def hot_found(snapshots: Sequence[dict[str, Any]], hot: Sequence[Span], threshold_hz: float) -> Found:
    """Precision and recall of hot bytes over all these snapshots together.

    Args:
        snapshots: As in `report regions --json`.
        hot: What the workload says.
        threshold_hz: A region is called hot from this rate on.
    """
    called = right = 0
    for snapshot in snapshots:
        for region in snapshot["regions"]:
            if region["rate_hz"] >= threshold_hz:
                called += region["end"] - region["start"]
                right += _overlap((region["start"], region["end"]), hot)
    truth = len(snapshots) * sum(end - start for start, end in hot)
    return Found(right / called if called else 1.0, right / truth)


def newest(snapshots: Sequence[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """The snapshots of the last so many seconds."""
    since_ns = snapshots[-1]["end_ns"] - round(seconds * 1e9)
    return [snapshot for snapshot in snapshots if snapshot["end_ns"] > since_ns]
