# SPDX-License-Identifier: GPL-2.0-only
"""What a scheme may still do in this reset interval. Time is an argument; nothing here keeps state.

Bytes are exact: what remains is never exceeded. Time can be known only afterwards, so, as in DAMON, the time that
remains becomes bytes by the pace of the work so far; what was overdrawn is a debt that later intervals pay first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pagepulse.model.memory import CHUNK
from pagepulse.policy.scheme import Scheme


@dataclass(frozen=True, slots=True)
class Usage:
    """What a scheme has used of its quotas. A fresh one belongs to a scheme that has done nothing yet."""

    interval_start_ns: int
    """CLOCK_MONOTONIC, when the current reset interval began."""
    used_bytes: int = 0
    used_ns: int = 0
    pace_bytes: float = 0.0
    """Bytes treated in `pace_ns`: the pace, in which each interval with work weighs half as much as the next one."""
    pace_ns: float = 0.0


def renewed(scheme: Scheme, usage: Usage, now_ns: int) -> Usage:
    """The usage at this time: what was used in reset intervals that are over is forgotten, a debt of time is not."""
    interval_ns = scheme.quotas.reset_interval_ns
    intervals = (now_ns - usage.interval_start_ns) // interval_ns
    if intervals <= 0:
        return usage
    limit_ns = scheme.quotas.time_ns
    debt_ns = 0 if limit_ns is None else max(0, usage.used_ns - intervals * limit_ns)
    return replace(usage, interval_start_ns=usage.interval_start_ns + intervals * interval_ns, used_bytes=0,
                   used_ns=debt_ns, pace_bytes=usage.pace_bytes / 2, pace_ns=usage.pace_ns / 2)


def remaining_bytes(scheme: Scheme, usage: Usage, now_ns: int, *, goal_bytes: int | None = None) -> int | None:
    """Bytes that the scheme may still treat; None: no limit.

    The least of what its size, its time and its goals allow. Before the pace is known, a quota of time alone allows
    one huge page: enough to measure with.

    Args:
        scheme: The scheme.
        usage: Of its quotas.
        now_ns: CLOCK_MONOTONIC.
        goal_bytes: What the goals allow in each reset interval (`Tuning.limit_bytes`); None: no limit.
    """
    usage = renewed(scheme, usage, now_ns)
    limits = [] if goal_bytes is None else [max(0, goal_bytes - usage.used_bytes)]
    if scheme.limit_bytes is not None:
        limits.append(max(0, scheme.limit_bytes - usage.used_bytes))
    if scheme.quotas.time_ns is not None:
        limits.append(_bytes_in(scheme.quotas.time_ns - usage.used_ns, usage))
    return min(limits, default=None)


def charged(scheme: Scheme, usage: Usage, now_ns: int, *, size_bytes: int, time_ns: int) -> Usage:
    """The usage after this much was treated, and took this long.

    Charge what was tried, not what had an effect: a call that does nothing costs its time all the same, and must not
    be repeated without end. Reads after which there was nothing to do (no bytes) cost their time, and tell no pace.
    """
    usage = renewed(scheme, usage, now_ns)
    return replace(usage, used_bytes=usage.used_bytes + size_bytes, used_ns=usage.used_ns + time_ns,
                   pace_bytes=usage.pace_bytes + size_bytes,
                   pace_ns=usage.pace_ns + (time_ns if size_bytes else 0))


def _bytes_in(left_ns: int, usage: Usage) -> int:
    if left_ns <= 0 and usage.used_ns:
        return 0
    if usage.pace_ns <= 0:
        return CHUNK
    # At least one huge page where nothing was done yet: a pace too slow for one would otherwise mean never.
    least = 0 if usage.used_ns else CHUNK
    return max(least, int(left_ns * usage.pace_bytes / usage.pace_ns))
