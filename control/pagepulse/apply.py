# SPDX-License-Identifier: GPL-2.0-only
"""Apply: schemes on snapshots. From what a region does to what is done to its pages, page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pagepulse.kernel.actions import ADVICE, NO_SWAP, Actuator, Effect
from pagepulse.kernel.host import swap_free_bytes
from pagepulse.kernel.numa import migrate, nodes_with_memory
from pagepulse.kernel.system import system_facts
from pagepulse.kernel.target import Target
from pagepulse.kernel.usage import cpu_ns
from pagepulse.model.identity import without_file
from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Evictions
from pagepulse.monitor import Monitor
from pagepulse.policy.backoff import SHORT_NS, BackOff
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
    in_use,
    present_runs,
    withheld,
)
from pagepulse.policy.fields import ACT_ON_BUSY
from pagepulse.policy.filters import by_page
from pagepulse.policy.goal_values import read_values
from pagepulse.policy.goals import Readings, tuned, tuning_due
from pagepulse.policy.guards import (
    CAUTIOUS_SHARE,
    TAKES_MEMORY,
    GuardState,
    Moment,
    Verdict,
    guard_due,
    guarded,
    own_limit_bytes,
)
from pagepulse.policy.match import Mask
from pagepulse.policy.quota import Usage, charged, renewed
from pagepulse.policy.reading import Ranges, idle_parts, whole
from pagepulse.policy.result import SchemeResult
from pagepulse.policy.scheme import Scheme
from pagepulse.policy.waiting import slowdown
from pagepulse.policy.watermarks import watch_due, watched
from pagepulse.standing import Part, Progress, Turn

AGAIN_NS = 1_000_000_000
"""What is unfinished may go on after this time: quotas and guards allow more by then."""

_APPLIED = {"stat", "migrate_hot", "migrate_cold", *ADVICE}
_RESTORED_AT_ONCE = 16  # huge pages: 32 MiB, some 40 ms of work


class Applier:
    """Applies schemes to monitored processes: to one, or to all of a service, which then share what a scheme may do.

    Quotas, goals, watermarks and guards hold for all processes together; the guards of the least that stays and of
    the largest step for each by itself, too.

    Args:
        schemes: In the order in which they are applied.
        announce: Given in a dry run: called with the text of each call instead of making it.
        now_ns: CLOCK_MONOTONIC.
        cautious: Begin with a small part of the quotas, which grows while nothing comes back: after a restart nobody
            knows what harm was done before.
    """

    def __init__(self, schemes: Sequence[Scheme], announce: Callable[[str], None] | None, now_ns: int, *,
                 cautious: bool = False) -> None:
        self._announce = announce
        guards = partial(GuardState, share=CAUTIOUS_SHARE if cautious else 1.0)
        self._progress = [Progress(s, Usage(now_ns), SchemeResult(s.name, s.action), guards=guards()) for s in schemes]
        self._parts: dict[int, Part] = {}
        self._gone = Evictions()
        self.acted_ns = 0
        """CPU time that went into actions."""

    @property
    def pauses_ns(self) -> frozenset[int]:
        """How long after a snapshot some scheme may act on more than then, if its target sleeps: it is older."""
        return frozenset(max(one.scheme.access_pattern.age.min_ns, one.scheme.apply_interval_ns or 0)
                         for one in self._progress if one.scheme.acts)

    @property
    def results(self) -> list[SchemeResult]:
        """What each scheme did so far."""
        return [progress.result for progress in self._progress]

    @property
    def waits(self) -> dict[str, str]:
        """Schemes that do nothing now, because of watermarks, goals or guards, or not to all memory -> why."""
        why = {progress.scheme.name: progress.waits_for or progress.leaves_alone for progress in self._progress}
        return {name: reason for name, reason in why.items() if reason}

    @property
    def verdicts(self) -> dict[str, tuple[Verdict, ...]]:
        """Scheme -> what each of its guards last said."""
        return {progress.scheme.name: progress.guards.verdicts for progress in self._progress}

    @property
    def evictions(self) -> Evictions:
        """What went by the hand of all schemes, and came back; of processes that have ended, too."""
        return sum((part.evictions for part in self._parts.values()), self._gone)

    def evictions_of(self, pid: int) -> Evictions:
        """What went of one process that is watched, and came back."""
        part = self._parts.get(pid)
        return Evictions() if part is None else part.evictions

    def is_unfinished(self, pid: int) -> bool:
        """Whether there was more to do to this process than quotas and guards left: `apply` may be called again."""
        return pid in self._parts and any(turn.is_unfinished for turn in self._parts[pid].turns.values())

    def again_ns(self, pid: int) -> int | None:
        """When the first scheme that is unfinished with this process may go on; None: there is none."""
        turns = self._parts[pid].turns if pid in self._parts else {}
        schemes = {progress.scheme.name: progress.scheme for progress in self._progress}
        again_ns = (turn.applied_ns + max(schemes[name].apply_interval_ns or 0, AGAIN_NS)
                    for name, turn in turns.items() if turn.is_unfinished and turn.applied_ns is not None)
        return min(again_ns, default=None)

    def forget(self, pid: int) -> None:
        """This process has ended."""
        part = self._parts.pop(pid, None)
        if part is not None:
            self._gone += part.evictions

    def apply(self, monitor: Monitor, snapshot: Snapshot) -> None:
        """Apply the schemes that are due and need not wait.

        Args:
            monitor: Watches the process.
            snapshot: Of it. What was seen a while ago will do: each page is read again.

        Raises:
            TargetGone: The target exited or became another program.
        """
        before = (monitor.returned_bytes, monitor.returned_soon_bytes)
        part = self._parts.setdefault(monitor.process.pid, Part(monitor, before=before))
        part.follow(snapshot)
        now_ns = monitor.target.now_ns()
        for progress in self._progress:
            turn = part.turns.setdefault(progress.scheme.name, Turn())
            if due(progress.scheme, turn.applied_ns, now_ns):
                turn.applied_ns, turn.is_unfinished = now_ns, False
                self._restore(progress, part, turn)
                self._look_at_conditions(progress, part)
                if progress.waits_for:
                    turn.is_unfinished = progress.scheme.acts  # what it waits for may come while the target sleeps
                else:
                    self._apply(progress, part, turn, snapshot)

    def _restore(self, progress: Progress, part: Part, turn: Turn) -> None:
        """Make huge again what went as huge pages and came back as small ones; whatever the scheme waits for.

        But for memory: the kernel would have to find 2 MiB in one piece for each of them.
        """
        if any(verdict.guard == "psi" and verdict.stance == "stops" for verdict in progress.guards.verdicts):
            return
        monitor, begun_ns = part.monitor, cpu_ns()
        chunks = turn.broken.back(monitor.engine.windows)
        if not len(chunks):
            return
        turn.is_unfinished = len(chunks) > _RESTORED_AT_ONCE
        turn.broken.forget(chunks := chunks[:_RESTORED_AT_ONCE])
        runs = [(start, start + CHUNK) for start in chunks.tolist() if _is_small(monitor.target, start)]
        if runs:
            effect = Actuator(monitor.target, self._announce, part.mappings).act("collapse", np.array(runs, np.uint64))
            progress.result += SchemeResult(progress.scheme.name, progress.scheme.action, calls=effect.calls,
                                            errors=effect.errors, restored_bytes=effect.applied_bytes)
        self._charge(progress, monitor, 0, cpu_ns() - begun_ns)

    def _look_at_conditions(self, progress: Progress, part: Part) -> None:
        """Bring watermarks, goals and guards up to date, where their intervals are over."""
        scheme, target = progress.scheme, part.monitor.target
        now_ns = target.now_ns()
        if watch_due(scheme.watermarks, progress.marks, now_ns):
            progress.marks = watched(scheme.watermarks, progress.marks, system_facts())
        if tuning_due(scheme, progress.tuning, now_ns):
            readings = Readings(system_facts(), self.evictions, read_values(scheme.quotas.goals))
            progress.tuning = tuned(scheme, progress.tuning, readings)
        if scheme.acts and guard_due(progress.guards, now_ns):
            part.monitor.look_for_returned()
            part.rss_bytes = target.rss_bytes()
            most = max((one.monitor.waits.newest for one in self._parts.values()), key=slowdown)
            moment = Moment(system_facts(), sum(one.rss_bytes for one in self._parts.values()), self.evictions, most)
            progress.guards = guarded(scheme.guards, scheme.action, scheme.limit_bytes, progress.guards, moment)
            progress.guarded_bytes = 0
            progress.looks += 1

    def _renew(self, progress: Progress, part: Part, turn: Turn) -> None:
        """Once for each look of the guards: what may go of this process by itself."""
        if progress.scheme.acts and turn.looks != progress.looks:
            part.rss_bytes = part.monitor.target.rss_bytes()
            turn.looks = progress.looks
            turn.left_bytes = own_limit_bytes(progress.scheme.guards, progress.scheme.action, part.rss_bytes)

    def _apply(self, progress: Progress, part: Part, turn: Turn, snapshot: Snapshot) -> None:
        scheme, now_ns = progress.scheme, part.monitor.target.now_ns()
        self._renew(progress, part, turn)
        progress.usage = renewed(scheme, progress.usage, now_ns)
        if _is_used_up(progress.left_bytes(now_ns)):
            turn.is_unfinished = True
            return
        progress.is_without_swap &= swap_free_bytes() < PAGE
        begun_ns = cpu_ns()
        found = candidates(scheme, snapshot, progress.usage, cgroups=_cgroups(scheme, part.monitor),
                           goal_bytes=progress.tuning.limit_bytes)
        chosen = _worth_reading(scheme, found, part.monitor, turn.rests, now_ns)
        self._charge(progress, part.monitor, 0, cpu_ns() - begun_ns)
        for candidate, pieces in chosen:
            if progress.is_without_swap and part.monitor.target.is_anonymous(candidate.start):
                continue
            if not scheme.acts:
                self._count(progress, part, candidate, pieces)
                continue
            for start, end in pieces:
                left = _left_bytes(progress, part, turn)
                if _is_used_up(left):
                    turn.is_unfinished = True
                    return
                self._treat(progress, part, turn, candidate, (start, end, left))
        turn.is_unfinished |= scheme.acts and _is_used_up(_left_bytes(progress, part, turn))

    def _charge(self, progress: Progress, monitor: Monitor, size_bytes: int, spent_ns: int) -> None:
        """CPU time of the scheme's, for looking or for doing: it counts against its quota, not as watching."""
        monitor.leave_out(spent_ns)
        self.acted_ns += spent_ns
        progress.usage = charged(progress.scheme, progress.usage, monitor.target.now_ns(), size_bytes=size_bytes,
                                 time_ns=spent_ns)

    def _count(self, progress: Progress, part: Part, candidate: Candidate, pieces: Ranges) -> None:
        """For stat: what is resident of the candidate, and passes the filters."""
        size_bytes = candidate.present_bytes
        if by_page(candidate.filters):
            size_bytes = 0
            for start, end in pieces:
                pages = _pages(part, start, end)
                size_bytes += int(np.count_nonzero(allowed(candidate, pages) & pages.present)) * PAGE
        progress.result += SchemeResult(progress.scheme.name, progress.scheme.action, tried_bytes=size_bytes,
                                        applied_bytes=size_bytes)

    def _treat(self, progress: Progress, part: Part, turn: Turn, candidate: Candidate,
               piece: tuple[int, int, int | None]) -> None:
        """Act on the cold pages of one piece of a candidate: from, to, and how much of it at most."""
        begun_ns = cpu_ns()
        start, end, left = piece
        monitor, now_ns = part.monitor, part.monitor.target.now_ns()
        pages = _pages(part, start, end, turn.rests.pages(start, end, now_ns))
        if progress.scheme.action not in ACT_ON_BUSY:
            used = in_use(candidate, pages, monitor.engine.windows.known_pages(start, end), now_ns)
            progress.result += SchemeResult(progress.scheme.name, progress.scheme.action,
                                            saved_bytes=turn.saved.add(start, used) * PAGE)
            turn.rests.book(start, withheld(candidate, pages, now_ns), now_ns, SHORT_NS)
        effects = self._act(progress.scheme, part, candidate, pages, (now_ns, left))
        for gone in (np.concatenate(effect.applied) for effect in effects if effect.applied):
            monitor.engine.evicted(gone, now_ns - candidate.min_idle_ns)
            if progress.scheme.restores:
                turn.broken.note(start, pages.huge, gone)
        for runs in (runs for effect in effects for runs in effect.fruitless):
            turn.rests.book_runs(runs, now_ns)
        self._charge(progress, monitor, sum(effect.tried_bytes for effect in effects), cpu_ns() - begun_ns)
        for effect in effects:
            progress.guarded_bytes += effect.tried_bytes
            if turn.left_bytes is not None:
                turn.left_bytes = max(turn.left_bytes - effect.tried_bytes, 0)
            progress.result += _as_result(progress.scheme, effect)
            progress.is_without_swap |= NO_SWAP in effect.reasons
            if progress.scheme.action in TAKES_MEMORY:
                part.evicted_bytes += effect.applied_bytes

    def _act(self, scheme: Scheme, part: Part, candidate: Candidate, pages: PageState,
             limits: tuple[int, int | None]) -> list[Effect]:
        """Do what the scheme says to those pages that it is for; no effect where there are none."""
        (now_ns, left), target = limits, part.monitor.target
        if scheme.target_node is not None:
            is_hot = scheme.action == "migrate_hot"
            # The limit is for those that are not there yet.
            runs = present_runs(candidate, pages) if is_hot else cold_runs(candidate, pages, now_ns)
            return [migrate(target, runs, scheme.target_node, self._announce, chosen_in=part.mappings,
                            limit_bytes=left)] if len(runs) else []
        actuator = Actuator(target, self._announce, part.mappings)
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


