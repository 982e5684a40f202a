# SPDX-License-Identifier: GPL-2.0-only
"""Quotas that follow a goal: DAMON's feedback loop, as a state and a step. Time is an argument.

A scheme does more while the metric of its goal is below the target, and less above it. With memory pressure as the
metric and a small target, for instance, it reclaims until programs just begin to feel it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pagepulse.model.memory import PAGE
from pagepulse.model.system import Evictions, SystemFacts
from pagepulse.policy.limits import Goal
from pagepulse.policy.scheme import Scheme

_HALF_LIFE_NS = 30_000_000_000  # of what went and came back, for the goal `refault_rate`


@dataclass(frozen=True, slots=True)
class Readings:
    """What goals are measured against, at one moment."""

    facts: SystemFacts
    evictions: Evictions = field(default_factory=Evictions)
    values: Mapping[str, float] = field(default_factory=dict)
    """Path -> number, for the goals of files and sockets that could be read (`goal_values.read_values`)."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Where the quota of a scheme stands. A fresh one belongs to a scheme whose goals were never looked at."""

    limit_bytes: int | None = None
    """What the goals allow in each reset interval; None: the scheme has none, or they allow as much as there is."""
    scores: tuple[float | None, ...] = ()
    """Value / target of each goal: 1 is met, above it is too much. None: could not be read."""
    why: str = ""
    """Why the scheme has to wait; empty if it need not."""
    last: Readings | None = None
    """At the last step."""
    learned_bytes: int = PAGE
    """What the feedback loop has come to; kept while a goal cannot be read."""
    evicted_bytes: float = 0.0
    """Gone by our hand; half as much counts of it after each _HALF_LIFE_NS. So `returned_bytes`, which came back."""
    returned_bytes: float = 0.0


def tuning_due(scheme: Scheme, tuning: Tuning, now_ns: int) -> bool:
    """Whether the goals are to be measured again: once in each reset interval."""
    if not scheme.quotas.goals:
        return False
    return tuning.last is None or now_ns - tuning.last.facts.now_ns >= scheme.quotas.reset_interval_ns


def tuned(scheme: Scheme, tuning: Tuning, readings: Readings) -> Tuning:
    """The tuning at the time of the readings; the same one as long as the reset interval is not over.

    Of several goals the one with the highest score counts, so the least aggressive wins. While one of them cannot be
    read, the scheme does nothing: no harm can be seen then.
    """
    if not tuning_due(scheme, tuning, readings.facts.now_ns):
        return tuning
    goals, tuning = scheme.quotas.goals, _with_evictions(tuning, readings)
    scores = tuple(_score(goal, readings, tuning) for goal in goals)
    known = [score for score in scores if score is not None]
    if len(known) < len(goals):
        blind = ", ".join(_name(goal) for goal, score in zip(goals, scores, strict=True) if score is None)
        return replace(tuning, limit_bytes=0, scores=scores, last=readings, why=f"cannot be read: {blind}")
    if scheme.quotas.goal_tuner == "temporal":
        limit = None if max(known) < 1 else 0
        return replace(tuning, limit_bytes=limit, scores=scores, last=readings, why="" if limit is None else "goal met")
    learned = next_quota(tuning.learned_bytes, max(known), scheme.limit_bytes)
    return replace(tuning, limit_bytes=learned, scores=scores, last=readings, why="", learned_bytes=learned)


def next_quota(last_bytes: int, score: float, limit_bytes: int | None = None) -> int:
    """The quota that follows from the last one and how far its goal was reached (1: just so).

    last * (1 + (1 - score)): at most twice as much, and at twice the goal back to the least
    (damon_feed_loop_next_input() in mm/damon/core.c). The least is a page, where DAMON has a byte; there is no growth
    beyond the quota that is given, of which DAMON takes many intervals to come back.
    """
    if score >= 2:
        return PAGE
    wanted = max(round(last_bytes * (2 - score)), PAGE)
    return wanted if limit_bytes is None else min(wanted, limit_bytes)


def _with_evictions(tuning: Tuning, readings: Readings) -> Tuning:
    """Of what goes in one second hardly anything comes back in the same one: what went before counts, too."""
    now, last = readings.evictions, tuning.last
    before = Evictions() if last is None else last.evictions
    kept = 0.0 if last is None else 0.5 ** ((readings.facts.now_ns - last.facts.now_ns) / _HALF_LIFE_NS)
    return replace(tuning, evicted_bytes=kept * tuning.evicted_bytes + now.evicted_bytes - before.evicted_bytes,
                   returned_bytes=kept * tuning.returned_bytes + now.returned_bytes - before.returned_bytes)


def _score(goal: Goal, readings: Readings, tuning: Tuning) -> float | None:
    value = _value(goal, readings, tuning)
    return None if value is None else value / goal.target_value


def _value(goal: Goal, readings: Readings, tuning: Tuning) -> float | None:
    last = tuning.last
    match goal.metric:
        case "file" | "socket":
            return readings.values.get(goal.path or "")
        case "refault_rate":
            return tuning.returned_bytes / max(tuning.evicted_bytes, PAGE)
        case "psi_some" | "psi_full" if last is not None:
            return _stalled(goal.metric, readings.facts, last.facts)
        case metric:
            return readings.facts.share(metric)


def _stalled(metric: str, now: SystemFacts, before: SystemFacts) -> float | None:
    """Share of the time since the last step in which programs waited; quicker than the kernel's own averages."""
    elapsed_us = (now.now_ns - before.now_ns) / 1000
    if now.pressure is None or before.pressure is None or elapsed_us <= 0:
        return now.share(metric)
    if metric == "psi_some":
        return (now.pressure.some_us - before.pressure.some_us) / elapsed_us
    return (now.pressure.full_us - before.pressure.full_us) / elapsed_us


def _name(goal: Goal) -> str:
    return f"{goal.metric} {goal.path}" if goal.reads else goal.metric
