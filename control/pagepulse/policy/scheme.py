# SPDX-License-Identifier: GPL-2.0-only
"""The scheme language: which memory, what to do with it, and how much of that at most.

The names in a file are DAMON's; the attributes here carry their units. A model exists only if all of it is sound:
unknown keys, impossible ranges and values without a sensible unit are refused (see `parse` for the words).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pagepulse.policy.fields import (
    ActionName,
    Interval,
    IntervalOrUnset,
    Misplaced,
    Rate,
    RateBound,
    RateBoundOrMax,
    SchemeName,
    Size,
    SizeLimit,
    SizeOrMax,
    Time,
    TimeLimit,
    TimeOrMax,
    exact_rate,
    exact_size,
    exact_time,
)

DEFAULT_QUOTA_BYTES = 128 * 1024 * 1024
"""What an action may treat in each reset interval unless its quotas say otherwise; DAMON_RECLAIM's default."""


def _unlimited() -> None:
    """Default of an upper bound. A factory, so that the JSON schema does not offer null, which is refused."""


class _Object(BaseModel):
    """A JSON object: every key known, every value of its own type."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def _refuse_empty(lower: int, upper: int | None, words: Callable[[int], str]) -> None:
    if upper is not None and lower > upper:
        raise ValueError(f"expected min not above max, got min {words(lower)} and max {words(upper)}")


class SizeRange(_Object):
    """Size of a region. Default: any."""

    min_bytes: Size = Field(default=0, alias="min", description="At least this large. Default: 0.")
    max_bytes: SizeOrMax = Field(default_factory=_unlimited, alias="max", description=(
        "At most this large. Default: max."))

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        _refuse_empty(self.min_bytes, self.max_bytes, exact_size)
        return self


class AgeRange(_Object):
    """Time for which a region has kept its access pattern. Default: any, but cold and pageout want a min."""

    min_ns: Time = Field(default=0, alias="min", description=(
        "At least this long. cold and pageout leave alone every page that was touched within this time."))
    max_ns: TimeOrMax = Field(default_factory=_unlimited, alias="max", description=(
        "At most this long. Default: max."))

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        _refuse_empty(self.min_ns, self.max_ns, exact_time)
        return self


class RateRange(_Object):
    """How often a page of the region is touched: share of the sampling intervals, or Hz. Default: any."""

    min: RateBound = Field(default=Rate(share=0.0), description="At least this often. Default: 0%.")
    max: RateBoundOrMax = Field(default_factory=_unlimited, description="At most this often. Default: max.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.max is None:
            return self
        for lower, upper in ((self.min.share, self.max.share), (self.min.hz, self.max.hz)):
            if lower is not None and upper is not None and lower > upper:
                raise ValueError("expected min not above max, got "
                                 f"min {exact_rate(self.min)} and max {exact_rate(self.max)}")
        return self


class AccessPattern(_Object):
    """Which regions: all three must hold; bounds are included."""

    size: SizeRange = SizeRange()
    rate: RateRange = RateRange()
    age: AgeRange = AgeRange()


class Quotas(_Object):
    """At most this much in each reset interval; coldest memory first."""

    size_bytes: SizeLimit = Field(default_factory=_unlimited, alias="size", description=(
        "Bytes acted on. Default: 128 MiB for cold and pageout, no limit for stat."))
    time_ns: TimeLimit = Field(default_factory=_unlimited, alias="time", description=(
        "Time spent in acting. Default: no limit."))
    reset_interval_ns: Interval = Field(default=1_000_000_000, alias="reset_interval", description="Default: 1 s.")


class Scheme(_Object):
    """One scheme: an action for the memory that shows a pattern."""

    name: SchemeName
    comment: str = ""
    action: ActionName
    access_pattern: AccessPattern
    apply_interval_ns: IntervalOrUnset = Field(default_factory=_unlimited, alias="apply_interval", description=(
        "How often to act. Default: at each aggregation interval."))
    quotas: Quotas = Quotas()

    @property
    def acts(self) -> bool:
        """False for stat, which only counts."""
        return self.action != "stat"

    @property
    def limit_bytes(self) -> int | None:
        """Bytes that may be treated in each reset interval; None: no limit."""
        if self.acts and "size_bytes" not in self.quotas.model_fields_set:
            return DEFAULT_QUOTA_BYTES
        return self.quotas.size_bytes

    @model_validator(mode="after")
    def _idle_time_is_given(self) -> Self:
        # An action at age 0 hits everything. Who wants that has to write it.
        if self.acts and "min_ns" not in self.access_pattern.age.model_fields_set:
            raise Misplaced("access_pattern.age.min",
                            f"expected a time, as {self.action} acts on what was idle that long; the key is missing")
        return self


class SchemeFile(_Object):
    """A scheme file of pagepulse."""

    schema_uri: str = Field(default="", alias="$schema", description="For editors; pagepulse does not read it.")
    comment: str = ""
    schemes: Annotated[tuple[Scheme, ...], Field(strict=False)]  # JSON has lists, not tuples

    @model_validator(mode="after")
    def _some_and_all_differ(self) -> Self:
        if not self.schemes:
            raise Misplaced("schemes", "expected at least one scheme, got an empty list")
        first: dict[str, int] = {}
        for number, scheme in enumerate(self.schemes):
            if first.setdefault(scheme.name, number) != number:
                raise Misplaced(f"schemes[{number}].name", f"expected a name of its own, got {scheme.name!r}, "
                                                           f"the name of schemes[{first[scheme.name]}]")
        return self
