# SPDX-License-Identifier: GPL-2.0-only
"""The engine on a real target, interval by interval, without the loop that waits and keeps the budget."""

from __future__ import annotations

import time

import numpy as np

from pagepulse.kernel.target import Target
from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.memory import WINDOW_PAGES, Masks
from pagepulse.model.snapshot import Snapshot

_BITS = np.uint64(1) << np.arange(WINDOW_PAGES, dtype=np.uint64)


def new_engine(target: Target) -> Engine:
    """One that knows the target's memory, and nothing of what it does."""
    engine = Engine(target.process.pid, target, EngineOptions(1_000_000, 10_000_000, min_regions=10, max_regions=1000))
    engine.update()
    return engine


def measure(engine: Engine, intervals: int = 40) -> Snapshot:
    """So many aggregation intervals of 10 ms, with all that the budget could ever allow. The last one's snapshot."""
    for _ in range(intervals):
        engine.update()
        engine.sweep(1 << 20)
        engine.begin(64)
        time.sleep(0.002)
        engine.tick()
        time.sleep(0.008)
        snapshot = engine.finish(1 << 16)
    return snapshot


def pages_in(engine: Engine, masks: Masks, start: int, end: int) -> int:
    """Pages of these masks, shape of the engine's windows, that lie in a range."""
    pages = engine.windows.tile[:, None] + np.arange(WINDOW_PAGES, dtype=np.uint64) * np.uint64(4096)
    return int(np.count_nonzero(((masks[:, None] & _BITS) != 0) & (pages >= start) & (pages < end)))


def touched_bytes(snapshot: Snapshot, start: int, end: int) -> int:
    """Estimated to be touched, in regions that overlap a range."""
    rows = snapshot.regions
    return int(rows["touched_bytes"][(rows["start"] < end) & (rows["end"] > start)].sum())
