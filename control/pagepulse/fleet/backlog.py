# SPDX-License-Identifier: GPL-2.0-only
"""Backlog: processes that are to be watched and are not known yet. The budget says how soon: the largest come first."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pagepulse.policy.shares import SharedBudget


@dataclass(frozen=True, slots=True)
class Unknown:
    """What belongs to a fleet and is not known yet."""

    processes: int = 0
    rss_bytes: int = 0
    """As it was when each of them was found."""


class Backlog:
    """A queue with two lanes: who has just been born is watched at once, who was there already in the order of memory.

    Args:
        rss_bytes: Says how much memory a process has; None: it has exited.
    """

    def __init__(self, rss_bytes: Callable[[int], int | None]) -> None:
        self._rss_bytes = rss_bytes
        self._newborn: deque[int] = deque()
        self._largest: list[tuple[int, int]] = []
        self._waiting: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, pid: int) -> bool:
        return pid in self._waiting

    @property
    def pids(self) -> list[int]:
        """Who waits here."""
        return list(self._waiting)

    @property
    def unknown(self) -> Unknown:
        """What waits here."""
        return Unknown(len(self._waiting), sum(self._waiting.values()))

    def add(self, pids: Iterable[int], newborn: AbstractSet[int]) -> None:
        """Queue these processes.

        Args:
            pids: Who.
            newborn: Of them, whose birth was just heard of.
        """
        for pid in pids:
            if pid in self._waiting:
                continue
            size_bytes = self._waiting[pid] = self._rss_bytes(pid) or 0
            if pid in newborn:
                self._newborn.append(pid)
            else:
                heapq.heappush(self._largest, (-size_bytes, pid))

    def forget(self, pid: int) -> None:
        """It has ended."""
        self._waiting.pop(pid, None)

    def take(self, budget: SharedBudget) -> int | None:
        """Who is to be watched next; None: nobody, as far as the budget allows."""
        if budget.may_open_newborn:
            while self._newborn:
                if self._waiting.pop(pid := self._newborn.popleft(), None) is not None:
                    return pid
        if budget.may_open:
            while self._largest:
                if self._waiting.pop(pid := heapq.heappop(self._largest)[1], None) is not None:
                    return pid
        return None
