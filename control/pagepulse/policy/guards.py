# SPDX-License-Identifier: GPL-2.0-only
"""Guards: what a scheme may do without harm, from what was seen of the harm so far. A state and a step, once a second.

Each guard says how many bytes may go until the next step; the least of them counts. The refault guard works like a
congestion window: it halves what the quota allows while too much comes back, and lets it grow slowly again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pagepulse.model.system import Evictions, SystemFacts, Waits
from pagepulse.policy.fields import Action, exact_share, exact_size
from pagepulse.policy.guard_settings import Guards, RefaultGuard
from pagepulse.policy.trial import Seen, allowed_bytes, remembered
from pagepulse.policy.waiting import harm
from pagepulse.units import format_share, format_size, format_time_ns

STEP_NS = 1_000_000_000
"""How often guards look."""
TAKES_MEMORY: frozenset[Action] = frozenset({"pageout", "nohugepage"})
"""Actions that all guards are for. What only hints or moves is held back by memory pressure alone."""

CAUTIOUS_SHARE = 1 / 32
"""Of the quota, to begin with after a restart: it grows to all of it in 36 steps while nothing comes back."""

_ENOUGH_BYTES = 1 << 20  # so much has to be evicted before what comes back of it says anything
_MOMENTS = 32  # kept of the refault guard's window
_GROWTH, _LEAST_SHARE = 1.1, 1 / 1024

Stance = Literal["off", "open", "limits", "stops"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What guards look at."""

    facts: SystemFacts
    rss_bytes: int
    """Of the target."""
    evictions: Evictions = field(default_factory=Evictions)
    """Of all its schemes."""
    waits: Waits = field(default_factory=Waits)
    """Of the target that waits most."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one guard says."""

    guard: str
    stance: Stance
    limit_bytes: int | None = None
    """What may go until the next step; None: no limit."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GuardState:
    """Where the guards of a scheme stand."""

    verdicts: tuple[Verdict, ...] = ()
    moments: tuple[Moment, ...] = ()
    """The newest last; the first is where the refault guard's window begins."""
    share: float = 1.0
    """What the refault guard leaves of the quota."""
    stopped_ns: int | None = None
    """When the refault guard stopped the scheme."""
    trial: tuple[Seen, ...] = ()
    """What the trial guard remembers."""

    @property
    def limit_bytes(self) -> int | None:
        """What may go until the next step; None: no limit."""
        return min((verdict.limit_bytes for verdict in self.verdicts if verdict.limit_bytes is not None), default=None)

    @property
    def stops(self) -> str:
        """Why nothing may be done; empty if something may."""
        return "; ".join(verdict.reason for verdict in self.verdicts if verdict.stance == "stops")


def own_limit_bytes(guards: Guards, action: Action, rss_bytes: int) -> int | None:
    """What may go, until the next step, of one of several processes that a scheme is for, by itself.

    Args:
        guards: Their settings: of these the floor and the largest step count.
        action: Of the scheme.
        rss_bytes: Of the process.
    """
    if action not in TAKES_MEMORY:
        return None
    limits = (_floor(guards, rss_bytes).limit_bytes, _step(guards, rss_bytes).limit_bytes)
    return min((limit for limit in limits if limit is not None), default=None)


def guard_due(state: GuardState, now_ns: int) -> bool:
    """Whether the guards are to look again."""
    return not state.moments or now_ns - state.moments[-1].facts.now_ns >= STEP_NS


def guarded(guards: Guards, action: Action, quota_bytes: int | None, state: GuardState, moment: Moment) -> GuardState:
    """The state at this moment.

    Args:
        guards: Their settings.
        action: Of the scheme.
        quota_bytes: What the scheme's quota allows in each of its reset intervals; None: no limit.
        state: At the step before.
        moment: What is seen now.
    """
    before = state.moments[-1] if state.moments else moment
    psi = _psi(guards, moment)
    if action not in TAKES_MEMORY:
        return GuardState(verdicts=(psi,), moments=(moment,))
    moments = _window(guards.refault, state, moment)
    refault, share, stopped_ns = _refault(guards.refault, quota_bytes, state, moments)
    seen = remembered(guards.trial, state.trial, (moment.facts.now_ns, moment.evictions))
    verdicts = (refault, _trial(guards, seen, moment), psi, _waits(guards, moment),
                _swap(guards, before, moment), _floor(guards, moment.rss_bytes), _step(guards, moment.rss_bytes))
    return GuardState(verdicts, moments, share, stopped_ns, seen)


def _window(settings: RefaultGuard, state: GuardState, moment: Moment) -> tuple[Moment, ...]:
    """Moments of the refault guard's window, thinned out to some _MOMENTS."""
    begins_ns = moment.facts.now_ns - settings.window_ns
    kept = [one for one in state.moments if one.facts.now_ns >= begins_ns]
    if len(kept) > _MOMENTS:
        del kept[1:-1:2]
    return (*kept, moment)


