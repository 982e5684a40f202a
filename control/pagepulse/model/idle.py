# SPDX-License-Identifier: GPL-2.0-only
"""Idle: how much of the memory has not been touched for how long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagepulse.model.memory import PAGE
from pagepulse.model.observation import Counts
from pagepulse.model.tally import Floats
from pagepulse.model.windows import Windows


def idle_bytes(windows: Windows, edges_ns: Sequence[int], now_ns: int) -> tuple[int, ...]:
    """Bytes not touched for at least each of these times, which ascend; for 0, everything that is known."""
    pages = windows.tally.pages
    known = float((pages.present - pages.unknown - pages.refused).sum())
    since_ns = [now_ns - edge for edge in edges_ns]
    idle = (_weight_at_most(windows.settled_ns, pages.settled, since_ns)
            + _weight_at_most(windows.cleared_ns, pages.watched - pages.settled, since_ns))
    return tuple(PAGE * round(known if edge == 0 else count)
                 for edge, count in zip(edges_ns, idle.tolist(), strict=True))


def _weight_at_most(values: Counts, weights: Floats, limits: Sequence[int]) -> Floats:
    """Sum of the weights of those values that are at most each of the limits, which descend."""
    reaches = np.zeros(len(values), np.uint8)  # how many of the limits; one pass for each is what takes the time
    for limit in limits:
        reaches += values <= limit
    sums: Floats = np.bincount(reaches, weights, len(limits) + 1)[::-1].cumsum()[-2::-1]
    return sums
