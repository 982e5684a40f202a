# SPDX-License-Identifier: GPL-2.0-only
"""Plan: which windows to clear and which to read, within what the budget allows. Chooses; does nothing.

Three kinds of work. A *probe* clears a few windows of active memory and watches how soon they are touched again. A
*sweep* clears whole stretches once: memory that is unknown, or that its probes found idle, so that from then on it is
watched for nothing. A *patrol* reads watched windows, in turn, for touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pagepulse.model.evidence import share_error
from pagepulse.model.memory import CHUNK, WINDOW, WINDOWS_PER_CHUNK, Addresses
from pagepulse.model.observation import Counts, Indices
from pagepulse.model.regions import Rows
from pagepulse.model.windows import Windows, popcount

SWEEP_AGAIN_NS = 10_000_000_000
"""A window is swept at most this often: what is touched again at once is better left to probes."""

IDLE_BELOW = 0.02
"""A region is swept when at most this share of its probed pages was touched within an aggregation interval."""

_TICK_FACTOR = 8
_FEW_PROBES, _PROBES_EACH = 4, 8  # in an interval; and at most for each region that is uncertain
_CERTAIN_BELOW = 0.05  # standard error of a region's share of touched pages
_CANDIDATES = 4
_IDLE_TRIALS = 32  # probed pages before a region may be called idle


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one aggregation interval may do."""

    probes: int
    """Windows to clear and watch."""
    patrol: int
    """Watched windows to read."""
    sweep_pages: int
    """Pages to clear for the first time, or because their region went idle."""
    range_pages: float
    """What a range of pages costs beside them, in pages."""


def tick_times_ns(sampling_ns: int, aggregation_ns: int) -> Iterator[int]:
    """When to read the probes, after their clear: one sampling interval, and 8, 64, ... of them.

    Rates over several orders of magnitude follow from such geometric brackets as well as from even ones, and each
    read more is a wake-up more. The last read, at the end of the aggregation interval, is not among them.
    """
    after_ns = sampling_ns
    while 2 * after_ns < aggregation_ns:
        yield after_ns
        after_ns *= _TICK_FACTOR