def _refault(settings: RefaultGuard, quota_bytes: int | None, state: GuardState, moments: tuple[Moment, ...]
             ) -> tuple[Verdict, float, int | None]:
    """The verdict, what is left of the quota, and since when the scheme is stopped."""
    if not settings.enabled:
        return Verdict("refault", "off"), 1.0, None
    now_ns, seen = moments[-1].facts.now_ns, _came_back(moments[0].evictions, moments[-1].evictions)
    if state.stopped_ns is not None and now_ns - state.stopped_ns < settings.window_ns:
        return Verdict("refault", "stops", 0, _reason("refault", state)), state.share, state.stopped_ns
    if seen > 1 - settings.stop_accuracy:
        reason = (f"{format_share(seen)} of what was evicted came back, above "
                  f"{exact_share(1 - settings.stop_accuracy)}")
        return Verdict("refault", "stops", 0, reason), _LEAST_SHARE, now_ns
    harmful = seen > 1 - settings.min_accuracy
    share = max(state.share / 2, _LEAST_SHARE) if harmful else min(state.share * _GROWTH, 1.0)
    if share == 1.0:
        return Verdict("refault", "open"), share, None
    reason = f"{format_share(seen)} of what was evicted came back: {format_share(share)} of the quota is left"
    whole = moments[-1].rss_bytes if quota_bytes is None else quota_bytes
    return Verdict("refault", "limits", int(whole * share), reason), share, None


def _came_back(first: Evictions, last: Evictions) -> float:
    """Share of the bytes evicted in between that came back."""
    evicted = last.evicted_bytes - first.evicted_bytes
    returned = last.returned_bytes - first.returned_bytes
    return min(returned / max(evicted, _ENOUGH_BYTES), 1.0)


def _reason(guard: str, state: GuardState) -> str:
    return next((verdict.reason for verdict in state.verdicts if verdict.guard == guard), "")


def _trial(guards: Guards, seen: tuple[Seen, ...], moment: Moment) -> Verdict:
    settings = guards.trial
    if not settings.enabled:
        return Verdict("trial", "off")
    left = allowed_bytes(settings, seen, moment.rss_bytes)
    if left == 0:
        return Verdict("trial", "stops", 0, "what went is on trial: more may go when it stayed away for "
                                            f"{format_time_ns(settings.interval_ns)}")
    if left < moment.rss_bytes:
        return Verdict("trial", "limits", left, f"{format_size(left)} may go on trial")
    return Verdict("trial", "open", left)


def _psi(guards: Guards, moment: Moment) -> Verdict:
    settings, pressure = guards.psi, moment.facts.pressure
    if not settings.enabled:
        return Verdict("psi", "off")
    if pressure is None:
        return Verdict("psi", "off", reason="this kernel does not measure pressure")
    for name, value, most in (("some", pressure.some_avg10, settings.max_some),
                              ("all", pressure.full_avg10, settings.max_full)):
        if value > most:
            return Verdict("psi", "stops", 0, f"{name} programs wait for memory {format_share(value)} of the time, "
                                              f"above {exact_share(most)}")
    return Verdict("psi", "open")


def _waits(guards: Guards, moment: Moment) -> Verdict:
    if not guards.waits.enabled:
        return Verdict("waits", "off")
    reason = harm(guards.waits, moment.waits)
    return Verdict("waits", "stops", 0, reason) if reason else Verdict("waits", "open")


def _swap(guards: Guards, before: Moment, moment: Moment) -> Verdict:
    settings, facts = guards.swap, moment.facts
    if not settings.enabled or not facts.swap_total_bytes:
        return Verdict("swap", "off", reason="" if not settings.enabled else "there is no swap")
    elapsed_ns = facts.now_ns - before.facts.now_ns
    written = (facts.swapped_out_bytes - before.facts.swapped_out_bytes) * 1_000_000_000 / max(elapsed_ns, 1)
    if settings.max_out_bytes is not None and elapsed_ns and written > settings.max_out_bytes:
        return Verdict("swap", "stops", 0, f"{format_size(written)} a second are written to swap, above "
                                           f"{exact_size(settings.max_out_bytes)}")
    left = facts.swap_free_bytes - round(settings.min_free * facts.swap_total_bytes)
    if left <= 0:
        return Verdict("swap", "stops", 0, f"{format_size(facts.swap_free_bytes)} of swap are free, at least "
                                           f"{exact_share(settings.min_free)} are to stay so")
    return Verdict("swap", "open", left)


def _floor(guards: Guards, rss_bytes: int) -> Verdict:
    settings = guards.rss_floor
    if not settings.enabled:
        return Verdict("rss_floor", "off")
    left = rss_bytes - settings.size_bytes
    if left <= 0:
        return Verdict("rss_floor", "stops", 0, f"{format_size(rss_bytes)} are resident, and "
                                                f"{exact_size(settings.size_bytes)} are to stay")
    return Verdict("rss_floor", "open", left)


def _step(guards: Guards, rss_bytes: int) -> Verdict:
    settings = guards.step_share
    if not settings.enabled:
        return Verdict("step_share", "off")
    return Verdict("step_share", "open", max(round(settings.max * rss_bytes), settings.least_bytes))