def not_applied(scheme: Scheme) -> list[str]:
    """What a scheme asks for that `Applier` does not do: to be refused, or it would silently do something else."""
    asked = {
        f"the action {scheme.action}": scheme.action not in _APPLIED,
        f"memory of node {scheme.target_node}, which this machine has not":
            scheme.target_node is not None and scheme.target_node not in nodes_with_memory(),
    }
    return [what for what, is_asked in asked.items() if is_asked]


def _is_small(target: Target, start: int) -> bool:
    """Whether all of a chunk is resident, none of it as a huge page."""
    bits = target.read_pages(start, start + CHUNK)
    return bool((bits.present & ~bits.huge & ~bits.lost).all())


def _cgroups(scheme: Scheme, monitor: Monitor) -> tuple[str, ...]:
    """Of the process as it is now, where some filter asks for it: it may be moved at any time."""
    return monitor.process.cgroups() if any(entry.type == "cgroup" for entry in scheme.filters) else ()


def _left_bytes(progress: Progress, part: Part, turn: Turn) -> int | None:
    """What the scheme may still treat of this process now; None: no limit."""
    limits = (progress.left_bytes(part.monitor.target.now_ns()), turn.left_bytes)
    return min((limit for limit in limits if limit is not None), default=None)


def _is_used_up(left_bytes: int | None) -> bool:
    return left_bytes is not None and left_bytes < PAGE


def _worth_reading(scheme: Scheme, found: Sequence[Candidate], monitor: Monitor, rests: BackOff, now_ns: int
                   ) -> list[tuple[Candidate, Ranges]]:
    """Candidates, each with the parts of it that have to be read."""
    if not scheme.acts or scheme.action in ACT_ON_BUSY:
        return whole(found)
    return idle_parts(found, monitor.engine.windows, rests, now_ns, splits=scheme.action == "nohugepage")


def _pages(part: Part, start: int, end: int, rests: Mask | bool = False) -> PageState:
    windows = part.monitor.engine.windows
    bits = part.monitor.target.read_pages(start, end)
    to_read = bits.swapped | ~without_file(part.mappings, start, bits.present.size)
    return PageState(bits.start, bits.present, bits.young, bits.huge, windows.idle_since_ns(start, end),
                     windows.patience_of(start, end), rests, to_read)


def _as_result(scheme: Scheme, effect: Effect) -> SchemeResult:
    return SchemeResult(scheme.name, scheme.action, effect.tried_bytes, effect.applied_bytes, effect.calls,
                        effect.errors, effect.reasons)
