# SPDX-License-Identifier: GPL-2.0-only
"""Status: all that a daemon tells of itself at one moment. Frozen, so that any thread may read it while work goes on.

Functions here only build it and say what each part is as JSON; who writes, asks and answers is elsewhere. Times are
CLOCK_MONOTONIC, and become ages where somebody reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pagepulse.model.snapshot import IDLE_EDGES_NS, Snapshot
from pagepulse.model.system import Delays, Evictions, Pressure
from pagepulse.policy.guards import Verdict
from pagepulse.policy.result import SchemeResult
from pagepulse.report.together import NOTHING, Summed

TargetState = Literal["watching", "waiting", "paused", "failed"]
"""Of a target: at work; nobody to watch yet, or its control group is away; told to rest; it cannot be watched."""


@dataclass(frozen=True, slots=True)
class IdleBracket:
    """Memory that was not touched for at least this long, known page by page. Brackets contain the longer ones."""

    at_least_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One watched process, as its newest snapshot saw it."""

    pid: int
    name: str
    cgroup: str
    """Its path in the hierarchy; "" where it cannot be told."""
    seen_ns: int
    """End of the newest snapshot; its age says how old all of this is."""
    interval_ns: int
    """In so long a time `working_set_bytes` were touched."""
    rss_bytes: int
    working_set_bytes: int
    idle: tuple[IdleBracket, ...]
    swap_bytes: int
    unknown_bytes: int
    """Resident, and never yet seen untouched: neither hot nor cold."""
    unclearable_bytes: int
    """Resident, and the kernel does not clear its accessed bits: neither hot nor cold."""
    lost_samples: int
    """Reads that failed or were overtaken, and what the probes could not keep, since it is watched."""
    evictions: Evictions
    """Paged out by our schemes, and come back, since it is watched."""
    cpu_ns: int
    """What watching it cost so far: our CPU time,"""
    tax_ns: int
    """and what it paid itself."""
    watched_since_ns: int
    delays: Delays | None = None

    def as_json(self) -> dict[str, Any]:
        """What stays until there is a new snapshot; keys with units."""
        return {
            "pid": self.pid, "name": self.name, "cgroup": self.cgroup, "interval_s": _seconds(self.interval_ns),
            "rss_bytes": self.rss_bytes, "working_set_bytes": self.working_set_bytes,
            "idle": _idle_json(self.idle), "swap_bytes": self.swap_bytes, "unknown_bytes": self.unknown_bytes,
            "unclearable_bytes": self.unclearable_bytes, "lost_samples": self.lost_samples,
            "given_back_bytes": self.evictions.evicted_bytes,
            "returned_bytes": self.evictions.returned_bytes,
            "delays": None if self.delays is None else asdict(self.delays)}

    def ages_json(self, now_ns: int) -> dict[str, float]:
        """What changes all the time: ages instead of times, and shares of the time since it is watched."""
        watched_ns = max(now_ns - self.watched_since_ns, 1)
        return {"snapshot_age_s": _seconds(now_ns - self.seen_ns), "watched_s": _seconds(watched_ns),
                "cpu_percent": _percent(self.cpu_ns / watched_ns), "tax_percent": _percent(self.tax_ns / watched_ns)}


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """What one guard of a scheme says now."""

    guard: str
    stance: str
    """off, open, limits or stops."""
    limit_bytes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SchemeStatus:
    """What a scheme did to one target, since the daemon applies it there."""

    name: str
    action: str
    tried_bytes: int
    applied_bytes: int
    """What was seen to change."""
    calls: int
    refused_calls: int
    """Calls that the kernel refused."""
    not_applied_bytes: Mapping[str, int]
    """Reason -> bytes on which it had no effect. With applied_bytes they make up tried_bytes."""
    waits_for: str
    """Why it does nothing now; "" if it may act."""
    guards: tuple[GuardStatus, ...] = ()
    saved_bytes: int = 0
    """Of idle regions it was meant for: seen to be in use, page by page, and left alone."""
    restored_bytes: int = 0
    """Went as huge pages, came back as small ones, and was made huge again."""

    def as_json(self) -> dict[str, Any]:
        """Keys with units."""
        return {
            "name": self.name, "action": self.action, "tried_bytes": self.tried_bytes,
            "applied_bytes": self.applied_bytes, "calls": self.calls, "refused_calls": self.refused_calls,
            "not_applied_bytes": dict(self.not_applied_bytes), "waits_for": self.waits_for,
            "saved_bytes": self.saved_bytes, "restored_bytes": self.restored_bytes,
            "guards": [asdict(guard) for guard in self.guards]}


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """The recording of a target."""

    path: str
    size_bytes: int
    error: str = ""
    """Why nothing is recorded any more, or no new file is begun; "" if all is well."""
    lost_snapshots: int = 0
    """That could not be written."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target of the configuration: a selection of processes, and what is done to them."""

    name: str
    selection: str
    """In words."""
    state: TargetState
    why: str
    """Of a state that is not `watching`."""
    budget_share: float
    cpu_ns: int
    """What it cost since `since_ns`; so `tax_ns`, what its processes paid."""
    tax_ns: int
    since_ns: int
    snapshots: int
    lost_samples: int
    """As of a process; of all that were ever watched here."""
    evictions: Evictions
    processes: tuple[ProcessStatus, ...] = ()
    waiting_processes: int = 0
    """Belong to it, and are too young or too small, or still to be known: the budget says how soon."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Processes that cannot be watched -> why."""
    schemes: tuple[SchemeStatus, ...] = ()
    dry_run: bool = False
    pressure: Pressure | None = None
    """Of its control group, if it is one, and the kernel measures it."""
    recording: RecordingStatus | None = None
    deaf: str = ""
    """Why forks and exits cannot be heard, so that new processes are looked for now and then; "" if they are."""
    together: Summed = NOTHING
    """Of all its processes; what several of them map of one file counts once."""

    @property
    def rss_bytes(self) -> int:
        """Of all its processes; what several of them map of one file counts once."""
        return self.together.rss_bytes

    @property
    def working_set_bytes(self) -> int:
        """As `rss_bytes`."""
        return self.together.wss_bytes

    @property
    def swap_bytes(self) -> int:
        """Of all its processes."""
        return sum(process.swap_bytes for process in self.processes)

    @property
    def unknown_bytes(self) -> int:
        """As `rss_bytes`."""
        return self.together.unknown_bytes

    @property
    def unclearable_bytes(self) -> int:
        """As `rss_bytes`."""
        return self.together.unclearable_bytes

    @property
    def idle(self) -> tuple[IdleBracket, ...]:
        """As `rss_bytes`, by the same brackets as a process; zeroes where there is none."""
        return idle_brackets(self.together.idle_bytes)

    def cpu_share(self, now_ns: int) -> float:
        """Of one CPU, since `since_ns`."""
        return self.cpu_ns / max(now_ns - self.since_ns, 1)

    def tax_share(self, now_ns: int) -> float:
        """Of one CPU, since `since_ns`."""
        return self.tax_ns / max(now_ns - self.since_ns, 1)

    def as_json(self, now_ns: int) -> dict[str, Any]:
        """All but its processes. Keys with units; ages instead of times."""
        return {
            "name": self.name, "selection": self.selection, "state": self.state, "why": self.why,
            "budget_percent": _percent(self.budget_share), "cpu_percent": _percent(self.cpu_share(now_ns)),
            "tax_percent": _percent(self.tax_share(now_ns)), "age_s": _seconds(now_ns - self.since_ns),
            "rss_bytes": self.rss_bytes, "working_set_bytes": self.working_set_bytes, "idle": _idle_json(self.idle),
            "swap_bytes": self.swap_bytes, "unknown_bytes": self.unknown_bytes,
            "unclearable_bytes": self.unclearable_bytes, "snapshots": self.snapshots, "lost_samples": self.lost_samples,
            "given_back_bytes": self.evictions.evicted_bytes, "returned_bytes": self.evictions.returned_bytes,
            "dry_run": self.dry_run, "pressure": None if self.pressure is None else asdict(self.pressure),
            "recording": None if self.recording is None else asdict(self.recording),
            "waiting_processes": self.waiting_processes, "deaf": self.deaf,
            "refused": {str(pid): why for pid, why in self.refused.items()},
            "schemes": [scheme.as_json() for scheme in self.schemes]}


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """Which configuration is in force."""

    loaded_ns: int
    """When it was read."""
    loads: int = 1
    """How many were accepted so far."""
    error: str = ""
    """Why what is in the directory now is not in force; "" if it is."""
    failed_ns: int = 0
    failures: int = 0
    """How many were refused so far."""
    needs_restart: bool = False
    """`[daemon]` says other things than when the daemon began, which holds until it is started again."""

    def as_json(self, now_ns: int) -> dict[str, Any]:
        """Ages instead of times."""
        failed_age_s = _seconds(now_ns - self.failed_ns) if self.error else None
        return {"loaded_age_s": _seconds(now_ns - self.loaded_ns), "loads": self.loads, "error": self.error,
                "error_age_s": failed_age_s, "failures": self.failures, "needs_restart": self.needs_restart}


