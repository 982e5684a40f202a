# SPDX-License-Identifier: GPL-2.0-only
"""Member: one watched process of a fleet, and where it stands in its aggregation interval."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from pagepulse.kernel.lock import TargetLock
from pagepulse.kernel.process import Process
from pagepulse.kernel.shared_probes import OneOfMany
from pagepulse.model.memory import PAGE
from pagepulse.model.snapshot import Snapshot
from pagepulse.monitor import Monitor

_USUAL_VISIT_NS = 1_500_000.0  # until its own price is known
_SMOOTHING = 0.3
_LEAST_WEIGHT_BYTES, _IDLE_WEIGHT = 256 << 10, 0.02
_GLANCE_WINDOWS = 256
_KNOWN = 0.05  # at most this share of it is unknown
_ASLEEP_NS = (60_000_000_000, 600_000_000_000)  # until a sleeper is visited: its memory has come of age then
_WHILE_OWING_NS = 5_000_000_000
_GOLDEN = 0.618034  # its multiples spread evenly, modulo 1: those that began together shall not be visited together
_WOKEN_BYTES, _WOKEN_SHARE = 1 << 20, 0.05  # what is worth a visit out of turn


@dataclass(slots=True)
class Member:
    """One watched process."""

    process: Process
    lock: TargetLock
    probes: OneOfMany
    monitor: Monitor
    steps: Generator[int, None, Snapshot] | None = None
    """The aggregation interval that is under way."""
    begun_ns: int = 0
    due_ns: int = 0
    """When to go on with it."""
    interval_ns: int = 0
    spent_ns: int = 0
    """CPU that the interval took until now."""
    cost_ns: float = _USUAL_VISIT_NS
    """What a visit costs, the target's part included: a running mean."""
    weight_bytes: float = _LEAST_WEIGHT_BYTES
    """What may change in it."""
    rss_bytes: int = 0
    awake_ns: int = 0
    """When it was last known to be awake."""
    is_asleep: bool = False
    clock_at_visit_ns: int = -1
    """Its CPU time then: while that stands still, it touches nothing."""
    clock_at_glance_ns: int = -1
    unknown_bytes: int = 0
    unclearable_bytes: int = 0
    is_open: bool = True
    seen: int = 0
    """Snapshots of it."""

    def begin(self, now_ns: int) -> Generator[int, None, Snapshot]:
        """Begin an aggregation interval."""
        budget = self.monitor.budget
        self.interval_ns = budget.aggregation_ns = max(int(self.interval_ns * budget.slowdown), budget.shortest_ns)
        budget.share = self.cost_ns / self.interval_ns
        self.begun_ns, self.spent_ns = now_ns, 0
        self.steps = self.monitor.interval()
        return self.steps

    def finished(self, snapshot: Snapshot) -> None:
        """An interval is over: what a visit costs and what the next one is worth follow from it."""
        self.steps = None
        if self.seen:  # the first visit got to know the target
            self.cost_ns += _SMOOTHING * (snapshot.cost.cpu_ns + snapshot.cost.tax_ns - self.cost_ns)
        self.seen += 1
        self.rss_bytes, self.unknown_bytes = snapshot.rss_bytes, snapshot.unknown_bytes
        self.weight_bytes = (_LEAST_WEIGHT_BYTES + _IDLE_WEIGHT * snapshot.rss_bytes + snapshot.wss_bytes
                             + snapshot.unknown_bytes)

    def asleep_until_ns(self, now_ns: int, *, owes: bool = False) -> int:
        """When to go on with the interval of one that sleeps: it is known, and had no CPU time since the last visit.

        It touches nothing, so its interval goes on for a minute, and after that for ten. Who is awake: 0.

        Args:
            now_ns: Now.
            owes: More was spent on all of them than may be: a visit to one that sleeps can wait.

        Raises:
            TargetGone: It has exited.
        """
        before_ns, self.clock_at_visit_ns = self.clock_at_visit_ns, self.process.cpu_clock_ns()
        if before_ns != self.clock_at_visit_ns or self.unknown_bytes > _KNOWN * self.rss_bytes or not self.seen:
            self.awake_ns, self.is_asleep = now_ns, False
            return 0
        patience_ns = _ASLEEP_NS[self.begun_ns - self.awake_ns >= _ASLEEP_NS[0]]
        spread = 1 + self.process.pid * _GOLDEN % 1
        until_ns = self.begun_ns + int(patience_ns * spread)
        if owes and until_ns <= now_ns:
            until_ns = now_ns + int(_WHILE_OWING_NS * spread)
        self.is_asleep = until_ns > now_ns
        return until_ns

    def has_run(self) -> bool:
        """Whether it had CPU time since this was last asked; if so, it is awake.

        Raises:
            TargetGone: It has exited.
        """
        before_ns, self.clock_at_glance_ns = self.clock_at_glance_ns, self.process.cpu_clock_ns()
        if before_ns == self.clock_at_glance_ns:
            return False
        self.is_asleep = False
        return True

    def has_woken(self) -> bool:
        """A quick look between two visits: whether much was touched that slept, or much is new.

        Raises:
            TargetGone: It exited or became another program.
        """
        return self.has_changed() or self._is_much(self.monitor.glance(_GLANCE_WINDOWS) * PAGE)

    def has_changed(self) -> bool:
        """Whether much of its memory is new, or was taken from it.

        Raises:
            TargetGone: It has exited.
        """
        return self._is_much(abs(self.process.rss_bytes() - self.rss_bytes))

    def _is_much(self, size_bytes: int) -> bool:
        return size_bytes > max(_WOKEN_BYTES, _WOKEN_SHARE * self.rss_bytes)

    def close(self) -> None:
        """Let go of it; it goes on."""
        self.is_open = False
        if self.steps is not None:
            self.steps.close()
        self.monitor.close()
        self.probes.close()
        self.lock.close()
        self.process.close()
        self.steps = None
        del self.monitor  # the glances come to it rounds later: what it knew of a large process would wait for them
