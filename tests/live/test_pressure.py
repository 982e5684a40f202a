# SPDX-License-Identifier: GPL-2.0-only
"""Under memory pressure nothing of the target is cleared; when it is over, all is as before."""

from __future__ import annotations

import time

import pytest

from pagepulse.kernel.process import Process
from pagepulse.kernel.waits import WaitWatch
from pagepulse.model.memory import PAGE
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Pressure, Waits
from pagepulse.monitor import Monitor, MonitorOptions
from pagepulse.report.regions import snapshot_json
from workload import Workload

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("one_cpu")]

PAGES = 1009


class Pressing(WaitWatch):
    """Sees the pressure that a test wants; real pressure takes swap, which not every machine has."""

    some = 0.0

    def look(self, _now_ns: int) -> Waits:
        pressure = Pressure(0, 0, self.some, 0.0)
        self.newest = Waits(pressure=pressure, is_short=pressure.is_high)
        return self.newest


def interval(monitor: Monitor) -> Snapshot:
    """One aggregation interval, as `Monitor.snapshots` runs it."""
    steps = monitor.interval()
    while True:
        try:
            deadline_ns = next(steps)
        except StopIteration as over:
            return monitor.account(over.value, 0)
        time.sleep(max(deadline_ns - time.monotonic_ns(), 0) / 1e9)


def test_nothing_is_cleared_while_some_of_the_group_wait_for_memory(reader, probes, monkeypatch):
    with Workload("touch", "--area", f"a:{PAGES * PAGE}") as touch:
        start, end = touch.area("a")
        process = Process(touch.pid)
        try:
            monitor = Monitor(process, reader, probes, MonitorOptions())
            monitor.waits = waits = Pressing(touch.pid, None)
            cleared, clear = [], monitor.target.clear
            monkeypatch.setattr(monitor.target, "clear", lambda ranges: cleared.append(ranges) or clear(ranges))
            waits.some = 0.5
            taken = [interval(monitor) for _ in range(5)]
            assert not cleared
            assert taken[-1].unknown_bytes > 0
            assert snapshot_json(taken[-1])["cleared"] is False
            waits.some = 0.0
            taken = [interval(monitor) for _ in range(20)]
            assert cleared
            assert not monitor.target.read_pages(start, end).young.any()
            assert snapshot_json(taken[-1])["cleared"] is True
        finally:
            process.close()