@dataclass(frozen=True, slots=True)
class Status:
    """All that a daemon tells of itself at one moment."""

    version: str
    pid: int
    started_ns: int
    at_ns: int
    """When this was put together."""
    paused: bool
    """All of it was told to rest."""
    cpu_ns: int
    """CPU time of the daemon since it began to watch, all threads, actions of schemes included."""
    rss_bytes: int
    """Of the daemon."""
    targets: tuple[TargetStatus, ...]
    reload: ReloadStatus

    @property
    def uptime_ns(self) -> int:
        """Since it began to watch."""
        return self.at_ns - self.started_ns

    @property
    def budget_share(self) -> float:
        """Of one CPU, for watching all targets together."""
        return sum(target.budget_share for target in self.targets)

    @property
    def cpu_share(self) -> float:
        """Of one CPU, since it began to watch."""
        return self.cpu_ns / max(self.uptime_ns, 1)

    @property
    def tax_share(self) -> float:
        """What the targets paid, as a share of one CPU."""
        return sum(target.tax_share(self.at_ns) for target in self.targets)

    def target(self, name: str) -> TargetStatus | None:
        """The target of this name, if there is one."""
        return next((target for target in self.targets if target.name == name), None)

    def as_json(self, now_ns: int) -> dict[str, Any]:
        """All but its targets; ages count to `now_ns`."""
        return {
            "version": self.version, "pid": self.pid, "uptime_s": _seconds(now_ns - self.started_ns),
            "age_s": _seconds(now_ns - self.at_ns), "paused": self.paused,
            "budget_percent": _percent(self.budget_share), "cpu_percent": _percent(self.cpu_share),
            "tax_percent": _percent(self.tax_share), "rss_bytes": self.rss_bytes,
            "reload": self.reload.as_json(now_ns)}


