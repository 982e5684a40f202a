# SPDX-License-Identifier: GPL-2.0-only
"""A control group with a limit below what its program uses: the kernel's own figures say so, and nothing is cleared."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.machine import wait_until
from pagepulse.kernel.process import Process
from pagepulse.kernel.usage import Waiter
from pagepulse.model.memory import PAGE
from pagepulse.monitor import Monitor, MonitorOptions
from vm.inside.agents import in_cgroup, write
from vm.inside.meanwhile import meanwhile
from workload import Workload

pytestmark = pytest.mark.live

PAGES, LIMIT_BYTES = 12_000, 32 << 20
PATIENCE_NS = 90_000_000_000


@pytest.fixture(name="busy")
def _busy(swap, probes) -> Iterator[tuple[Workload, Path]]:
    """A program that uses all of its 47 MiB all the time, and its group.

    Not while probes are attached or detached: an emulated processor trips over a function that is just being patched.
    """
    with Workload("touch", "--area", f"a:{PAGES * PAGE}:lazy") as touch:
        group = in_cgroup(touch.pid, "short")

        def use_all(is_over: threading.Event) -> None:
            while not is_over.is_set():
                touch.command(f"touch a 0 {PAGES}")
        with meanwhile(use_all):
            yield touch, group


def limit(group: Path) -> None:
    """At once the kernel would kill, since all of it is in use: whoever is above `high` has to wait instead."""
    write(group / "memory.high", LIMIT_BYTES)
    assert wait_until(lambda: int((group / "memory.current").read_text()) <= LIMIT_BYTES)
    write(group / "memory.max", LIMIT_BYTES)


def test_nothing_is_cleared_once_the_group_is_short_of_memory(reader, probes, busy, record_testsuite_property):
    touch, group = busy
    process = Process(touch.pid)
    waiter = Waiter(process.pidfd)
    monitor = Monitor(process, reader, probes, MonitorOptions(duration_ns=PATIENCE_NS))
    begun, found = time.monotonic(), []
    try:
        for snapshot in monitor.snapshots(waiter):
            found.append(snapshot.spared)
            if len(found) == 3:
                limit(group)
            if found[-1]:
                break
    finally:
        write(group / "memory.max", "max")
        write(group / "memory.high", "max")
        monitor.close()
        waiter.close()
        process.close()
    record_testsuite_property("short of memory", f"seen after {time.monotonic() - begun:.1f} s")
    assert found[:3] == [False] * 3
    assert found[-1]
