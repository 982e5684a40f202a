# SPDX-License-Identifier: GPL-2.0-only
"""Fleet: the loop over many processes. One thread visits each in its turn; who is visited when follows from one budget.

An aggregation interval of a target is a few short steps far apart (`Monitor.interval`), so the intervals of all targets
overlap, and each is as long as its share of the budget asks for. Between the visits to those that sleep a glance of
some 0.1 ms tells whether they woke.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.fleet.backlog import Backlog, Unknown
from pagepulse.fleet.glances import Glances
from pagepulse.fleet.member import Member
from pagepulse.fleet.roster import RIPE_NS, Roster
from pagepulse.fleet.stepwise import until_the_end
from pagepulse.kernel.instruments import Instruments
from pagepulse.kernel.lock import TargetLock
from pagepulse.kernel.prices import calibrate
from pagepulse.kernel.process import Process
from pagepulse.kernel.usage import Waiter, cpu_ns
from pagepulse.model.snapshot import Snapshot
from pagepulse.monitor import Monitor, MonitorOptions, Totals
from pagepulse.policy.shares import SharedBudget, intervals_ns

_QUIET_NS = RIPE_NS  # events are taken this seldom: a storm of forks must not wake us for each
_SETTLE_NS = 500_000_000  # how often money is counted and shared out again
_PRESSURE_EVERY_NS = 10_000_000_000
_FIRST_VISIT_NS, _SMOOTHING = 4_000_000.0, 0.2  # booked in advance: getting to know a process; then what it has cost
_OPEN_AT_ONCE, _OPEN_NS = 2, 20_000_000  # so that those that are known are visited meanwhile
_FOREVER_NS = 1 << 62


class Fleet:
    """Watches many processes.

    Args:
        tools: The reader, the probes, and who tells of delays.
        roster: Who is to be watched; the caller closes it.
        options: How to watch. `aggregation_ns` is the shortest interval; the budget is that of all together.
        clock: CPU time in nanoseconds that is booked here: all of this process, where this is all that it does.
    """

    def __init__(self, tools: Instruments, roster: Roster, options: MonitorOptions,
                 clock: Callable[[], int] = cpu_ns) -> None:
        self._tools, self.roster, self._cpu_ns = tools, roster, clock
        self._options = replace(options, pinned=False)
        self.prices = calibrate(tools.reader)
        self._shared = SharedBudget(options.budget)
        self._backlog = Backlog(roster.rss_bytes)
        self._backlog_told = Unknown()
        self._open_due_ns, self._first_visit_ns = 0, _FIRST_VISIT_NS
        self._members: dict[int, Member] = {}
        self._queue: list[tuple[int, int, Member]] = []
        self._number = itertools.count()
        self._glances = Glances(options.budget, clock)
        self._quiet_until_ns = 0
        self._settled_ns, self._settled_cpu_ns = time.monotonic_ns(), self._cpu_ns()
        self._visits_ns = self._taxes_ns = 0.0
        self._pressure_due_ns = 0
        self.totals = Totals(time.monotonic_ns(), cpu_ns(), probes=tools.probes.attached)
        self.opened = 0
        """How many processes were watched so far."""
        self.refused: dict[int, str] = {}
        """Processes that cannot be watched, and why."""
        self.on_event: Callable[[str, dict[str, object]], None] = lambda _kind, _data: None
        """Told of `watched`, `ended`, `exec`, `clear`, `refused`, each with a `pid`; of `pressure` and `backlog`."""

    @property
    def monitors(self) -> Mapping[int, Monitor]:
        """The watched processes by pid: to apply schemes to them."""
        return {pid: member.monitor for pid, member in self._members.items()}

    @property
    def unknown(self) -> Unknown:
        """What belongs to the fleet and is not known yet: the budget lets no more be known at once."""
        return self._backlog.unknown

    def start(self, pid: int) -> None:
        """Watch this process, too."""
        self.roster.add(pid)

    def stop(self, pid: int) -> None:
        """Watch this process no more."""
        self.roster.forget(pid)
        self._backlog.forget(pid)
        self._drop(pid)

    def set_budget(self, share: float) -> None:
        """From now on watching may cost so much of one CPU; what is known and owed stays."""
        self._options = replace(self._options, budget=share)
        self._shared.share = share
        self._glances.set_budget(share)

    def select(self, roster: Roster) -> None:
        """From now on these processes are meant; those that are meant still stay as well known as they are."""
        self.roster = roster
        self._call_roll(time.monotonic_ns())  # the first time, everybody is looked at
        for pid in {*self._members, *self.refused, *self._backlog.pids}:
            if not roster.has(pid):
                self._leave(pid)

    def try_refused(self) -> None:
        """Try those again that could not be watched: another pagepulse may have let go of them."""
        self._backlog.add(self.refused, set())

    def clearing(self) -> dict[str, Any]:
        """How accessed bits are cleared by now: `refs` where it is so for any of the processes."""
        of_each = [member.monitor.clearing() for member in self._members.values()]
        together = [clearing for clearing in of_each if clearing["how"] != "cold"]
        if not together:
            return {"how": "cold"}
        return {**together[0], "clears": sum(clearing["clears"] for clearing in together),
                "longest_clear_us": max(clearing["longest_clear_us"] for clearing in together)}

    def summary(self) -> dict[str, Any]:
        """What a whole run came to: that of `totals`, and how many processes there were."""
        return {**self.totals.summary(), "processes": self.opened, "refused_processes": len(self.refused),
                "not_watched": self.roster.waiting, "not_known_yet": self.unknown.processes,
                "not_known_yet_bytes": self.unknown.rss_bytes}

    def snapshots(self, waiter: Waiter, beat: Callable[[int], None] | None = None) -> Iterator[Snapshot]:
        """Snapshots, of whom it is the turn, until the duration is over, a signal comes, or nobody is left.

        Args:
            waiter: What to sleep on.
            beat: As `until_the_end` takes it.
        """
        yield from until_the_end(self, waiter, self.end_ns, beat)
        if not waiter.is_over:
            yield from self.last_words()

    @property
    def end_ns(self) -> int:
        """When the duration is over that the options give."""
        duration_ns = self._options.duration_ns
        return _FOREVER_NS if duration_ns is None else self.totals.begun_ns + duration_ns

    @property
    def is_over(self) -> bool:
        """Nobody is left, and nobody can come any more."""
        return not self._members and self.roster.is_over

    @property
    def wake_fd(self) -> int | None:
        """To wait for, too: it can be read when somebody forked or exited; None: not now."""
        return None if time.monotonic_ns() < self._quiet_until_ns else self.roster.wake_fd

    def step(self, now_ns: int) -> Snapshot | None:
        """Do the next thing that is due: milliseconds of work at most, once targets are known.

        Returns:
            A snapshot, if one has been finished.
        """
        if now_ns >= min(self._quiet_until_ns, self.roster.due_ns()):
            self._call_roll(now_ns)
        if self._backlog and now_ns >= self._open_due_ns:
            self._open_some(now_ns)
        if now_ns - self._settled_ns >= _SETTLE_NS:
            self._settle(now_ns)
        member = self._next(now_ns)
        if member is None:
            if now_ns >= self._glances.due_ns:
                for woken, due_ns in self._glances.look(now_ns, may_hurry=not self._shared.is_in_debt):
                    self._at(woken, due_ns)
            return None
        return self._visit(member)

    def due_ns(self) -> int:
        """When `step` is to be called again, whatever happens until then."""
        due_ns = min(self.roster.due_ns(), self._settled_ns + 4 * _SETTLE_NS)
        if time.monotonic_ns() < self._quiet_until_ns:  # deaf to forks until then
            due_ns = min(due_ns, self._quiet_until_ns)
        if self._backlog:
            due_ns = min(due_ns, self._open_due_ns)
        if self._members:
            due_ns = min(due_ns, self._queue[0][0], self._glances.due_ns)
        return due_ns

    # --- who is watched --------------------------------------------------------------------------------------------

    def _call_roll(self, now_ns: int) -> None:
        left, newcomers = self.roster.call(now_ns)
        self._quiet_until_ns = now_ns + _QUIET_NS if self.roster.heard else 0
        for pid in left:
            self._leave(pid)
        if new := [pid for pid in newcomers if pid not in self._members and pid not in self.refused]:
            self._backlog.add(new, self.roster.newborn)
            self._open_due_ns = now_ns

    def _open_some(self, now_ns: int) -> None:
        """Get to know the next ones, as far as the budget allows by now."""
        for _ in range(_OPEN_AT_ONCE):
            pid = self._backlog.take(self._shared)
            if pid is None:  # after the next settling of accounts there is more to spend
                self._open_due_ns = max(self._settled_ns + _SETTLE_NS, now_ns + _OPEN_NS)
                return
            if self.roster.rss_bytes(pid) is None:
                self.roster.forget(pid)
            else:
                self._open(pid)
        self._open_due_ns = now_ns + _OPEN_NS

    def _open(self, pid: int) -> None:
        before_ns = self._cpu_ns()
        try:
            member = self._attached(pid)
        except (PagepulseError, OSError) as error:
            self._shared.opened(self._cpu_ns() - before_ns)
            if not isinstance(error, TargetGone):
                self._refuse(pid, error)
            return
        self.refused.pop(pid, None)
        member.interval_ns = self._options.aggregation_ns
        member.monitor.on_event = self._pass_on
        self._members[pid] = member
        self._glances.add(member)
        self.opened += 1
        self._shared.opened(self._cpu_ns() - before_ns + self._first_visit_ns)
        self.on_event("watched", {"pid": pid, "name": member.process.name})
        self._at(member, time.monotonic_ns())

    def _refuse(self, pid: int, error: PagepulseError | OSError) -> None:
        """Say once why a process is not watched."""
        why = getattr(error, "what", str(error))
        if self.refused.get(pid) != why:
            self.refused[pid] = why
            self.on_event("refused", {"pid": pid, "why": why})

    def _pass_on(self, kind: str, data: dict[str, object]) -> None:
        pid = data.get("pid")
        if kind == "exec" and isinstance(pid, int):  # where no events are to be had, nobody else tells the roster
            self.roster.ask_again(pid, time.monotonic_ns())
        self.on_event(kind, data)

    def _attached(self, pid: int) -> Member:
        with ExitStack() as stack:  # whatever fails, a descriptor that is left open would be one a minute
            process = Process(pid)
            stack.callback(process.close)
            lock = TargetLock(process)
            stack.callback(lock.close)
            probes = self._tools.probes.of_one()
            stack.callback(probes.close)
            monitor = Monitor(process, self._tools.reader, probes, self._options, self.prices, self._tools.delays)
            stack.pop_all()
        return Member(process, lock, probes, monitor)

    def _leave(self, pid: int) -> None:
        self.refused.pop(pid, None)
        self._backlog.forget(pid)
        self._drop(pid)

    def _drop(self, pid: int) -> None:
        member = self._members.pop(pid, None)
        if member is not None:
            member.close()
            # What it knew goes now, not when it would have been due: with many who come and go that is megabytes.
            self._queue = [entry for entry in self._queue if entry[2] is not member]
            heapq.heapify(self._queue)
            self.totals.unclearable_bytes -= member.unclearable_bytes
            self.on_event("ended", {"pid": pid})

    # --- whose turn it is ------------------------------------------------------------------------------------------

    def _at(self, member: Member, due_ns: int) -> None:
        member.due_ns = due_ns
        heapq.heappush(self._queue, (due_ns, next(self._number), member))

    def _next(self, now_ns: int) -> Member | None:
        """Who is due, taken out of the queue."""
        queue = self._queue
        while queue:
            due_ns, _, member = queue[0]
            if member.due_ns == due_ns and due_ns > now_ns:
                return None
            heapq.heappop(queue)
            if member.due_ns == due_ns:
                return member
        return None

    def _visit(self, member: Member) -> Snapshot | None:
        """One step of a target's aggregation interval; its last one gives the snapshot."""
        before_ns, now_ns, snapshot = self._cpu_ns(), time.monotonic_ns(), None
        try:
            owes = self._shared.owes(self._visits_ns)
            if member.steps is not None and (until_ns := member.asleep_until_ns(now_ns, owes=owes)) > now_ns:
                self._at(member, until_ns)
                return None
            due_ns = next(member.steps or member.begin(now_ns))
        except StopIteration as over:
            member.spent_ns += self._cpu_ns() - before_ns
            snapshot, due_ns = self._finished(member, over.value), time.monotonic_ns()
        except TargetGone as gone:
            member.steps = None
            if not self._goes_on(member, gone):
                return None
            due_ns = time.monotonic_ns()
        except (PagepulseError, OSError) as error:  # of this one alone: the others go on
            self._let_go(member, error)
            return None
        spent_ns = self._cpu_ns() - before_ns
        member.spent_ns += spent_ns
        self._visits_ns += spent_ns
        self._at(member, due_ns)
        return snapshot

    def _goes_on(self, member: Member, gone: TargetGone) -> bool:
        """Whether one whose memory is gone became another program, and is watched as that."""
        try:
            if not member.process.has_exited() and member.monitor.start_over(gone):
                return True
        except (PagepulseError, OSError) as error:
            self._let_go(member, error)
            return False
        self.roster.forget(member.process.pid)
        self._drop(member.process.pid)
        return False

    def _let_go(self, member: Member, error: PagepulseError | OSError) -> None:
        self._drop(member.process.pid)
        self._refuse(member.process.pid, error)

    def _finished(self, member: Member, seen: Snapshot) -> Snapshot:
        snapshot = member.monitor.account(seen, member.spent_ns)
        member.finished(snapshot)
        if member.seen == 1:
            cost_ns = snapshot.cost.cpu_ns + snapshot.cost.tax_ns
            self._shared.opened(cost_ns - self._first_visit_ns)
            self._first_visit_ns += _SMOOTHING * (cost_ns - self._first_visit_ns)
        self._taxes_ns += snapshot.cost.tax_ns
        totals = self.totals
        totals.snapshots += 1
        totals.tax_ns += snapshot.cost.tax_ns
        totals.dropped += snapshot.dropped
        totals.unclearable_bytes += snapshot.unclearable_bytes - member.unclearable_bytes
        member.unclearable_bytes = snapshot.unclearable_bytes
        return snapshot

    def last_words(self) -> Iterator[Snapshot]:
        """Snapshots of those of whom there is none yet."""
        for member in [member for member in self._members.values() if not member.seen and member.steps is not None]:
            while member.is_open and not member.seen:
                if (snapshot := self._visit(member)) is not None:
                    yield snapshot

    # --- what it costs ---------------------------------------------------------------------------------------------

    def _settle(self, now_ns: int) -> None:
        """Book what was spent since the last time, and share out what may be spent next."""
        now_cpu_ns = self._cpu_ns()
        other_ns = now_cpu_ns - self._settled_cpu_ns - self._visits_ns
        self._shared.spent(now_ns - self._settled_ns, self._visits_ns + self._taxes_ns, max(other_ns, 0.0))
        self._settled_ns, self._settled_cpu_ns = now_ns, now_cpu_ns
        self._visits_ns = self._taxes_ns = 0.0
        self._tell_pressure(now_ns)
        self._tell_backlog()
        members = [member for member in self._members.values() if not member.is_asleep]
        if not members:
            return
        chosen = intervals_ns(np.array([member.cost_ns for member in members]),
                              np.array([member.weight_bytes for member in members]),
                              self._shared.free, self._options.aggregation_ns)
        for member, interval_ns in zip(members, chosen.tolist(), strict=True):
            if not member.seen:  # the first look is short, whatever comes later
                continue
            member.interval_ns = interval_ns
            if member.steps is not None and member.due_ns > member.begun_ns + 2 * interval_ns:
                self._at(member, max(now_ns, member.begun_ns + interval_ns))

    def _tell_backlog(self) -> None:
        self._shared.is_opening = len(self._backlog) > 0
        if self._backlog_told != (unknown := self._backlog.unknown):
            self._backlog_told = unknown
            self.on_event("backlog", asdict(unknown))

    def _tell_pressure(self, now_ns: int) -> None:
        cgroup = self.roster.cgroup
        if cgroup is not None and now_ns >= self._pressure_due_ns:
            self._pressure_due_ns = now_ns + _PRESSURE_EVERY_NS
            if (pressure := cgroup.pressure()) is not None:
                self.on_event("pressure", {"cgroup": str(cgroup.path), **asdict(pressure)})

    def leave_out(self, spent_ns: int) -> None:
        """CPU time that was no monitoring (an action, drawing) does not count against the budget."""
        self._settled_cpu_ns += spent_ns

    def close(self) -> None:
        """Let go of all of them; they go on."""
        for pid in list(self._members):
            self._members.pop(pid).close()
