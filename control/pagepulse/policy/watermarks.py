# SPDX-License-Identifier: GPL-2.0-only
"""Whether a scheme is on: DAMON's watermarks, as a state and a step. Time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from pagepulse.model.system import SystemFacts
from pagepulse.policy.fields import exact_share
from pagepulse.policy.limits import Watermarks
from pagepulse.units import format_share


@dataclass(frozen=True, slots=True)
class WatermarkState:
    """Where a scheme stands. A fresh one is off until its metric is looked at."""

    active: bool = False
    checked_ns: int | None = None
    why: str = ""
    """Why it is off; empty if it is on."""


def watch_due(watermarks: Watermarks, state: WatermarkState, now_ns: int) -> bool:
    """Whether the metric is to be looked at again."""
    if watermarks.metric == "none":
        return not state.active
    return state.checked_ns is None or now_ns - state.checked_ns >= watermarks.interval_ns


def watched(watermarks: Watermarks, state: WatermarkState, facts: SystemFacts) -> WatermarkState:
    """The state at the time of the facts; the same one as long as the check interval is not over.

    Above high or below low a scheme is off. In between it stays on if it was on; if it was off it comes on below mid
    (damos_wmark_wait_us() in mm/damon/core.c). A metric that is not known on this machine turns it off: what is to
    happen only under conditions does not happen where they cannot be seen.
    """
    if not watch_due(watermarks, state, facts.now_ns):
        return state
    if watermarks.metric == "none":
        return WatermarkState(active=True)
    why = _why_off(watermarks, facts.share(watermarks.metric), was_active=state.active)
    return WatermarkState(active=not why, checked_ns=facts.now_ns, why=why)


def _why_off(watermarks: Watermarks, share: float | None, *, was_active: bool) -> str:
    metric = watermarks.metric
    if share is None:
        return f"{metric} is not known on this machine"
    if share > watermarks.high:
        return f"{metric} is {format_share(share)}, above high, {exact_share(watermarks.high)}"
    if share < watermarks.low:
        return f"{metric} is {format_share(share)}, below low, {exact_share(watermarks.low)}"
    if share >= watermarks.mid and not was_active:
        return f"{metric} is {format_share(share)}, not yet below mid, {exact_share(watermarks.mid)}"
    return ""
