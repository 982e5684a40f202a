# SPDX-License-Identifier: GPL-2.0-only
"""Apply: schemes on snapshots. From what a region does to what is done to its pages, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pagepulse.kernel.actions import ADVICE, Actuator, Effect
from pagepulse.kernel.numa import migrate, nodes_with_memory
from pagepulse.kernel.system import system_facts
from pagepulse.kernel.usage import cpu_ns
from pagepulse.model.engine import Engine
from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Evictions
from pagepulse.monitor import Monitor
from pagepulse.policy.decide import (
    Candidate,
    PageState,
    absent_runs,
    allowed,
    candidates,
    chunks_to_collapse,
    chunks_to_split,
    cold_runs,
    due,
    present_runs,
)
from pagepulse.policy.filters import by_page
from pagepulse.policy.goal_values import read_values
from pagepulse.policy.goals import Readings, Tuning, tuned, tuning_due
from pagepulse.policy.guards import TAKES_MEMORY, GuardState, Moment, Verdict, guard_due, guarded
from pagepulse.policy.quota import Usage, charged, remaining_bytes
from pagepulse.policy.result import SchemeResult
from pagepulse.policy.scheme import Scheme
from pagepulse.policy.watermarks import WatermarkState, watch_due, watched

_APPLIED = {"stat", "migrate_hot", "migrate_cold", *ADVICE}
_PIECE = 128 * CHUNK  # a candidate is read and treated so much at a time: its pages' ages take 512 KiB then


@dataclass(slots=True)
class _Progress:
    """Where a scheme stands."""

    scheme: Scheme
    usage: Usage
    result: SchemeResult
    applied_ns: int | None = None
    marks: WatermarkState = field(default_factory=WatermarkState)
    tuning: Tuning = field(default_factory=Tuning)
    guards: GuardState = field(default_factory=GuardState)
    guarded_bytes: int = 0
    """Tried since the guards last looked."""

    @property
    def waits_for(self) -> str:
        """Why the scheme does nothing now; empty if it may act."""
        return self.marks.why or self.tuning.why or self.guards.stops

    def left_bytes(self, now_ns: int) -> int | None:
        """What quotas, goals and guards leave; None: no limit."""
        limits = [remaining_bytes(self.scheme, self.usage, now_ns, goal_bytes=self.tuning.limit_bytes)]
        if self.guards.limit_bytes is not None:
            limits.append(max(self.guards.limit_bytes - self.guarded_bytes, 0))
        return min((limit for limit in limits if limit is not None), default=None)


class Applier:
    """Applies schemes to a monitored target.

    Args:
        monitor: Watches the target.
        schemes: In the order in which they are applied.
        announce: Given in a dry run: called with the text of each call instead of making it.
    """

    def __init__(self, monitor: Monitor, schemes: Sequence[Scheme], announce: Callable[[str], None] | None) -> None:
        self._monitor = monitor
        self._announce = announce
        now_ns = monitor.target.now_ns()
        self._progress = [_Progress(s, Usage(now_ns), SchemeResult(s.name, s.action)) for s in schemes]

    @property
    def results(self) -> list[SchemeResult]:
        """What each scheme did so far."""
        return [progress.result for progress in self._progress]

    @property
    def waits(self) -> dict[str, str]:
        """Schemes that do nothing now, because of watermarks, goals or guards -> why."""
        return {progress.scheme.name: progress.waits_for for progress in self._progress if progress.waits_for}

    @property
    def verdicts(self) -> dict[str, tuple[Verdict, ...]]:
        """Scheme -> what each of its guards last said."""
        return {progress.scheme.name: progress.guards.verdicts for progress in self._progress}

    def apply(self, snapshot: Snapshot) -> None:
        """Apply the schemes that are due and need not wait.

        Raises:
            TargetGone: The target exited or became another program.
        """
        for progress in self._progress:
            if due(progress.scheme, progress.applied_ns, snapshot.end_ns):
                progress.applied_ns = snapshot.end_ns
                self._look_at_conditions(progress)
                if not progress.waits_for:
                    self._apply(progress, snapshot)

    def _look_at_conditions(self, progress: _Progress) -> None:
        """Bring watermarks, goals and guards up to date, where their intervals are over."""
        scheme, target = progress.scheme, self._monitor.target
        now_ns = target.now_ns()
        if watch_due(scheme.watermarks, progress.marks, now_ns):
            progress.marks = watched(scheme.watermarks, progress.marks, system_facts())
        if tuning_due(scheme, progress.tuning, now_ns):
            readings = Readings(system_facts(), self.evictions, read_values(scheme.quotas.goals))
            progress.tuning = tuned(scheme, progress.tuning, readings)
        if scheme.acts and guard_due(progress.guards, now_ns):
            moment = Moment(system_facts(), target.rss_bytes(), self.evictions)
            progress.guards = guarded(scheme.guards, scheme.action, scheme.limit_bytes, progress.guards, moment)
            progress.guarded_bytes = 0

    @property
    def evictions(self) -> Evictions:
        """What went by the hand of all schemes, and came back."""
        evicted = sum(one.result.applied_bytes for one in self._progress if one.scheme.action in TAKES_MEMORY)
        return Evictions(evicted, self._monitor.totals.returned_bytes)

    def _apply(self, progress: _Progress, snapshot: Snapshot) -> None:
        scheme = progress.scheme
        for candidate in candidates(scheme, snapshot, progress.usage, goal_bytes=progress.tuning.limit_bytes):
            if not scheme.acts:
                self._count(progress, candidate)
                continue
            for start, end in _pieces(candidate):
                left = progress.left_bytes(snapshot.end_ns)
                if left is not None and left < PAGE:
                    return
                self._treat(progress, candidate, start, end, left)

    def _count(self, progress: _Progress, candidate: Candidate) -> None:
        """For stat: what is resident of the candidate, and passes the filters."""
        size_bytes = candidate.present_bytes
        if by_page(candidate.filters):
            size_bytes = 0
            for start, end in _pieces(candidate):
                pages = self._pages(start, end)
                size_bytes += int(np.count_nonzero(allowed(candidate, pages) & pages.present)) * PAGE
        progress.result += SchemeResult(progress.scheme.name, progress.scheme.action, tried_bytes=size_bytes,
                                        applied_bytes=size_bytes)

    def _treat(self, progress: _Progress, candidate: Candidate, start: int, end: int, left: int | None) -> None:
        """Act on the cold pages of one piece of a candidate."""
        begun_ns = cpu_ns()
        now_ns = self._monitor.target.now_ns()
        pages = self._pages(start, end)
        effects = self._act(progress.scheme, candidate, pages, now_ns, left)
        spent_ns = cpu_ns() - begun_ns
        self._monitor.leave_out(spent_ns)
        for effect in effects:
            progress.usage = charged(progress.scheme, progress.usage, now_ns, size_bytes=effect.tried_bytes,
                                     time_ns=spent_ns // len(effects))
            progress.guarded_bytes += effect.tried_bytes
            progress.result += _as_result(progress.scheme, effect)
            for applied in effect.applied:
                self._monitor.engine.evicted(applied)

    def _act(self, scheme: Scheme, candidate: Candidate, pages: PageState, now_ns: int, left: int | None
             ) -> list[Effect]:
        """Do what the scheme says to those pages that it is for; no effect where there are none."""
        if scheme.target_node is not None:
            is_hot = scheme.action == "migrate_hot"
            runs = present_runs(candidate, pages, left) if is_hot else cold_runs(candidate, pages, now_ns, left)
            return [migrate(self._monitor.target, runs, scheme.target_node, self._announce)] if len(runs) else []
        actuator = Actuator(self._monitor.target, self._announce)
        match scheme.action:
            case "hugepage" | "collapse":
                runs = chunks_to_collapse(candidate, pages, left)
            case "willneed":
                runs = absent_runs(candidate, pages, left)
            case _:
                runs = cold_runs(candidate, pages, now_ns, left)
        effects = [actuator.act(scheme.action, runs)] if len(runs) else []
        if scheme.action == "nohugepage":
            left = None if left is None else left - sum(effect.tried_bytes for effect in effects)
            chunks = chunks_to_split(candidate, pages, now_ns, left)
            effects += [actuator.split(chunks[:, 0])] if len(chunks) else []
        return effects

    def _pages(self, start: int, end: int) -> PageState:
        engine: Engine = self._monitor.engine
        bits = self._monitor.target.read_pages(start, end)
        return PageState(bits.start, bits.present, bits.young, bits.huge, engine.windows.idle_since_ns(start, end))


def not_applied(scheme: Scheme) -> list[str]:
    """What a scheme asks for that `Applier` does not do: to be refused, or it would silently do something else."""
    asked = {
        f"the action {scheme.action}": scheme.action not in _APPLIED,
        f"memory of node {scheme.target_node}, which this machine has not":
            scheme.target_node is not None and scheme.target_node not in nodes_with_memory(),
        "a filter of type cgroup": any(entry.type == "cgroup" for entry in scheme.filters),
    }
    return [what for what, is_asked in asked.items() if is_asked]


def _pieces(candidate: Candidate) -> Iterator[tuple[int, int]]:
    """The candidate in parts of at most _PIECE, cut at its multiples."""
    for start in range(candidate.start // _PIECE * _PIECE, candidate.end, _PIECE):
        yield max(start, candidate.start), min(start + _PIECE, candidate.end)


def _as_result(scheme: Scheme, effect: Effect) -> SchemeResult:
    return SchemeResult(scheme.name, scheme.action, effect.tried_bytes, effect.applied_bytes, effect.calls,
                        effect.errors, effect.reasons)
