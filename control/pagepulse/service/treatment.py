# SPDX-License-Identifier: GPL-2.0-only
"""Treatment: schemes on a fleet. Each process is judged by its own snapshots; what a scheme may do is one account."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from pagepulse.apply import AGAIN_NS, Applier
from pagepulse.errors import TargetGone
from pagepulse.fleet import Fleet
from pagepulse.fleet.stepwise import until_the_end
from pagepulse.kernel.usage import Waiter
from pagepulse.model.snapshot import Snapshot

SPARED = frozenset({1})
"""Process 1: the whole system depends on its memory. It is watched where it is meant, and never acted on."""

_LONGEST_PAUSE_NS, _SLACK_NS = 60_000_000_000, 50_000_000
_AT_ONCE = 8  # processes with more to do than they may, in one go


class Treatment:
    """A fleet, and the schemes that are applied to its processes.

    A process that sleeps is visited rarely, and what slept through since its newest snapshot is older by now. So that
    snapshot is judged once more when its memory has come to the age that a scheme asks for, and again while there is
    more to do to the process than a scheme may do at once. Each page is read before it is acted on, as ever.

    Args:
        fleet: The processes; the caller closes it.
        applier: The schemes; None: they are only watched.
    """

    def __init__(self, fleet: Fleet, applier: Applier | None) -> None:
        self.fleet, self.applier = fleet, applier
        self.newest: dict[int, Snapshot] = {}
        """Of each watched process."""
        self._ageing: list[tuple[int, int, int]] = []  # when to judge once more, whom, and after what time
        self._queued: set[tuple[int, int]] = set()
        self._unfinished: deque[Snapshot] = deque()
        self._again_ns = 0
        self._treated: set[int] = set()
        self.on_event: Callable[[str, dict[str, object]], None] = lambda _kind, _data: None
        """As the fleet's."""
        fleet.on_event = self._happened

    @property
    def is_over(self) -> bool:
        """Nobody is left, and nobody can come any more."""
        return self.fleet.is_over

    @property
    def wake_fd(self) -> int | None:
        """To wait for, too, if it is there."""
        return self.fleet.wake_fd

    def due_ns(self) -> int:
        """When `step` is to be called again, whatever happens until then."""
        due_ns = self.fleet.due_ns()
        if self._unfinished:
            due_ns = min(due_ns, self._again_ns)
        return min(due_ns, self._ageing[0][0]) if self._ageing else due_ns

    def step(self, now_ns: int) -> Snapshot | None:
        """Do the next thing that is due; a snapshot, if one has been finished."""
        snapshot = self.fleet.step(now_ns)
        if snapshot is not None:
            self.newest[snapshot.pid] = snapshot
        if self.applier is None:
            return snapshot
        if snapshot is not None:
            self._judge_later(self.applier, snapshot)
            self._apply(self.applier, snapshot)
        elif self._ageing and now_ns >= self._ageing[0][0]:
            self._judge_aged(self.applier, now_ns)
        elif self._unfinished and now_ns >= self._again_ns:
            self._again_ns = now_ns + AGAIN_NS
            self._go_on(self.applier)
        return snapshot

    def take_treated(self) -> set[int]:
        """Processes that schemes were applied to since this was last asked."""
        treated, self._treated = self._treated, set()
        return treated

    def snapshots(self, waiter: Waiter, beat: Callable[[int], None] | None = None) -> Iterator[Snapshot]:
        """Watch and treat until the duration is over, a signal comes, or nobody is left.

        Args:
            waiter: What to sleep on.
            beat: As `until_the_end` takes it.
        """
        yield from until_the_end(self, waiter, self.fleet.end_ns, beat)
        for monitor in self.fleet.monitors.values():
            with suppress(TargetGone):
                monitor.count_returned()

    def _judge_later(self, applier: Applier, snapshot: Snapshot) -> None:
        for pause_ns in applier.pauses_ns:  # by longer ones there is a newer snapshot even of those that sleep
            if pause_ns < _LONGEST_PAUSE_NS and (snapshot.pid, pause_ns) not in self._queued:
                self._queue(snapshot, pause_ns)

    def _queue(self, snapshot: Snapshot, pause_ns: int) -> None:
        self._queued.add((snapshot.pid, pause_ns))
        heapq.heappush(self._ageing, (snapshot.end_ns + pause_ns + _SLACK_NS, snapshot.pid, pause_ns))

    def _judge_aged(self, applier: Applier, now_ns: int) -> None:
        _, pid, pause_ns = heapq.heappop(self._ageing)
        self._queued.discard((pid, pause_ns))
        newest = self.newest.get(pid)
        if newest is None:
            return
        if now_ns - newest.end_ns < pause_ns:  # it is awake
            self._queue(newest, pause_ns)
        else:
            self._apply(applier, newest)

    def _apply(self, applier: Applier, snapshot: Snapshot) -> bool:
        """Apply the schemes to the process of this snapshot; whether there is more to do than they may."""
        monitor = self.fleet.monitors.get(snapshot.pid)
        if monitor is None or snapshot.pid in SPARED:
            return False
        acted_ns = applier.acted_ns
        with suppress(TargetGone):  # it ended, or became another program: its next step finds out which
            applier.apply(monitor, snapshot.as_of(time.monotonic_ns()))
            self._treated.add(snapshot.pid)
        self.fleet.leave_out(applier.acted_ns - acted_ns)
        if not applier.is_unfinished(snapshot.pid):
            return False
        self._leave(snapshot.pid)
        self._unfinished.append(snapshot)
        return True

    def _go_on(self, applier: Applier) -> None:
        held_back = 0
        for _ in range(len(self._unfinished)):
            held_back += self._apply(applier, self._unfinished.popleft())
            if held_back == _AT_ONCE:
                return

    def _leave(self, pid: int) -> None:
        self._unfinished = deque(snapshot for snapshot in self._unfinished if snapshot.pid != pid)

    def _happened(self, kind: str, data: dict[str, object]) -> None:
        pid = data.get("pid")
        if kind in {"ended", "exec"} and isinstance(pid, int):
            self._leave(pid)
            self.newest.pop(pid, None)
            if kind == "ended" and self.applier is not None:
                self.applier.forget(pid)
        self.on_event(kind, data)
