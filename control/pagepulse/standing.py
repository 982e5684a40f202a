# SPDX-License-Identifier: GPL-2.0-only
"""Standing: what is known of schemes from one pass to the next. Of a scheme, of a process, and of both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pagepulse.kernel.target import Target
from pagepulse.model.broken import Broken
from pagepulse.model.memory import Mapping
from pagepulse.model.page_set import PageSet
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.system import Evictions
from pagepulse.monitor import Monitor
from pagepulse.policy.backoff import BackOff
from pagepulse.policy.goals import Tuning
from pagepulse.policy.guards import GuardState
from pagepulse.policy.quota import Usage, remaining_bytes
from pagepulse.policy.result import SchemeResult
from pagepulse.policy.scheme import Scheme
from pagepulse.policy.watermarks import WatermarkState


@dataclass(slots=True)
class Progress:
    """Where a scheme stands: one account, however many processes it is for."""

    scheme: Scheme
    usage: Usage
    result: SchemeResult
    marks: WatermarkState = field(default_factory=WatermarkState)
    tuning: Tuning = field(default_factory=Tuning)
    guards: GuardState = field(default_factory=GuardState)
    guarded_bytes: int = 0
    """Tried since the guards last looked."""
    looks: int = 0
    """How often the guards looked."""
    is_without_swap: bool = False
    """Was seen to have no effect for want of swap space: memory without a file is left alone until there is some."""

    @property
    def waits_for(self) -> str:
        """Why the scheme does nothing now; empty if it may act."""
        return self.marks.why or self.tuning.why or self.guards.stops

    @property
    def leaves_alone(self) -> str:
        """What it does nothing to at the moment, and why; empty if there is no such thing."""
        return "memory without a file: there is no swap space" if self.is_without_swap else ""

    def left_bytes(self, now_ns: int) -> int | None:
        """What quotas, goals and guards leave; None: no limit."""
        limits = [remaining_bytes(self.scheme, self.usage, now_ns, goal_bytes=self.tuning.limit_bytes)]
        if self.guards.limit_bytes is not None:
            limits.append(max(self.guards.limit_bytes - self.guarded_bytes, 0))
        return min((limit for limit in limits if limit is not None), default=None)


@dataclass(slots=True)
class Turn:
    """Where a scheme stands with one process."""

    applied_ns: int | None = None
    looks: int = 0
    """Which look of the guards `left_bytes` belongs to."""
    left_bytes: int | None = None
    """What may go of this process until their next look; None: no limit of its own."""
    is_unfinished: bool = False
    """There was more to do than quotas and guards left, or may be."""
    saved: PageSet = field(default_factory=PageSet)
    """Pages of idle regions that were seen to be in use."""
    rests: BackOff = field(default_factory=BackOff)
    """Pages that it is no use to try again soon."""
    broken: Broken = field(default_factory=Broken)
    """Huge pages that it paged out."""


@dataclass(slots=True)
class Part:
    """One process that schemes are applied to."""

    monitor: Monitor
    rss_bytes: int = 0
    evicted_bytes: int = 0
    before: tuple[int, int] = (0, 0)
    """What had come back already, and soon, when these schemes began: by the hand of others."""
    turns: dict[str, Turn] = field(default_factory=dict)
    regions: object = None
    """Of the snapshot that is applied."""
    mappings: Sequence[Mapping] = ()
    """As they were at that snapshot: what is mapped there later is nothing that was seen to be idle."""
    target: Target | None = None
    """Another one after an exec."""

    def follow(self, snapshot: Snapshot) -> None:
        """Keep what the snapshot, if it is a new one, was about."""
        if self.target is not self.monitor.target:
            self.target = self.monitor.target
            for turn in self.turns.values():
                turn.rests, turn.saved, turn.broken = BackOff(), PageSet(), Broken()
        if self.regions is not snapshot.regions:  # an old one, judged later once more, has still the same
            self.regions, self.mappings = snapshot.regions, self.monitor.engine.windows.mappings

    @property
    def evictions(self) -> Evictions:
        """What went of it, and came back."""
        returned, soon = self.monitor.returned_bytes, self.monitor.returned_soon_bytes
        return Evictions(self.evicted_bytes, returned - self.before[0], soon - self.before[1])
