# SPDX-License-Identifier: GPL-2.0-only
"""Glances: a quick look in turn at all those whose next visit is far away: who ran, and is much of it awake?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pagepulse.errors import TargetGone
from pagepulse.fleet.member import Member

_SHARE = 0.25  # of the budget
_AT_LEAST_NS, _USUAL_NS = 2_000_000_000, 130_000.0
_PARTS = 8  # of a round: each waking of ours costs more than a look at a few that sleep


class Glances:
    """Goes round all members, as often as a part of the budget allows.

    Args:
        share: The budget, of one CPU.
        clock: CPU time in nanoseconds.
    """

    def __init__(self, share: float, clock: Callable[[], int]) -> None:
        self.set_budget(share)
        self._cpu_ns = clock
        self._round: deque[Member] = deque()
        self._cost_ns = _USUAL_NS
        self.due_ns = 0
        """When to look again."""

    def set_budget(self, share: float) -> None:
        """Of one CPU."""
        self._share = share * _SHARE

    def add(self, member: Member) -> None:
        """Look at this one, too, as long as it is open."""
        self._round.append(member)

    def look(self, now_ns: int, *, may_hurry: bool) -> list[tuple[Member, int]]:
        """Look at the next few.

        Args:
            now_ns: Now.
            may_hurry: Who has much to show may be visited out of turn.

        Returns:
            Who should be visited earlier than is planned, and when.
        """
        if not self._round:
            return []
        period_ns = max(len(self._round) * self._cost_ns / self._share, _AT_LEAST_NS)
        count = max(len(self._round) // _PARTS, 1)
        self.due_ns = now_ns + int(period_ns * count / len(self._round))
        before_ns, looked, earlier = self._cpu_ns(), 0, []
        for _ in range(count):
            member = self._round.popleft()
            if not member.is_open:
                continue
            self._round.append(member)
            if member.due_ns - now_ns > period_ns:
                looked += 1
                due_ns = _due_ns(member, now_ns, may_hurry=may_hurry)
                if due_ns < member.due_ns:
                    earlier.append((member, due_ns))
        if looked:
            self._cost_ns = (self._cpu_ns() - before_ns) / looked
        return earlier


def _due_ns(member: Member, now_ns: int, *, may_hurry: bool) -> int:
    try:
        if not member.has_run():  # others may have taken memory from it all the same
            return now_ns if may_hurry and member.has_changed() else member.due_ns
        has_woken = member.has_woken()
    except TargetGone:
        return now_ns  # its next step finds out what became of it
    return now_ns if has_woken and may_hurry else max(now_ns, member.begun_ns + member.interval_ns)
