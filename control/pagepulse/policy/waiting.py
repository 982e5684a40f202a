# SPDX-License-Identifier: GPL-2.0-only
"""Waiting: a target that waits for memory is watched more seldom, and no more is taken from it."""

from __future__ import annotations

from pagepulse.model.system import Waits
from pagepulse.policy.fields import exact_share
from pagepulse.policy.guard_settings import WaitsGuard
from pagepulse.units import format_share

_BEGINS, _MOST = 0.05, 4.0  # a 20th of the time spent waiting is nobody's fault; above, up to 4 times as seldom


def slowdown(waits: Waits) -> float:
    """How many times more seldom to look at a target that waits for memory: 1 to 4.

    Args:
        waits: What it waits for. Where delays are not counted, what all of its control group waits for counts.
    """
    waiting = max(waits.share, waits.pressure.full_avg10 if waits.pressure else 0.0)
    return min(max(waiting / _BEGINS, 1.0), _MOST)


def harm(settings: WaitsGuard, waits: Waits) -> str:
    """Why nothing more may be taken from these targets; empty if something may.

    Args:
        settings: The guard's.
        waits: What the target waits for that waits most.
    """
    if waits.share > settings.max_delay:
        return (f"the target waits {format_share(waits.share)} of the time for swap-in, reclaim and thrashing, above "
                f"{exact_share(settings.max_delay)}")
    pressure = waits.pressure
    if pressure is not None and pressure.full_avg10 > settings.max_full:
        return (f"all of its control group waits for memory {format_share(pressure.full_avg10)} of the time, above "
                f"{exact_share(settings.max_full)}")
    return ""
