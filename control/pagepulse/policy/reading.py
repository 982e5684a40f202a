# SPDX-License-Identifier: GPL-2.0-only
"""What of a scheme's candidates is worth reading again, page by page: to read 16 GiB takes a fifth of a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pagepulse.model.memory import CHUNK, WINDOW, Addresses
from pagepulse.model.windows import Windows
from pagepulse.policy.backoff import BackOff
from pagepulse.policy.decide import Candidate

PIECE = 16 * CHUNK
"""A candidate is read and treated so much at a time, 32 MiB: a small quota of time must not go into reading ahead."""

_GAP = 16 * CHUNK  # to read over it costs less than a piece of its own

Ranges = list[tuple[int, int]]


def whole(found: Sequence[Candidate]) -> list[tuple[Candidate, Ranges]]:
    """All of the candidates, in pieces."""
    return [(one, list(_pieces(one.start, one.end))) for one in found]


def idle_parts(found: Sequence[Candidate], windows: Windows, rests: BackOff, now_ns: int, *, splits: bool = False
               ) -> list[tuple[Candidate, Ranges]]:
    """Pieces of candidates in which some page was idle for long enough when it was last looked at, and may go.

    Windows are no finer than their 64 pages at the edges of a region: one too many is looked at, none is missed.
    Pieces are cut where chunks meet, so that each huge page is whole.

    Args:
        found: Of one scheme.
        windows: Of the target.
        rests: Pages that are left alone for now.
        now_ns: CLOCK_MONOTONIC.
        splits: Huge pages are wanted, too, idle or not.
    """
    if not found or (splits and (windows.weight > 1).any()):  # where windows lie apart there are huge pages in between
        return whole(found)
    tiles = _wanted(windows, found[0].min_idle_ns, rests, now_ns, splits=splits)
    low = np.searchsorted(tiles, np.array([one.start // WINDOW * WINDOW for one in found], np.uint64))
    high = np.searchsorted(tiles, np.array([one.end for one in found], np.uint64))
    return [(found[at], list(_parts(found[at], tiles[low[at]:high[at]])))
            for at in np.flatnonzero(low < high).tolist()]


def _wanted(windows: Windows, min_idle_ns: int, rests: BackOff, now_ns: int, *, splits: bool) -> Addresses:
    before_ns = now_ns - np.maximum(windows.patience_ns, min_idle_ns)
    idle = np.where(windows.settled_ns <= before_ns, windows.settled, np.uint64(0))
    idle |= np.where(windows.cleared_ns <= before_ns, windows.watched & ~windows.settled, np.uint64(0))
    if splits:
        idle |= np.where(windows.huge, windows.present, np.uint64(0))
    tiles: Addresses = windows.tile[(idle & ~rests.masks(windows.tile, now_ns)) != 0]
    return tiles


def _parts(candidate: Candidate, tiles: Addresses) -> Iterator[tuple[int, int]]:
    """The candidate where it has these windows, in pieces."""
    for run in np.split(tiles, np.flatnonzero(np.diff(tiles) > np.uint64(_GAP)) + 1):
        first, last = int(run[0]) // CHUNK * CHUNK, (int(run[-1]) // CHUNK + 1) * CHUNK
        yield from _pieces(max(first, candidate.start), min(last, candidate.end))


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """A range in parts of at most PIECE, cut at its multiples."""
    for first in range(start // PIECE * PIECE, end, PIECE):
        yield max(first, start), min(first + PIECE, end)