def idle_brackets(sizes_bytes: Sequence[int]) -> tuple[IdleBracket, ...]:
    """Brackets from sizes in the order of IDLE_EDGES_NS, as a snapshot has them."""
    return tuple(IdleBracket(edge_ns / 1e9, size) for edge_ns, size in zip(IDLE_EDGES_NS, sizes_bytes, strict=True))


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What is known of a watched process beside its snapshot."""

    name: str
    cgroup: str
    watched_since_ns: int
    swap_bytes: int = 0
    lost_samples: int = 0
    evictions: Evictions = field(default_factory=Evictions)
    cpu_ns: int = 0
    tax_ns: int = 0


def process_status(facts: ProcessFacts, snapshot: Snapshot) -> ProcessStatus:
    """A process as this snapshot saw it."""
    return ProcessStatus(
        pid=snapshot.pid, name=facts.name, cgroup=facts.cgroup, seen_ns=snapshot.end_ns,
        interval_ns=snapshot.end_ns - snapshot.start_ns, rss_bytes=snapshot.rss_bytes,
        working_set_bytes=snapshot.wss_bytes, idle=idle_brackets(snapshot.idle_bytes), swap_bytes=facts.swap_bytes,
        unknown_bytes=snapshot.unknown_bytes, unclearable_bytes=snapshot.unclearable_bytes,
        lost_samples=facts.lost_samples, evictions=facts.evictions, cpu_ns=facts.cpu_ns, tax_ns=facts.tax_ns,
        watched_since_ns=facts.watched_since_ns, delays=snapshot.delays)


def scheme_status(result: SchemeResult, verdicts: Sequence[Verdict], waits_for: str) -> SchemeStatus:
    """A scheme, from what it came to and what its guards last said."""
    return SchemeStatus(
        name=result.name, action=result.action, tried_bytes=result.tried_bytes, applied_bytes=result.applied_bytes,
        calls=result.calls, refused_calls=result.errors, not_applied_bytes=result.reasons, waits_for=waits_for,
        saved_bytes=result.saved_bytes, restored_bytes=result.restored_bytes,
        guards=tuple(GuardStatus(v.guard, v.stance, v.limit_bytes, v.reason) for v in verdicts))


def _seconds(time_ns: int) -> float:
    return round(time_ns / 1e9, 3)


def _percent(share: float) -> float:
    return round(100 * share, 4)


def _idle_json(idle: Sequence[IdleBracket]) -> list[dict[str, float]]:
    return [{"at_least_s": bracket.at_least_s, "size_bytes": bracket.size_bytes} for bracket in idle]