def choose_probes(windows: Windows, regions: Rows, owner: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Windows to probe, fewer than allowed where little is uncertain.

    Each region with dirty memory has one, or half of them go to those probed longest ago, so that a change is
    noticed. The others go where they teach most: to each region by how much of it is dirty and how uncertain its share
    of touched pages is (J. Neyman, 1934).
    Within a region the window is taken that was probed longest ago, out of a few at random.

    Args:
        windows: All windows.
        regions: All regions.
        owner: Region of each window.
        count: How many at most (a huge page counts for the windows that it spans).
        rng: Source of randomness.
    """
    dirty = np.flatnonzero(windows.with_dirty() & windows.clearable)
    if not len(dirty) or count <= 0:
        return np.empty(0, np.intp)
    region_of = owner[dirty]
    edges = np.searchsorted(region_of, np.arange(len(regions) + 1))
    there = np.flatnonzero(np.diff(edges))
    error = share_error(regions["quick_hits"][there], regions["trials"][there])
    missing = np.minimum((error / _CERTAIN_BELOW) ** 2, _PROBES_EACH)  # a variance falls with the number of probes
    to_teach = int(missing[error > _CERTAIN_BELOW].sum())
    count = min(count, max(len(there), _FEW_PROBES) + to_teach)
    stalest = there[np.argsort(regions["probed_ns"][there], kind="stable")[: max(count - to_teach, -(-count // 2))]]
    weight = np.cumsum(np.diff(edges)[there] * error)
    taught = there[np.searchsorted(weight, rng.random(count - len(stalest)) * weight[-1])]
    regions_chosen = np.concatenate((stalest, taught))
    low, high = edges[regions_chosen], edges[regions_chosen + 1]
    candidates = dirty[low + (rng.random((_CANDIDATES, len(low))) * (high - low)).astype(np.intp)]
    oldest = np.argmin(windows.probed_ns[candidates], axis=0)
    return _whole_huge_pages(windows, np.unique(candidates[oldest, np.arange(len(low))]))


def _whole_huge_pages(windows: Windows, chosen: Indices) -> Indices:
    """The same windows and, where they lie in a huge page, all others of that page."""
    chunks = np.unique(windows.tile[chosen[windows.huge[chosen]]] // np.uint64(CHUNK))
    if not len(chunks):
        return chosen
    low = np.searchsorted(windows.tile, chunks * np.uint64(CHUNK))
    spans = (low[:, None] + np.arange(WINDOWS_PER_CHUNK)).reshape(-1)
    spans = spans[spans < len(windows)]
    return np.unique(np.concatenate((chosen, spans[np.isin(windows.tile[spans] // np.uint64(CHUNK), chunks)])))


def patrol_order(windows: Windows, rng: np.random.Generator) -> Indices:
    """All windows in the order in which to read them: one of each chunk, another of each chunk, and so on.

    What wakes up is seldom smaller than a chunk, and so is seen in the first of these rounds.
    """
    chunk = windows.tile // np.uint64(CHUNK)
    _, first, count = np.unique(chunk, return_index=True, return_counts=True)
    within = np.arange(len(chunk)) - np.repeat(first, count)
    turn = (within + np.repeat(rng.integers(0, 1 << 16, len(count)), count)) % np.repeat(count, count)
    return np.lexsort((rng.random(len(chunk)), turn))


def nearest_watched(windows: Windows, woke: Indices, read: Indices, count: int) -> Indices:
    """Where one window woke, its neighbours may have: watched windows to read now, not in their turn.

    Args:
        windows: All windows.
        woke: Windows that were found touched, sorted.
        read: Windows that were just read.
        count: How many at most: those nearest to one that woke.
    """
    position = np.arange(max(int(woke[0]) - count, 0), min(int(woke[-1]) + count + 1, len(windows)))
    after = np.minimum(np.searchsorted(woke, position), len(woke) - 1)
    distance = np.minimum(np.abs(position - woke[after]), np.abs(position - woke[np.maximum(after - 1, 0)]))
    asleep = windows.watched[position] != 0
    asleep[read[(read >= position[0]) & (read <= position[-1])] - position[0]] = False
    position, distance = position[asleep], distance[asleep]
    if len(position) > count:
        position = np.sort(position[np.argpartition(distance, count)[:count]])
    return position


def choose_sweep(windows: Windows, regions: Rows, owner: Indices, swept_ns: Counts, now_ns: int, pages: int,
                 range_pages: float = 0.0) -> Indices:
    """Windows to sweep, in address order: unknown ones first, then those of regions that went idle.

    Args:
        windows: All windows.
        regions: All regions.
        owner: Region of each window.
        swept_ns: When each window was last swept, shape (w,).
        now_ns: Now.
        pages: At most so many pages.
        range_pages: What a range costs beside its pages, in pages.
    """
    idle = (regions["trials"] >= _IDLE_TRIALS) & (regions["hits"] <= IDLE_BELOW * regions["trials"])
    sweepable = windows.clearable & ~windows.together  # what is cleared together is so with any probe of it
    dirty = np.flatnonzero(windows.with_dirty() & sweepable)
    swept = swept_ns[dirty]
    unknown = (windows.unknown(dirty) != 0) & ((swept == 0) | (now_ns - swept >= SWEEP_AGAIN_NS))
    # An idle region's probes found nothing: its dirty pages are swept however recently they were.
    wanted = np.concatenate((dirty[unknown], dirty[~unknown & idle[owner[dirty]]]))
    apart = windows.tile[wanted[1:]] != windows.tile[wanted[:-1]] + np.uint64(WINDOW)
    if len(wanted):
        cost = np.cumsum(popcount(windows.present[wanted]) + range_pages * np.concatenate(([True], apart)))
        wanted = wanted[: int(np.searchsorted(cost, pages, side="right"))]
    return without_cut_huge_pages(windows, np.sort(wanted))


def without_cut_huge_pages(windows: Windows, chosen: Indices) -> Indices:
    """Leave out windows of a huge page that is not wholly among the chosen: to clear a part would split it."""
    huge = windows.huge[chosen]
    if not huge.any():
        return chosen
    chunk = windows.tile[chosen] // np.uint64(CHUNK)
    _, position, count = np.unique(chunk, return_inverse=True, return_counts=True)
    start = chunk * np.uint64(CHUNK)
    there = np.searchsorted(windows.tile, start + np.uint64(CHUNK)) - np.searchsorted(windows.tile, start)
    whole: Indices = chosen[~huge | (count[position] == there)]
    return whole


def slices_of(windows: Windows, chosen: Indices, size: int) -> list[Indices]:
    """Cut the chosen windows, sorted, into slices of about `size`, none of them within a chunk of 2 MiB."""
    chunk = windows.tile[chosen] // np.uint64(CHUNK)
    position = np.arange(len(chosen))
    first_of_chunk = np.maximum.accumulate(np.where(np.diff(chunk, prepend=np.uint64(0)) != 0, position, 0))
    return np.split(chosen, np.flatnonzero(np.diff(first_of_chunk // size)) + 1) if len(chosen) else []


def ranges_of(windows: Windows, chosen: Indices) -> Addresses:
    """Address ranges of these windows, shape (n, 2), touching ones joined; of a huge page, the whole page.

    No range goes from one mapping into the next: the kernel refuses a locked one, and the rest of its range with it.
    """
    huge = windows.huge[chosen]
    chunk = windows.tile[chosen] // np.uint64(CHUNK) * np.uint64(CHUNK)
    start = np.where(huge, chunk, windows.first[chosen])
    end = np.where(huge, chunk + np.uint64(CHUNK), windows.last[chosen])
    if not len(start):
        return np.empty((0, 2), np.uint64)
    mapping = windows.mapping[chosen]
    first = np.concatenate(([True], (start[1:] > np.maximum.accumulate(end)[:-1])
                            | ((mapping[1:] != mapping[:-1]) & ~(huge[1:] & huge[:-1]))))
    return np.column_stack((start[first], np.maximum.reduceat(end, np.flatnonzero(first))))


def pages_of(windows: Windows, chosen: Indices) -> int:
    """Resident pages of these windows."""
    return int(popcount(windows.present[chosen]).sum())
