# SPDX-License-Identifier: GPL-2.0-only
"""Schemes that move memory between NUMA nodes: this machine has two, and each page says where it is."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from pagepulse.apply import Applier
from pagepulse.kernel.numa import nodes_with_memory
from pagepulse.kernel.process import Process
from pagepulse.kernel.syscalls import move_pages
from pagepulse.kernel.usage import Waiter
from pagepulse.model.memory import PAGE
from pagepulse.monitor import Monitor, MonitorOptions
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.result import SchemeResult
from workload import Workload

pytestmark = pytest.mark.live

SIZE_BYTES = 16 << 20
NEARLY_ALL = 0.99
"""Of its pages: the last that were made may wait in a processor's batch, where the kernel moves none."""
SECOND_NS = 1_000_000_000


def nodes_of(touch: Workload) -> np.ndarray:
    start, end = touch.area("a")
    return move_pages(touch.pid, np.arange(start, end, PAGE, dtype=np.uint64), None)


def moved(touch: Workload, reader, probes, pattern: dict, action: str, node: int) -> SchemeResult:
    """What became of a scheme that is applied until nearly all of the area is on the node, or half a minute is over."""
    text = {"schemes": [{"name": "tier", "action": action, "target_node": node, "access_pattern": pattern,
                         "filters": [{"type": "anon", "allow": True}]}]}
    process = Process(touch.pid)
    waiter, now_ns = Waiter(process.pidfd), time.monotonic_ns()
    monitor = Monitor(process, reader, probes, MonitorOptions(duration_ns=30 * SECOND_NS))
    try:
        applier = Applier(parse_schemes(json.dumps(text).encode(), "test"), None, now_ns)
        for snapshot in monitor.snapshots(waiter):
            applier.apply(monitor, snapshot)
            if (nodes_of(touch) == node).mean() >= NEARLY_ALL:
                break
        return applier.results[0]
    finally:
        monitor.close()
        waiter.close()
        process.close()


def test_what_is_idle_moves_to_the_other_node_and_back_when_it_is_wanted(reader, probes, record_testsuite_property):
    assert nodes_with_memory() == (0, 1)
    with Workload("touch", "--area", f"a:{SIZE_BYTES}") as touch:
        found = nodes_of(touch)
        home = int(found[0])
        assert (found == home).all()
        cold = moved(touch, reader, probes, {"age": {"min": "1 s"}}, "migrate_cold", 1 - home)
        away = int(np.count_nonzero(nodes_of(touch) == 1 - home)) * PAGE
        hot = moved(touch, reader, probes, {}, "migrate_hot", home)
        back = int(np.count_nonzero(nodes_of(touch) == home)) * PAGE
    record_testsuite_property("moved between nodes", f"{away} bytes away, {back} back")
    assert min(away, back) >= NEARLY_ALL * SIZE_BYTES
    for result, there in ((cold, away), (hot, back - (SIZE_BYTES - away))):
        assert result.applied_bytes >= there
        assert result.tried_bytes == result.applied_bytes + sum(result.reasons.values())
