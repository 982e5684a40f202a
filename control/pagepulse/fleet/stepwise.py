# SPDX-License-Identifier: GPL-2.0-only
"""Stepwise: work that is done in short steps, so that one thread can do several such; and the loop that does it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from pagepulse.kernel.usage import Waiter
from pagepulse.model.snapshot import Snapshot

_BEAT_NS = 500_000_000


class Stepwise(Protocol):
    """Work that is done in short steps."""

    @property
    def is_over(self) -> bool:
        """Nothing is left to do, and nothing can come any more."""

    @property
    def wake_fd(self) -> int | None:
        """To wait for, too: it can be read when there is something to do earlier; None: not now."""

    def step(self, now_ns: int) -> Snapshot | None:
        """Do the next thing that is due; a snapshot, if one has been finished."""

    def due_ns(self) -> int:
        """When `step` is to be called again, whatever happens until then."""


def until_the_end(work: Stepwise, waiter: Waiter, end_ns: int,
                  beat: Callable[[int], None] | None = None) -> Iterator[Snapshot]:
    """Snapshots of this work alone, until the end, a signal, or nothing is left to do.

    Args:
        work: What is done.
        waiter: What to sleep on.
        end_ns: CLOCK_MONOTONIC.
        beat: Called with the time, twice a second: of targets that sleep there is a snapshot once in minutes.
    """
    gc.collect()
    gc.freeze()  # what start-up made stays: no collector should walk over it ten times a second
    beat_ns = end_ns if beat is None else time.monotonic_ns()
    while not (waiter.is_over or work.is_over) and (now_ns := time.monotonic_ns()) < end_ns:
        if beat is not None and now_ns >= beat_ns:
            beat(now_ns)
            beat_ns = now_ns + _BEAT_NS
        snapshot = work.step(now_ns)
        if snapshot is not None:
            yield snapshot
        elif (due_ns := work.due_ns()) > now_ns:
            waiter.wait_until(min(due_ns, end_ns, beat_ns), work.wake_fd)
