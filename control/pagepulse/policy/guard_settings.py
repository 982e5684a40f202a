# SPDX-License-Identifier: GPL-2.0-only
"""Guards: what keeps a scheme from doing harm. All are on unless the file says otherwise."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pagepulse.model.memory import PAGE
from pagepulse.policy.fields import Interval, Misplaced, Share, Size, SizeLimit, exact_share, exact_size
from pagepulse.policy.objects import SchemeObject

_SECOND_NS = 1_000_000_000
_MIB = 1 << 20


class Guard(SchemeObject):
    """A guard: it has a switch."""

    enabled: bool = Field(default=True, description="Default: true.")


class RefaultGuard(Guard):
    """Watches what comes back of the memory that was paged out: then it was not idle."""

    min_accuracy: Share = Field(default=0.99, description=(
        "Share of the evicted bytes that has to stay away; below it the quota shrinks. Default: 99%."))
    stop_accuracy: Share = Field(default=0.9, description="Below it the scheme stops for a while. Default: 90%.")
    window_ns: Interval = Field(default=60 * _SECOND_NS, alias="window", description=(
        "Evictions and returns of this long count. Default: 60 s."))

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop_accuracy > self.min_accuracy:
            raise Misplaced("stop_accuracy", f"expected at most min_accuracy, {exact_share(self.min_accuracy)}, "
                                             f"got {exact_share(self.stop_accuracy)}")
        return self


class TrialGuard(Guard):
    """Lets a scheme begin small: at most as much is on trial as stayed away before, so the harm is seen while small."""

    interval_ns: Interval = Field(default=5 * _SECOND_NS, alias="interval", description=(
        "What was evicted is on trial for this long. Default: 5 s."))
    first: Share = Field(default=0.125, description="Of the resident memory, to begin with. Default: 12.5%.")
    least_bytes: Size = Field(default=32 * _MIB, alias="least", description=(
        "So much may be on trial in any case. Default: 32 MiB."))

    @model_validator(mode="after")
    def _lets_something_go(self) -> Self:
        if self.enabled and not self.first and self.least_bytes < PAGE:
            raise Misplaced("first", f"expected above 0% where least is {exact_size(self.least_bytes)}: not a page "
                                     "would ever go")
        return self


class PsiGuard(Guard):
    """Watches the time for which programs wait for memory."""

    max_some: Share = Field(default=0.1, description="Some task waits at most this share of the time. Default: 10%.")
    max_full: Share = Field(default=0.05, description="All tasks wait at most this share of the time. Default: 5%.")


class SwapGuard(Guard):
    """Watches the swap space."""

    min_free: Share = Field(default=0.05, description="This share of the swap space stays free. Default: 5%.")
    max_out_bytes: SizeLimit = Field(default=512 * _MIB, alias="max_out", description=(
        "Written to swap in each second, by anybody, at most. Default: 512 MiB."))


class RssFloorGuard(Guard):
    """Leaves a target the least that it needs to answer at all."""

    size_bytes: Size = Field(default=_MIB, alias="size", description="Stays resident. Default: 1 MiB.")


class StepShareGuard(Guard):
    """Takes no more than a part at once, so that harm is seen before it is done."""

    max: Share = Field(default=0.25, description="Of the resident memory, in each second. Default: 25%.")
    least_bytes: Size = Field(default=64 * _MIB, alias="least", description=(
        "So much may go in any case; small targets would take for ever. Default: 64 MiB."))

    @model_validator(mode="after")
    def _lets_something_go(self) -> Self:
        if self.enabled and not self.max and self.least_bytes < PAGE:
            raise Misplaced("max", f"expected above 0% where least is {exact_size(self.least_bytes)}: not a page "
                                   "would ever go")
        return self


class WaitsGuard(Guard):
    """Watches what the target itself waits for. Delays are counted where `sysctl kernel.task_delayacct` is 1."""

    max_delay: Share = Field(default=0.1, description=(
        "Its threads wait at most this share of the time for swap-in, reclaim and thrashing. Default: 10%."))
    max_full: Share = Field(default=0.05, description=(
        "All of its control group waits for memory at most this share of the time. Default: 5%."))


class Guards(SchemeObject):
    """What keeps a scheme from doing harm; each has a switch, `enabled`."""

    refault: RefaultGuard = RefaultGuard()
    trial: TrialGuard = TrialGuard()
    psi: PsiGuard = PsiGuard()
    waits: WaitsGuard = WaitsGuard()
    swap: SwapGuard = SwapGuard()
    rss_floor: RssFloorGuard = RssFloorGuard()
    step_share: StepShareGuard = StepShareGuard()
