# SPDX-License-Identifier: GPL-2.0-only
"""Apply: what is counted of schemes that take over from others."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from builders import MIB, snapshot
from pagepulse.apply import Applier


@dataclass
class FakeMonitor:
    returned_bytes: int = 0
    process: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(pid=1))
    target: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(now_ns=lambda: 0))


def test_what_had_come_back_before_other_schemes_began_is_not_counted_again():
    monitor = FakeMonitor(returned_bytes=3 * MIB)
    applier = Applier([], None, 0)
    applier.apply(monitor, snapshot(pid=1))
    monitor.returned_bytes = 5 * MIB
    applier.apply(monitor, snapshot(pid=1))
    assert applier.evictions.returned_bytes == applier.evictions_of(1).returned_bytes == 2 * MIB
