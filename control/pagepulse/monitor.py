# SPDX-License-Identifier: GPL-2.0-only
"""Monitor: the loop. It knows the order of things and what they cost, not how they are done."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.kernel.prices import calibrate
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.process import Process
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.refs import TLB_NS
from pagepulse.kernel.shared_probes import OneOfMany
from pagepulse.kernel.target import Target
from pagepulse.kernel.taskstats import TaskDelays
from pagepulse.kernel.usage import Sleeper, cpu_ns, rss_peak_bytes
from pagepulse.kernel.waits import WaitWatch
from pagepulse.model.clearing import AUTO, is_mostly_shared
from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.faults import Faulted, Faults, faults_by_region
from pagepulse.model.heritage import LASTS_NS, Heritage
from pagepulse.model.memory import PAGE
from pagepulse.model.plan import tick_times_ns
from pagepulse.model.prices import Prices
from pagepulse.model.snapshot import Cost, SharedRange, Snapshot
from pagepulse.model.work import Work
from pagepulse.policy.budget import Budget
from pagepulse.policy.waiting import slowdown

_EXIT_NS = 50_000_000  # how long a process may take from losing its memory to being dead
_PATIENCE, _DOUBLINGS, _ASLEEP_FACTOR = 8, 4, 4  # of a target that sleeps: intervals before the next doubling, ...
_LOOK_WINDOWS = 8192  # read at once to see what came back of what was paged out: 512 MiB, some 2 ms
_UPDATE_SHARE = 0.3  # of the budget may go into looking for new mappings


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """How to watch. Times in nanoseconds, the budget as a fraction of one CPU."""

    sampling_ns: int = 5_000_000
    aggregation_ns: int = 100_000_000
    update_ns: int = 1_000_000_000
    min_regions: int = 10
    max_regions: int = 1000
    budget: float = 0.01
    duration_ns: int | None = None
    clear: str = AUTO
    """How accessed bits are cleared: one of `model.clearing.WAYS`."""
    pinned: bool = False
    """The aggregation interval was given by the user: the budget may not move it."""


@dataclass(slots=True)
class Totals:
    """What a whole run of the monitor came to."""

    begun_ns: int
    begun_cpu_ns: int
    snapshots: int = 0
    tax_ns: float = 0.0
    dropped: int = 0
    returned_bytes: int = 0
    """Of what was paged out by us: fetched back by the target."""
    returned_soon_bytes: int = 0
    """Of that: within ten seconds of going."""
    faults: int = 0
    unclearable_bytes: int = 0
    probes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """As `record --json` prints it at the end."""
        duration_ns = max(time.monotonic_ns() - self.begun_ns, 1)
        return {
            "duration_s": round(duration_ns / 1e9, 3),
            "snapshots": self.snapshots,
            "cpu_percent": round(100 * (cpu_ns() - self.begun_cpu_ns) / duration_ns, 3),
            "rss_peak_bytes": rss_peak_bytes(),
            "target_tax_percent": round(100 * self.tax_ns / duration_ns, 3),
            "unclearable_bytes": self.unclearable_bytes,
            "dropped": self.dropped,
            "faults": self.faults,
            "probes": self.probes,
        }


class Monitor:
    """Watches one process.

    Args:
        process: The target; the caller closes it.
        reader: The reader.
        probes: The probes.
        options: How to watch.
        prices: Of this machine, where they were measured already.
        delays: Asked for what the target waits for; None: nobody knows.

    Raises:
        PagepulseError: Its memory cannot be cleared as a whole, and that was asked for.
    """

    def __init__(self, process: Process, reader: Reader, probes: Probes | OneOfMany, options: MonitorOptions,
                 prices: Prices | None = None, delays: TaskDelays | None = None) -> None:
        self.process, self._reader, self._probes, self._options = process, reader, probes, options
        self.prices = prices or calibrate(reader)
        self.budget = Budget(options.budget, options.aggregation_ns, self.prices, pinned=options.pinned)
        self._major_before = process.stat().major_faults
        self.waits = WaitWatch(process.pid, delays)
        self.target, self.engine = self._open()
        self.totals = Totals(time.monotonic_ns(), cpu_ns(), probes=list(probes.attached))
        self._update_due_ns = self._updated_ns = self._new_ns = 0
        self._swept, self._sweep_ns = Work(), 0
        self._faulted = Faulted.none()
        self._cpu_ns = cpu_ns()
        self._lost = probes.lost
        self._asleep, self._target_cpu_ns = 0, -1
        self._spared = self._stays_cold = False
        self._shared: tuple[SharedRange, ...] = ()
        self.on_event: Callable[[str, dict[str, object]], None] = lambda _kind, _data: None

    def _open(self) -> tuple[Target, Engine]:
        options = self._options
        target = Target(self.process, self._reader, self._probes, options.clear)
        if target.refs is not None:
            self.budget.at_least(TLB_NS)
        return target, Engine(self.process.pid, target, EngineOptions(
            options.sampling_ns, options.aggregation_ns, options.min_regions, options.max_regions))

    def snapshots(self, waiter: Sleeper) -> Iterator[Snapshot]:
        """Snapshots until the duration is over, a signal comes, or the target ends.

        Args:
            waiter: What to sleep on.
        """
        end_ns = None if self._options.duration_ns is None else self.totals.begun_ns + self._options.duration_ns
        gc.collect()
        gc.freeze()  # what start-up made stays: no collector should walk over it ten times a second
        while not waiter.is_over and self._has_time(end_ns):
            try:
                snapshot = self._interval(waiter, end_ns)
            except TargetGone as gone:
                # An exiting process loses its memory first, and is dead a moment later.
                waiter.wait_until(time.monotonic_ns() + _EXIT_NS)
                if waiter.is_over or not self.start_over(gone):
                    break
                continue
            if snapshot is not None:
                yield snapshot

    def _has_time(self, end_ns: int | None) -> bool:
        """Whether another interval is worth beginning: half of one, or any time at all for the first."""
        if end_ns is None:
            return True
        least_ns = self.budget.aggregation_ns // 2 if self.totals.snapshots else 0
        return end_ns - time.monotonic_ns() > least_ns

    def start_over(self, gone: TargetGone) -> bool:
        """The target became another program, unless it is gone: what was known holds for the files that both map.

        Returns:
            Whether it goes on; else it has exited.

        Raises:
            PagepulseError: It lives on, and cannot be watched any more.
            OSError: So it is, for want of a descriptor, for instance.
        """
        try:
            target, engine = self._open()
        except TargetGone:
            return False
        self.target.close()
        engine.heritage = Heritage(self.engine.regions, self.target.cleared, time.monotonic_ns() + LASTS_NS)
        self.target, self.engine = target, engine
        self._update_due_ns = 0
        self.on_event("exec", {"pid": self.process.pid, "what": gone.what})
        return True

    def _interval(self, waiter: Sleeper, end_ns: int | None) -> Snapshot | None:
        """One aggregation interval; None if it was cut short."""
        steps = self.interval()
        while True:
            try:
                deadline_ns = next(steps)
            except StopIteration as over:
                snapshot: Snapshot = over.value
                return self.account(snapshot, self._since_last_ns())
            if not waiter.wait_until(deadline_ns if end_ns is None else min(deadline_ns, end_ns)):
                return None

    def _since_last_ns(self) -> int:
        """CPU time of this process since this was last asked."""
        before_ns, self._cpu_ns = self._cpu_ns, cpu_ns()
        return self._cpu_ns - before_ns

    def interval(self) -> Generator[int, None, Snapshot]:
        """One aggregation interval in steps, so that one thread can watch many targets at once.

        Yields:
            When to go on, by CLOCK_MONOTONIC. Between two steps others may use the reader.

        Returns:
            The snapshot, for `account` to complete.

        Raises:
            TargetGone: The target exited or became another program.
        """
        begun_ns, budget, engine = time.monotonic_ns(), self.budget, self.engine
        length_ns = self._length_ns()
        self._update_if_due(begun_ns)
        limits = budget.limits(len(engine.windows))
        if self._spare_if_short(begun_ns):
            limits = replace(limits, probes=0, sweep_pages=0)
        before_ns = cpu_ns()
        engine.sweep(limits.sweep_pages, limits.range_pages)
        self._swept, self._sweep_ns = engine.take_work(), cpu_ns() - before_ns + self._new_ns
        self._new_ns = 0
        budget.swept(self._swept.pages_cleared, self._swept.ranges_cleared)
        probed_ns = engine.begin(limits.probes)
        if probed_ns is not None:
            for after_ns in tick_times_ns(self._options.sampling_ns, begun_ns + length_ns - probed_ns):
                yield probed_ns + after_ns
                engine.tick()
        yield begun_ns + length_ns
        self._take_faults()
        return engine.finish(limits.patrol, others_clear=self._spared)

    def _spare_if_short(self, now_ns: int) -> bool:
        """Under memory pressure nothing is cleared: MADV_COLD would move to the inactive list what is in use.

        The kernel's own search for cold pages clears accessed bits then, and reads show what it found.
        """
        self._spared = self.waits.look(now_ns).is_short
        self.target.keeps_taken = not self._spared
        return self._spared

    def _length_ns(self) -> int:
        """The aggregation interval; longer and longer while the target sleeps: without CPU time it touches nothing."""
        before_ns, self._target_cpu_ns = self._target_cpu_ns, self.process.cpu_clock_ns()
        self._asleep = self._asleep + 1 if before_ns == self._target_cpu_ns else 0
        usual_ns = self.budget.aggregation_ns
        if self._options.pinned:
            return usual_ns
        return min(usual_ns << min(self._asleep // _PATIENCE, _DOUBLINGS), max(usual_ns, self._options.update_ns))

    def _update_if_due(self, now_ns: int) -> None:
        if now_ns < self._update_due_ns:
            return
        before_ns = cpu_ns()
        pause_ns = self._options.update_ns
        is_new = self.engine.update()
        if is_new:
            self._shared = tuple(SharedRange(m.start, m.end, m.file, m.offset) for m in self.target.cleared if m.shared)
        spent_ns = cpu_ns() - before_ns
        self._clear_together_if_shared()
        if is_new:  # getting to know new memory is paid for as sweeps are
            self._new_ns += spent_ns
        else:
            pause_ns = max(pause_ns, int(spent_ns / (_UPDATE_SHARE * self._options.budget)))
        if self._asleep > _PATIENCE:  # only others can change it now: reclaim, for instance
            pause_ns *= _ASLEEP_FACTOR
        self._updated_ns = now_ns
        self._update_due_ns = now_ns + pause_ns - self._options.aggregation_ns // 2

    def _clear_together_if_shared(self) -> None:
        """Most of what the target has is skipped by MADV_COLD: better the coarse way than to see nothing."""
        if self._options.clear != AUTO or self.target.refs is not None:
            return
        if self._stays_cold or not is_mostly_shared(self.engine.windows, self.target.cleared, self.target.rss_bytes()):
            return
        try:
            self.target.clear_shared_together()
        except TargetGone:
            raise
        except PagepulseError as error:  # what it shares stays unclearable, and is shown so
            self._stays_cold = True
            self.on_event("clear_refused", {"pid": self.process.pid, "why": error.why or error.what})
        else:
            self.budget.at_least(TLB_NS)
            self.engine.update()
            self.on_event("clear", {"pid": self.process.pid, **self.clearing()})

    def clearing(self) -> dict[str, Any]:
        """How accessed bits are cleared by now, and what clear_refs cost."""
        refs = self.target.refs
        if refs is None:
            return {"how": "cold"}
        return {"how": "refs", "what": "memory with a file" if refs.with_file_only else "all",
                "clears": refs.calls, "longest_clear_us": refs.longest_ns // 1000}

    def _take_faults(self) -> None:
        addresses, counts = self._probes.drain_faults()
        if len(addresses):
            self._faulted = self._faulted.with_new(addresses, counts, time.monotonic_ns())
            self.totals.faults += int(counts.sum())
            if self.engine.hint(addresses):
                self._update_due_ns = min(self._update_due_ns, self._updated_ns + self._options.update_ns // 4)

    def account(self, snapshot: Snapshot, spent_ns: int) -> Snapshot:
        """Book what the interval cost; the snapshot with it.

        Args:
            snapshot: What `interval` returned.
            spent_ns: CPU time of ours that went into it.
        """
        swept, sweep_cpu_ns = self._swept, self._sweep_ns
        work = self.engine.take_work()
        tax_ns, sweep_tax_ns = work.tax_ns(self.prices), swept.tax_ns(self.prices)
        wake_tax_ns = work.wake_tax_ns(self.prices) + swept.wake_tax_ns(self.prices)
        self.budget.spent(snapshot.end_ns - snapshot.start_ns, spent_ns - sweep_cpu_ns + tax_ns,
                           sweep_cpu_ns + sweep_tax_ns, wake_tax_ns)
        tax_ns += sweep_tax_ns + wake_tax_ns
        totals = self.totals
        dropped = snapshot.dropped + swept.windows_lost + self._newly_lost()
        totals.snapshots += 1
        totals.tax_ns += tax_ns
        totals.dropped += dropped
        totals.returned_bytes += (work.pages_returned + swept.pages_returned) * PAGE
        totals.returned_soon_bytes += (work.pages_returned_soon + swept.pages_returned_soon) * PAGE
        totals.unclearable_bytes = snapshot.unclearable_bytes
        waits = self.waits.newest
        self.budget.slowdown = slowdown(waits)
        return replace(snapshot, dropped=dropped, cost=Cost(spent_ns, round(tax_ns)), delays=waits.delays,
                       pressure=waits.pressure, shared=self._shared, faults=self._faults_in(snapshot),
                       spared=self._spared)

    def _faults_in(self, snapshot: Snapshot) -> Faults | None:
        """Of each region, as far as a probe counts them. What is in none waits until mappings were looked at again."""
        if not self._probes.counts_faults:
            return None
        faults, inside = faults_by_region(snapshot.regions["start"], snapshot.regions["end"], self._faulted)
        self._faulted = self._faulted.where(~inside & (self._faulted.at_ns >= self._updated_ns))
        return faults

    def _newly_lost(self) -> int:
        """What the probes could not keep since this was last asked."""
        before, self._lost = self._lost, self._probes.lost
        return self._lost - before

    def glance(self, windows: int) -> int:
        """Look at watched memory between two steps of an interval; the next snapshot knows what was seen.

        Args:
            windows: How many to read at most.

        Returns:
            Pages that were touched since they were last read.
        """
        before = self.engine.work.pages_woken
        self.engine.patrol(windows, self.target.now_ns())
        return self.engine.work.pages_woken - before

    def summary(self) -> dict[str, Any]:
        """What the whole run came to."""
        return self.totals.summary() | {"major_faults": self._major_faults()}

    def _major_faults(self) -> int | None:
        """Faults of the target that waited for a disk or swap, by the kernel's own count; None if it is gone."""
        try:
            return self.process.stat().major_faults - self._major_before
        except TargetGone:
            return None

    def leave_out(self, spent_ns: int) -> None:
        """CPU time that was no monitoring (an action) does not count against the budget."""
        self._cpu_ns += spent_ns

    @property
    def returned_bytes(self) -> int:
        """Paged out by us, and seen to have come back."""
        return self.totals.returned_bytes + self.engine.work.pages_returned * PAGE

    @property
    def returned_soon_bytes(self) -> int:
        """Of these: within ten seconds of going."""
        return self.totals.returned_soon_bytes + self.engine.work.pages_returned_soon * PAGE

    def look_for_returned(self) -> None:
        """See what came back, as far as one look goes: a guard must not hear of it late."""
        self.engine.look_for_returned(_LOOK_WINDOWS)

    def count_returned(self) -> int:
        """Bytes paged out by us that came back until now: looked up, not remembered."""
        self.engine.look_for_returned()
        work = self.engine.take_work()
        self.totals.returned_bytes += work.pages_returned * PAGE
        self.totals.returned_soon_bytes += work.pages_returned_soon * PAGE
        return self.totals.returned_bytes

    def close(self) -> None:
        """Let go of the target; it goes on."""
        self.target.close()
