# SPDX-License-Identifier: GPL-2.0-only
"""Trial: how much may be on trial at once. What was paged out may come back; that is best learnt from little.

What was evicted is on trial for a while. At most as much may be so as has stayed away before: a scheme begins small and
doubles, trial by trial, as long as nothing comes back (the slow start of V. Jacobson, "Congestion avoidance and
control", 1988). Wrong about the whole of a program, it has done the harm of one small step when it learns of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pagepulse.model.system import Evictions
from pagepulse.policy.guard_settings import TrialGuard

Seen = tuple[int, Evictions]
"""When (CLOCK_MONOTONIC, ns), and what had gone and come back by then."""


def remembered(settings: TrialGuard, past: Sequence[Seen], now: Seen) -> tuple[Seen, ...]:
    """What is still needed of the past, and now: the newest that is older than a trial, and all after it."""
    entries = (*past, now)
    begins_ns = now[0] - settings.interval_ns
    return (*(one for one, after in pairwise(entries) if after[0] > begins_ns), now)


def allowed_bytes(settings: TrialGuard, seen: Sequence[Seen], rss_bytes: int) -> int:
    """What may go on trial now.

    Args:
        settings: The guard's.
        seen: What `remembered` returned: the newest last.
        rss_bytes: Of the target.
    """
    now_ns, now = seen[-1]
    passed = seen[0][1] if seen[0][0] <= now_ns - settings.interval_ns else Evictions()
    stayed_bytes = passed.evicted_bytes - now.returned_bytes
    first_bytes = max(round(settings.first * rss_bytes), settings.least_bytes)
    return max(max(stayed_bytes, first_bytes) - (now.evicted_bytes - passed.evicted_bytes), 0)
