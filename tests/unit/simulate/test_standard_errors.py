# SPDX-License-Identifier: GPL-2.0-only
"""What a snapshot says of how far off it may be, against the exact truth: two standard errors hold nearly all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.memory import PAGE
from pagepulse.model.plan import tick_times_ns
from pagepulse.model.snapshot import Snapshot
from pagepulse.simulate.memory import SimulatedMemory
from pagepulse.simulate.prices import Prices
from pagepulse.simulate.scenario import Scenario

GIB, MS = 1 << 30, 1_000_000
SAMPLING_NS, INTERVAL_NS = 5 * MS, 200 * MS
PAGES_AT_ONCE, PROBES, PATROL = 50_000, 32, 1024


def snapshots(memory: SimulatedMemory, count: int) -> Iterator[Snapshot]:
    """Of an engine with as much work in each interval as a budget of one percent allows."""
    engine = Engine(1, memory, EngineOptions(SAMPLING_NS, INTERVAL_NS, 10, 1000), seed=1)
    engine.update()
    for _ in range(count):
        begun_ns = memory.now_ns()
        engine.sweep(PAGES_AT_ONCE)
        probed_ns = engine.begin(PROBES)
        if probed_ns is not None:
            for after_ns in tick_times_ns(SAMPLING_NS, begun_ns + INTERVAL_NS - probed_ns):
                memory.advance(probed_ns + after_ns - memory.now_ns())
                engine.tick()
        memory.advance(begun_ns + INTERVAL_NS - memory.now_ns())
        yield engine.finish(PATROL)


@pytest.mark.parametrize("pattern", ["hot", "spots", "zipf", "stride"])
def test_the_true_nr_accesses_lies_within_two_standard_errors(pattern):
    memory = Scenario(GIB, GIB // 4, pattern, rate_hz=40.0, seed=1).memory(Prices())
    [area] = memory.areas
    within = total = 0
    for snapshot in list(snapshots(memory, 100))[50:]:
        samples = (snapshot.end_ns - snapshot.start_ns) / SAMPLING_NS
        for region in snapshot.regions:
            first, last = ((int(region[side]) - area.start) // PAGE for side in ("start", "end"))
            rates_hz = area.pattern.rates(np.arange(first, last))
            truth = samples * float(-np.expm1(-rates_hz * SAMPLING_NS / 1e9).mean())
            total += last - first
            within += (last - first) * (abs(region["nr_accesses"] - truth) <= 2 * region["nr_accesses_error"] + 1e-3)
    assert within / total >= 0.95


def test_and_it_does_so_because_it_is_near_not_because_the_error_is_large():
    memory = Scenario(GIB, GIB // 4, "hot", rate_hz=40.0, seed=1).memory(Prices())
    *_, last = snapshots(memory, 100)
    size_bytes = last.regions["end"] - last.regions["start"]
    found, error = (float((last.regions[name] * size_bytes).sum()) for name in ("nr_accesses", "nr_accesses_error"))
    assert 0 < error < 0.2 * found
