# SPDX-License-Identifier: GPL-2.0-only
"""How much, and when: quotas with their goals, and watermarks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pagepulse.policy.fields import (
    DailyInterval,
    GoalTarget,
    Interval,
    Misplaced,
    PathOrUnset,
    Share,
    SizeLimit,
    TimeLimit,
    Weight,
    exact_share,
)
from pagepulse.policy.objects import SchemeObject, unset

_LONGEST_SOCKET = 107  # bytes of sun_path, without the zero that ends it

SystemMetric = Literal["free_memory", "available_memory", "psi_some", "psi_full"]
GoalMetric = Literal["free_memory", "available_memory", "psi_some", "psi_full", "refault_rate", "file", "socket"]


class Weights(SchemeObject):
    """What comes first under a quota: relative weights. All 0: the oldest."""

    size: Weight = Field(default=0.0, description="Of the region's size: the larger first. Default: 0.")
    rate: Weight = Field(default=1.0, description="Of how often it is touched. Default: 1.")
    age: Weight = Field(default=1.0, description="Of how long it has kept its pattern. Default: 1.")


class Goal(SchemeObject):
    """What the quota is tuned for: the scheme does more while the metric is below the target, less above it."""

    metric: GoalMetric
    target: GoalTarget = Field(description="A share such as '5%'; a number for file and socket.")
    path: PathOrUnset = Field(default_factory=unset, description=(
        "For file and socket: where a program of yours says the number. Nothing is run."))

    @property
    def reads(self) -> bool:
        """Whether the value comes from a file or a socket."""
        return self.metric in {"file", "socket"}

    @property
    def target_value(self) -> float:
        """A share of 1, or the number."""
        return (self.target.number if self.target.share is None else self.target.share) or 0.0

    @model_validator(mode="after")
    def _fits_the_metric(self) -> Self:
        if self.reads and self.path is None:
            raise Misplaced("path", f"expected the path of the {self.metric} to read; the key is missing")
        if not self.reads and self.path is not None:
            raise Misplaced("path", f"expected no path for {self.metric}, which is measured here")
        if self.reads and self.target.number is None:
            raise Misplaced("target", f"expected a number above 0 for the value of a {self.metric}, got a share")
        if not self.reads and not self.target.share:
            raise Misplaced("target", f"expected a share such as '5%', above 0%, for {self.metric}")
        return self

    @model_validator(mode="after")
    def _can_be_connected_to(self) -> Self:
        size = len((self.path or "").encode(errors="surrogateescape"))
        if self.metric == "socket" and size > _LONGEST_SOCKET:
            raise Misplaced("path", f"expected at most {_LONGEST_SOCKET} bytes, as a socket's path has in Linux, "
                                    f"got {size}")
        return self


class Quotas(SchemeObject):
    """At most this much in each reset interval; what has the highest priority first."""

    size_bytes: SizeLimit = Field(default_factory=unset, alias="size", description=(
        "Bytes acted on. Default: 32 MiB for hugepage and collapse, no limit for stat, 128 MiB for all others."))
    time_ns: TimeLimit = Field(default_factory=unset, alias="time", description=(
        "Time spent in acting. Default: no limit."))
    reset_interval_ns: Interval = Field(default=1_000_000_000, alias="reset_interval", description="Default: 1 s.")
    weights: Weights = Weights()
    goals: Annotated[tuple[Goal, ...], Field(strict=False)] = Field(default=(), description=(
        "Tune the quota, once each reset interval. Of several, the one that is nearest to its target counts."))
    goal_tuner: Literal["consist", "temporal"] = Field(default="consist", description=(
        "consist: grow and shrink step by step; temporal: all of the quota until the goal is met, then nothing."))

    @model_validator(mode="after")
    def _has_what_is_tuned_for(self) -> Self:
        if "goal_tuner" in self.model_fields_set and not self.goals:
            raise Misplaced("goal_tuner", "expected no tuner where there are no goals; write goals, or leave it out")
        return self


class Watermarks(SchemeObject):
    """When a scheme is on: from below mid down to low; off above high and below low. As in DAMON."""

    metric: SystemMetric | Literal["none"] = Field(default="none", description="none: always on. Default: none.")
    interval_ns: DailyInterval = Field(default=5_000_000_000, alias="interval", description=(
        "How often the metric is looked at, at least once a day. Default: 5 s."))
    high: Share = Field(default=1.0, description="Above it the scheme is off.")
    mid: Share = Field(default=1.0, description="Below it a scheme that is off is turned on.")
    low: Share = Field(default=0.0, description="Below it the scheme is off: too late for gentle means.")

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.model_fields_set and "metric" not in self.model_fields_set:
            raise Misplaced("metric", "expected what is to be within the marks, such as free_memory; the key is "
                                      "missing, so they would mean nothing")
        return self

    @model_validator(mode="after")
    def _given(self) -> Self:
        for key in ("high", "mid", "low"):
            if self.metric != "none" and key not in self.model_fields_set:
                raise Misplaced(key, f"expected a share of {self.metric} such as '20%'; the key is missing")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.high >= self.mid >= self.low:
            raise ValueError("expected high not below mid, and mid not below low, got "
                             f"{', '.join(exact_share(value) for value in (self.high, self.mid, self.low))}")
        return self

    @model_validator(mode="after")
    def _some_time_on(self) -> Self:
        if self.metric != "none" and self.mid == self.low:
            raise Misplaced("mid", f"expected more than low, {exact_share(self.low)}, got the same: what comes on "
                                   "below mid and goes off below low would never be on")
        return self
