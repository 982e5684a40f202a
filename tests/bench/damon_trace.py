# SPDX-License-Identifier: GPL-2.0-only
"""DAMON's tracepoint damon_aggregated, read back: what it said at the end of each aggregation interval."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

_LINE = re.compile(r"([\d.]+): damon_aggregated: target_id=\d+ nr_regions=(\d+) (\d+)-(\d+): (\d+) \d+$")
_HOT_SHARE = 5 / 200
"""Of the samples: 5 nr_accesses in a second of DAMON's default intervals, which has 200."""
_SAMPLES = 20
"""In an aggregation interval, at the defaults, and as tuning keeps it."""
_REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("nr_accesses", "<u4")])


class Told(NamedTuple):
    """What a monitor said of one interval."""

    start_ns: int
    end_ns: int
    regions: np.ndarray
    wss_bytes: int
    hot_above: float
    """nr_accesses above which a region was hot in this interval."""


def aggregations(path: Path) -> list[Told]:
    """All that are whole, in order; each begins when the one before it ended, so that the first is none."""
    found: list[Told] = []
    last_ns = 0
    for end_ns, rows in _groups(path):
        regions = np.array(rows, _REGION)
        used = regions[regions["nr_accesses"] > 0]
        wss_bytes = int((used["end"] - used["start"]).sum())
        if last_ns:
            found.append(Told(last_ns, end_ns, regions, wss_bytes, _SAMPLES * _HOT_SHARE))
        last_ns = end_ns
    return found


def _groups(path: Path) -> list[tuple[int, list[tuple[int, int, int]]]]:
    """End and regions of each interval of which no line was lost."""
    groups: list[tuple[int, list[tuple[int, int, int]]]] = []
    rows: list[tuple[int, int, int]] = []
    for line in path.read_text().splitlines():
        if not (match := _LINE.search(line)):
            continue
        count, start, end, accesses = (int(number) for number in match.groups()[1:])
        if rows and start < rows[-1][1]:
            rows = []  # the end of one before it was lost
        rows.append((start, end, accesses))
        if len(rows) == count:
            groups.append((round(float(match[1]) * 1e9), rows))
            rows = []
    return groups
