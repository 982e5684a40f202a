# SPDX-License-Identifier: GPL-2.0-only
"""Roster: who belongs to a selection now. It follows forks and exits, and looks again where it cannot hear them."""

from __future__ import annotations

from collections.abc import Callable

from pagepulse.errors import Unsupported
from pagepulse.fleet.selection import Selection
from pagepulse.kernel.census import Census
from pagepulse.kernel.cgroup import Cgroup
from pagepulse.kernel.events import Happened, ProcessEvents

RIPE_NS = 40_000_000
"""Before a process has lived so long it is not looked at: most that end, end sooner."""

_SCAN_NS = 1_000_000_000
_WIDE_SCAN_NS = 5_000_000_000
_ASK_AGAIN_NS, _ASK_AGAIN_MOST_NS = 500_000_000, 8_000_000_000  # whether a small process has grown
_ASK_REJECTED_MOST_NS = 60_000_000_000  # whether it became another program, where nobody tells


class Roster:
    """Who belongs to a selection.

    Args:
        selection: Which processes are meant.
        census: To look at /proc.
        is_anothers: Whether a process belongs to somebody who comes before us; it waits until it does no more.

    Raises:
        UsageError: The control group does not exist.
    """

    def __init__(self, selection: Selection, census: Census | None = None,
                 is_anothers: Callable[[int], bool] = lambda _pid: False) -> None:
        self.selection, self._is_anothers = selection, is_anothers
        self._census = census or Census()
        self._cgroup = None if selection.cgroup is None else Cgroup(selection.cgroup)
        self._named = set(selection.pids)
        self._known: set[int] = set()
        self._waiting: dict[int, tuple[int, int]] = {}  # pid -> when to look at it, and how long to wait after that
        self._rejected: dict[int, tuple[int, int]] = {}  # as `_waiting`; only where no events are to be had
        self._offered: set[int] = set()
        self._left: set[int] = set()
        self._births: set[int] = set()
        self._scan_due_ns = self._due_ns = 0
        self.heard = False
        """Whether the last call had forks or exits to take in: more of them are likely to come."""
        self.newborn: set[int] = set()
        """Of those that the last call offered: whose birth was heard of."""
        self._events: ProcessEvents | None = None
        self.deaf: Unsupported | None = None
        """Why forks and exits cannot be heard: new processes are then found at the next look only."""
        if selection.children or selection.is_endless:
            self._listen()

    def _listen(self) -> None:
        try:
            self._events = ProcessEvents(changes=self.selection.is_filtered)
        except Unsupported as error:
            self.deaf = error

    @property
    def cgroup(self) -> Cgroup | None:
        """The control group that is watched, if any."""
        return self._cgroup

    @property
    def wake_fd(self) -> int | None:
        """Becomes readable when there is something to take."""
        return None if self._events is None else self._events.fileno()

    @property
    def is_over(self) -> bool:
        """Nobody is left, and nobody can come any more."""
        return not self._known and not self._named and not self.selection.is_endless

    @property
    def waiting(self) -> int:
        """Processes that belong to it and are too young or too small to be watched."""
        return len(self._waiting)

    def has(self, pid: int) -> bool:
        """Whether this process was offered to be watched, and belongs here still."""
        return pid in self._offered

    def give_way(self, now_ns: int) -> bool:
        """Let go of those that belong to somebody who comes before us by now; whether there were any."""
        theirs = {pid for pid in self._offered if self._is_anothers(pid)}
        self._offered -= theirs
        self._left |= theirs
        self._waiting |= dict.fromkeys(theirs, (now_ns + _ASK_AGAIN_NS, _ASK_AGAIN_NS))
        if theirs:
            self._due_ns = now_ns
        return bool(theirs)

    def rss_bytes(self, pid: int) -> int | None:
        """How much memory this process has; None: it has exited."""
        return self._census.rss_bytes(pid)

    def add(self, pid: int) -> None:
        """Name one more process."""
        self._named.add(pid)
        self._scan_due_ns = self._due_ns = 0

    def forget(self, pid: int) -> None:
        """This process has ended; another one with its number would be another one."""
        self._named.discard(pid)
        self._known.discard(pid)
        self._waiting.pop(pid, None)
        self._rejected.pop(pid, None)
        self._offered.discard(pid)
        self._births.discard(pid)

    def ask_again(self, pid: int, at_ns: int) -> None:
        """This process became another program, or another user's: it may belong to it now, or no more.

        Args:
            pid: The process.
            at_ns: When to look; it may do the same again at once.
        """
        if self.selection.is_filtered and pid in self._known:
            earlier_ns, _ = self._waiting.get(pid, (at_ns, 0))
            self._waiting[pid] = (min(at_ns, earlier_ns), _ASK_AGAIN_NS)
            self._due_ns = min(self._due_ns, at_ns)

    def call(self, now_ns: int) -> tuple[set[int], list[int]]:
        """Take in what happened.

        Returns:
            Who left since the last call, and who should be watched from now on.
        """
        self.newborn = set()
        self._hear()
        if not self.heard and now_ns < self._due_ns:
            return set(), []
        if now_ns >= self._scan_due_ns:
            self._scan(now_ns)
        ripe = self._ripe(now_ns)
        left, self._left = self._left, set()
        self._due_ns = min([self._scan_due_ns, *(at_ns for at_ns, _ in self._waiting.values()),
                            *(at_ns for at_ns, _ in self._rejected.values())])
        return left, ripe

    def _hear(self) -> None:
        self.heard = False
        if self._events is None:
            return
        lost, happened = self._events.lost, self._events.drain()
        for event in happened:
            self._take(event)
        if self._events.lost != lost:
            self._scan_due_ns = 0
            for pid in self._known:  # an exec of any of them may be among what was lost
                self.ask_again(pid, 0)
        self.heard = bool(happened) or self._events.lost != lost

    def due_ns(self) -> int:
        """When to call again, whatever happens until then."""
        return self._due_ns

    def close(self) -> None:
        """Listen no more."""
        if self._events is not None:
            self._events.close()

    def _take(self, event: Happened) -> None:
        if event.changed:
            self.ask_again(event.pid, event.at_ns + RIPE_NS)
        elif event.parent is None:
            if event.pid in self._known:
                self.forget(event.pid)
                self._left.add(event.pid)
        elif self.selection.is_wide or event.parent in self._known:
            self._known.add(event.pid)
            self._waiting[event.pid] = (event.at_ns + RIPE_NS, _ASK_AGAIN_NS)
            self._births.add(event.pid)

    def _scan(self, now_ns: int) -> None:
        """Compare with /proc: at the start, where events were lost or are not to be had, and where processes move."""
        asks_who_is_there = bool(self._named) or self.selection.children or self.selection.is_wide
        there = self._census.pids() if asks_who_is_there else set()
        found = self._named & there
        if self.selection.children:
            found |= self._census.descendants(found | (self._known & there))
        if self._cgroup is not None:
            found |= self._cgroup.pids()
        elif self.selection.is_wide:
            found |= there
        self._named &= there
        for pid in self._known - found:
            self.forget(pid)
            self._left.add(pid)
        for pid in found - self._known:
            self._waiting[pid] = (now_ns, _ASK_AGAIN_NS)
        self._known |= found
        needs_looking = self._events is None or self._cgroup is not None
        pause_ns = _WIDE_SCAN_NS if self.selection.is_wide else _SCAN_NS
        self._scan_due_ns = now_ns + (pause_ns if needs_looking else 60 * _SCAN_NS)

    def _ripe(self, now_ns: int) -> list[int]:
        ripe = []
        due = [(pid, queue) for queue in (self._waiting, self._rejected) for pid, (at_ns, _) in queue.items()
               if at_ns <= now_ns]
        for pid, queue in due:
            _, pause_ns = queue.pop(pid)
            accepted = self.selection.accepts(pid, self._census)
            if accepted and pid not in self._offered and self._is_anothers(pid):
                accepted = None
            is_newborn = pid in self._births
            self._births.discard(pid)
            if pid in self._offered:
                if accepted is False:  # too small is no reason to let go: it was large enough
                    self._offered.discard(pid)
                    self._left.add(pid)
            elif accepted:
                self._offered.add(pid)
                ripe.append(pid)
                if is_newborn:
                    self.newborn.add(pid)
            elif accepted is None:
                self._waiting[pid] = (now_ns + pause_ns, min(2 * pause_ns, _ASK_AGAIN_MOST_NS))
            if accepted is False and self._events is None and self.selection.is_filtered:
                self._rejected[pid] = (now_ns + pause_ns, min(2 * pause_ns, _ASK_REJECTED_MOST_NS))
        return ripe
