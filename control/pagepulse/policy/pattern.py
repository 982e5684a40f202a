# SPDX-License-Identifier: GPL-2.0-only
"""The access pattern of the scheme language: which regions a scheme is for."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pagepulse.model.memory import PAGE
from pagepulse.policy.fields import (
    Misplaced,
    Rate,
    RateBound,
    RateBoundOrMax,
    Size,
    SizeOrMax,
    Time,
    TimeOrMax,
    exact_rate,
    exact_size,
    exact_time,
)
from pagepulse.policy.objects import SchemeObject, refuse_empty, unset

NEVER = {Rate(share=0.0), Rate(hz=0.0), Rate(nr_accesses=0.0)}
"""Rates of what is not touched."""


class SizeRange(SchemeObject):
    """A size. Default: any."""

    min_bytes: Size = Field(default=0, alias="min", description="At least this large. Default: 0.")
    max_bytes: SizeOrMax = Field(default_factory=unset, alias="max", description="At most this large. Default: max.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        refuse_empty(self.min_bytes, self.max_bytes, exact_size)
        return self


class AgeRange(SchemeObject):
    """Time for which a region has kept its access pattern. Default: any, but what acts on idle memory wants a min."""

    min_ns: Time = Field(default=0, alias="min", description=(
        "At least this long. What acts on idle memory leaves alone every page that was touched within this time."))
    max_ns: TimeOrMax = Field(default_factory=unset, alias="max", description="At most this long. Default: max.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        refuse_empty(self.min_ns, self.max_ns, exact_time)
        return self


class RateRange(SchemeObject):
    """How often a page of the region is touched: share of the sampling intervals, Hz, or nr_accesses. Default: any."""

    min: RateBound = Field(default=Rate(share=0.0), description="At least this often. Default: 0%.")
    max: RateBoundOrMax = Field(default_factory=unset, description="At most this often. Default: max.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.max is None:
            return self
        for quantity in ("share", "hz", "nr_accesses"):
            lower, upper = getattr(self.min, quantity), getattr(self.max, quantity)
            if lower is not None and upper is not None and lower > upper:
                raise ValueError("expected min not above max, got "
                                 f"min {exact_rate(self.min)} and max {exact_rate(self.max)}")
        if self.max in NEVER and self.min not in NEVER:  # nothing is nothing, in whatever it is counted
            raise ValueError("expected some rate within min and max, got "
                             f"min {exact_rate(self.min)} and max {exact_rate(self.max)}: what is never touched")
        return self


class AccessPattern(SchemeObject):
    """Which regions: all three must hold; bounds are included."""

    size: SizeRange = SizeRange()
    rate: RateRange = RateRange()
    age: AgeRange = AgeRange()

    @model_validator(mode="after")
    def _some_region_is_so_small(self) -> Self:
        if self.size.max_bytes is not None and self.size.max_bytes < PAGE:
            raise Misplaced("size.max", f"expected at least 4 KiB, one page, got {exact_size(self.size.max_bytes)}; no "
                                        "region is smaller")
        return self
