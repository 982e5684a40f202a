# SPDX-License-Identifier: GPL-2.0-only
"""Target: one target of the configuration at work: its fleet, its schemes, its recording, and what it tells."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pagepulse.apply import Applier
from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.fleet import Fleet, Roster
from pagepulse.kernel.census import Census
from pagepulse.kernel.cgroup import cgroup_of
from pagepulse.kernel.instruments import Instruments
from pagepulse.kernel.usage import OwnTime
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Evictions, Pressure
from pagepulse.report.together import Together
from pagepulse.service.config import TargetPlan, in_words
from pagepulse.service.notify import Priority, log
from pagepulse.service.recording import TargetRecording
from pagepulse.service.status import (
    ProcessFacts,
    ProcessStatus,
    SchemeStatus,
    TargetState,
    TargetStatus,
    process_status,
    scheme_status,
)
from pagepulse.service.treatment import Treatment

_TRY_AGAIN_NS, _TRY_REFUSED_NS = 5_000_000_000, 60_000_000_000
_FACTS_EVERY_NS = 10_000_000_000
_FOREVER_NS = 1 << 62


@dataclass(slots=True)
class _Process:
    """What is remembered of a watched process between its snapshots."""

    facts: ProcessFacts
    facts_due_ns: int = 0
    status: ProcessStatus | None = None


@dataclass(slots=True)
class _Sums:
    """What a target came to while its fleet was replaced or was not there."""

    snapshots: int = 0
    lost_samples: int = 0
    tax_ns: int = 0
    acted_ns: int = 0
    evictions: Evictions = field(default_factory=Evictions)


class WatchedTarget:
    """One target at work.

    Where it cannot begin, or fails, it says so and tries again: nothing that happens to it concerns the others.

    Args:
        plan: What the configuration says of it.
        tools: Of all targets.
        is_anothers: Whether a process belongs to a target that comes before this one.
    """

    def __init__(self, plan: TargetPlan, tools: Instruments, is_anothers: Callable[[int], bool]) -> None:
        self.plan, self._tools, self._is_anothers = plan, tools, is_anothers
        self.paused = False
        self.clock = OwnTime()
        self.since_ns = time.monotonic_ns()
        self._treatment: Treatment | None = None
        self._recording: TargetRecording | None = None
        self._processes: dict[int, _Process] = {}
        self._sums, self._together = _Sums(), Together()
        self._pressure: Pressure | None = None
        self._why, self._try_ns = "", 0
        self._set_recording(plan)

    # --- at work ---------------------------------------------------------------------------------------------------

    @property
    def wake_fd(self) -> int | None:
        """To wait for, too, if it is there."""
        return None if self._treatment is None or self.paused else self._treatment.wake_fd

    def due_ns(self) -> int:
        """When `step` is to be called again."""
        if self.paused:
            return _FOREVER_NS
        return self._try_ns if self._treatment is None else self._treatment.due_ns()

    def step(self, now_ns: int) -> None:
        """Do the next thing that is due."""
        with self.clock:
            try:
                if self._treatment is None:
                    self._begin(now_ns)
                else:
                    self._go_on(self._treatment, now_ns)
            except (PagepulseError, OSError) as error:
                self._fail(error, now_ns)
            except Exception as error:  # noqa: BLE001 - a fault of ours in one target must not end the others
                log(Priority.ERROR, f"{self.plan.name}: {''.join(traceback.format_exception(error))}")
                self._fail(PagepulseError("a fault of pagepulse itself", why=repr(error)), now_ns)

    def _begin(self, now_ns: int) -> None:
        self._try_ns = now_ns + _TRY_AGAIN_NS
        fleet = Fleet(self._tools, self._roster(), self.plan.options, self.clock)
        self._treatment = Treatment(fleet, self._applier())
        self._treatment.on_event = self._happened
        self._why = ""

    def _roster(self) -> Roster:
        roster = Roster(self.plan.selection, is_anothers=self._is_anothers)
        if roster.deaf is not None:
            log(Priority.WARNING, f"{self.plan.name}: {roster.deaf.what}: {roster.deaf.why}; "
                                  "new processes are looked for once a second")
        return roster

    def has(self, pid: int) -> bool:
        """Whether this process is one of its own."""
        return self._treatment is not None and self._treatment.fleet.roster.has(pid)

    def give_way(self, now_ns: int) -> bool:
        """Let go of processes that belong to a target that comes before this one by now; whether there were any."""
        return self._treatment is not None and self._treatment.fleet.roster.give_way(now_ns)

    def try_refused(self, at_ns: int) -> None:
        """Try again at this time, if not earlier, to watch those that could not be watched."""
        self._try_ns = min(self._try_ns, at_ns)

    def _go_on(self, treatment: Treatment, now_ns: int) -> None:
        if treatment.fleet.refused and now_ns >= self._try_ns:
            self._try_ns = now_ns + _TRY_REFUSED_NS
            treatment.fleet.try_refused()
        snapshot = treatment.step(now_ns)
        if snapshot is not None:
            self._take(snapshot)

    def _applier(self) -> Applier | None:
        if not self.plan.schemes:
            return None
        announce = _not_done if self.plan.dry_run else None
        return Applier(self.plan.schemes, announce, time.monotonic_ns(), cautious=True)

    def _fail(self, error: PagepulseError | OSError, now_ns: int) -> None:
        why = getattr(error, "what", "") or str(error)
        if why != self._why:
            log(Priority.WARNING, f"{self.plan.name}: {error}; trying again every {_TRY_AGAIN_NS // 1_000_000_000} s")
        self._why, self._try_ns = why, now_ns + _TRY_AGAIN_NS
        try:
            self._end_fleet()
        except Exception as another:  # noqa: BLE001 - as in `step`: what is half closed is given up
            log(Priority.ERROR, f"{self.plan.name}: {''.join(traceback.format_exception(another))}")

    def _take(self, snapshot: Snapshot) -> None:
        process = self._processes.get(snapshot.pid)
        if process is None:
            return
        if snapshot.end_ns >= process.facts_due_ns:
            process.facts_due_ns = snapshot.end_ns + _FACTS_EVERY_NS
            process.facts = self._looked_up(process.facts, snapshot.pid)
        facts = process.facts
        process.facts = replace(
            facts, lost_samples=facts.lost_samples + snapshot.dropped, cpu_ns=facts.cpu_ns + snapshot.cost.cpu_ns,
            tax_ns=facts.tax_ns + snapshot.cost.tax_ns, evictions=self._evictions_of(snapshot.pid))
        process.status = process_status(process.facts, snapshot)
        self._together.add(snapshot)
        if self._recording is not None:
            self._recording.write(snapshot)

    def _looked_up(self, facts: ProcessFacts, pid: int) -> ProcessFacts:
        """What only /proc tells."""
        fleet = self._treatment.fleet if self._treatment is not None else None
        with suppress(TargetGone, KeyError):
            if fleet is not None:
                return replace(facts, name=Census().name(pid) or facts.name, cgroup=cgroup_of(pid),
                               swap_bytes=fleet.monitors[pid].process.swap_bytes())
        return facts

    def _evictions_of(self, pid: int) -> Evictions:
        applier = self._treatment.applier if self._treatment is not None else None
        return Evictions() if applier is None else applier.evictions_of(pid)

    def _happened(self, kind: str, data: dict[str, object]) -> None:
        pid = data.get("pid")
        if kind == "watched" and isinstance(pid, int):
            self._processes[pid] = _Process(ProcessFacts(str(data["name"]), "", time.monotonic_ns()))
        elif kind == "ended" and isinstance(pid, int):
            self._processes.pop(pid, None)
            self._together.ended(pid)
        elif kind == "exec" and pid in self._processes:
            self._processes[pid].facts_due_ns = 0  # it has another name now
        elif kind == "pressure" and self._treatment is not None and self._treatment.fleet.roster.cgroup is not None:
            self._pressure = self._treatment.fleet.roster.cgroup.pressure()
        elif kind == "refused":
            log(Priority.NOTICE, f"{self.plan.name}: process {pid} is not watched: {data['why']}")
        if self._recording is not None:
            self._recording.event(kind, data)

    # --- changes ---------------------------------------------------------------------------------------------------

    def change(self, plan: TargetPlan) -> None:
        """Go on with another plan; what is known of processes that are watched as before stays known."""
        before, self.plan = self.plan, plan
        if not plan.watches_like(before):
            log(Priority.NOTICE, f"{plan.name}: begins anew: how it watches has changed")
            self._end_fleet()
            self._try_ns = 0
        elif self._treatment is not None and (plan.schemes, plan.dry_run) != (before.schemes, before.dry_run):
            self._bank_applier()
            self._treatment.applier = self._applier()
        if self._treatment is not None:
            self._treatment.fleet.set_budget(plan.options.budget)
        if plan.selection != before.selection:
            self._select()
        if (plan.recording, plan.rotation) != (before.recording, before.rotation):
            self._set_recording(plan)

    def _select(self) -> None:
        """Whom it watches has changed: who is meant still stays known. Where it could not begin, it tries at once."""
        if self._treatment is None:
            self._try_ns = 0
            return
        fleet = self._treatment.fleet
        old = fleet.roster
        try:
            fleet.select(self._roster())
        except (PagepulseError, OSError) as error:  # a control group that is not there, for instance
            self._fail(error, time.monotonic_ns())
        finally:
            if fleet.roster is not old:
                old.close()

    def _set_recording(self, plan: TargetPlan) -> None:
        before, self._recording = self._recording, None
        if before is not None:
            before.close()
        if plan.recording is not None:
            self._recording = TargetRecording(plan.recording, plan.rotation, plan.name, before)

    def _end_fleet(self) -> None:
        """Let go of all processes; sums go on."""
        if self._treatment is None:
            return
        self._bank_applier()
        treatment, self._treatment = self._treatment, None
        sums, totals = self._sums, treatment.fleet.totals
        sums.snapshots += totals.snapshots
        sums.lost_samples += totals.dropped
        sums.tax_ns += round(totals.tax_ns)
        treatment.fleet.close()
        treatment.fleet.roster.close()
        for pid in list(self._processes):
            self._happened("ended", {"pid": pid})

    def _bank_applier(self) -> None:
        applier = self._treatment.applier if self._treatment is not None else None
        if applier is not None:
            self._sums.evictions = _added(self._sums.evictions, applier.evictions)
            self._sums.acted_ns += applier.acted_ns

    def close(self) -> None:
        """Let go of everything; the processes go on."""
        self._end_fleet()
        if self._recording is not None:
            self._recording.close()

    # --- what it tells ---------------------------------------------------------------------------------------------

    @property
    def newest(self) -> dict[int, Snapshot]:
        """The newest snapshot of each process: a copy that stays as it is."""
        return {} if self._treatment is None else dict(self._treatment.newest)

    def status(self) -> TargetStatus:
        """All of it, now."""
        state, why = self._state()
        sums, treatment = self._sums, self._treatment
        applier = treatment.applier if treatment is not None else None
        totals = treatment.fleet.totals if treatment is not None else None
        acted_ns = sums.acted_ns + (applier.acted_ns if applier is not None else 0)
        return TargetStatus(
            name=self.plan.name, selection=in_words(self.plan), state=state, why=why,
            budget_share=self.plan.options.budget, cpu_ns=max(self.clock() - acted_ns, 0),
            tax_ns=sums.tax_ns + (round(totals.tax_ns) if totals is not None else 0), since_ns=self.since_ns,
            snapshots=sums.snapshots + (totals.snapshots if totals is not None else 0),
            lost_samples=sums.lost_samples + (totals.dropped if totals is not None else 0),
            evictions=_added(sums.evictions, applier.evictions) if applier is not None else sums.evictions,
            processes=self._process_statuses(), dry_run=self.plan.dry_run, schemes=_scheme_statuses(applier),
            waiting_processes=_waiting(treatment.fleet) if treatment is not None else 0,
            refused=dict(treatment.fleet.refused) if treatment is not None else {}, pressure=self._pressure,
            recording=None if self._recording is None else self._recording.status(), together=self._together.sizes,
            deaf=_deaf(treatment.fleet.roster) if treatment is not None else "")

    def _state(self) -> tuple[TargetState, str]:
        if self.paused:
            return "paused", "told to rest"
        if self._treatment is None:
            if self.plan.selection.cgroup is not None and "no control group" in self._why:
                return "waiting", self._why
            return ("failed", self._why) if self._why else ("waiting", "it begins")
        cgroup = self._treatment.fleet.roster.cgroup
        if not self._treatment.newest:
            is_away = cgroup is not None and not cgroup.is_there
            return "waiting", f"{cgroup.path} is gone" if cgroup is not None and is_away else "no process to watch yet"
        return "watching", ""

    def _process_statuses(self) -> tuple[ProcessStatus, ...]:
        for pid in self._treatment.take_treated() if self._treatment is not None else ():
            process = self._processes.get(pid)
            if process is not None and process.status is not None:
                process.status = replace(process.status, evictions=self._evictions_of(pid))
        return tuple(process.status for process in self._processes.values() if process.status is not None)


def _not_done(_text: str) -> None:
    """A dry run's calls are counted and not logged: for weeks that would be a line a second."""


def _scheme_statuses(applier: Applier | None) -> tuple[SchemeStatus, ...]:
    if applier is None:
        return ()
    verdicts, waits = applier.verdicts, applier.waits
    return tuple(scheme_status(result, verdicts[result.name], waits.get(result.name, "")) for result in applier.results)


def _added(one: Evictions, other: Evictions) -> Evictions:
    return one + other


def _deaf(roster: Roster) -> str:
    return "" if roster.deaf is None else f"{roster.deaf.what}: {roster.deaf.why}"


def _waiting(fleet: Fleet) -> int:
    """Who is too small or too young, and who is still to be known."""
    return fleet.roster.waiting + fleet.unknown.processes
