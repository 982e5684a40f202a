# SPDX-License-Identifier: GPL-2.0-only
"""Windows: 64 contiguous pages each, and for each page what we know of it.

A page that was seen with a clear accessed bit is *watched*: as long as it reads clear, it has not been touched, and
the next touch cannot be missed. A page that was seen young since is *dirty*: it was touched at least once, and its bit
now says nothing until it is cleared again. A resident page that was never seen clear is *unknown*. What the kernel will
not clear is *refused*. A page of a file that went and came back is unknown again: a fault on a neighbour maps it young.
All are masks, one bit a page; windows are sorted by address.

Idle time is kept in two layers, because a window that is cleared again for its hot pages must not forget how long its
cold ones have been idle: *settled* pages are watched since `settled_ns`, the other watched ones since `cleared_ns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.identity import origin
from pagepulse.model.layout import Layout
from pagepulse.model.memory import (
    LEVEL_CHUNK,
    LEVEL_GIB,
    LEVEL_LOST,
    PAGE,
    WINDOW,
    WINDOW_PAGES,
    Addresses,
    Mapping,
    Masks,
    WindowRead,
)

Indices = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]

NEVER_IDLE_NS = np.iinfo(np.int64).max
"""Since when a page is idle that was not seen clear since its last touch."""

SOON_NS = 10_000_000_000
"""What comes back so soon after it was paged out should never have gone."""

ALL_PAGES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

_STATE = {"present": "u8", "watched": "u8", "settled": "u8", "known": "u8", "refused": "u8", "huge": "?",
          "evicted": "u8", "gone_since_ns": "i8", "evicted_ns": "i8", "patience_ns": "i8", "cleared_ns": "i8",
          "settled_ns": "i8", "read_ns": "i8", "probed_ns": "i8", "touches": "f8", "exposure_ns": "f8", "bounded": "?"}

_PATIENCE, _LONGEST_PATIENCE_NS = 2, 3_600_000_000_000
_ASLEEP_ABOVE = 16  # touches that were to be expected: no luck explains that there was hardly one
_NEARLY_ALL = 7 / 8  # of a window: woken in one go, more of them tell no rate but the least it can be
_EVIDENCE_NS = WINDOW_PAGES * 10_000_000_000.0  # evidence reaches back some ten seconds


def popcount(masks: Masks) -> Counts:
    """Pages in each mask, shape (n,)."""
    return np.bitwise_count(masks).astype(np.int64)


class Observation(NamedTuple):
    """What a read of n windows showed beyond what was known."""

    windows: Indices
    """Windows whose read was good, shape (m,)."""
    watched: Masks
    """Of those: pages that were watched up to this read, shape (m,)."""
    woken: Masks
    """Of those: watched pages that are young now, shape (m,)."""
    since_ns: Counts
    """Of those: when the window was read before; a woken page was touched after that."""
    young: Masks
    """Of those: all resident young pages, shape (m,)."""
    returned: Masks
    """Of those: pages that we had paged out and that are resident again, shape (m,)."""
    taken_ns: int
    """When the read was taken."""
    lost: int
    """Windows whose page tables changed under the read."""
    returned_soon: Masks
    """Of `returned`: those that came back within SOON_NS of going, shape (m,)."""


class Windows:
    """The windows of a target and what is known of their pages.

    Args:
        mappings: The target's mappings, sorted.
        layout: Where the windows lie.
    """

    present: Masks
    """Resident pages."""
    watched: Masks
    """Resident, and not touched since they were seen clear."""
    settled: Masks
    """Watched since settled_ns; the other watched ones since cleared_ns."""
    known: Masks
    """Seen clear at least once; pages of a file, since they were mapped."""
    refused: Masks
    """The kernel will not clear them."""
    evicted: Masks
    """Paged out by us, and not resident again since."""
    gone_since_ns: Counts
    """Since when that had been idle."""
    evicted_ns: Counts
    """When some of it was last paged out."""
    patience_ns: Counts
    """How long pages that came back have to be idle until they may be paged out again; 0: none came back."""
    huge: npt.NDArray[np.bool_]
    cleared_ns: Counts
    settled_ns: Counts
    read_ns: Counts
    probed_ns: Counts
    touches: npt.NDArray[np.float64]
    """Watched pages that were found touched (older ones count less)."""
    exposure_ns: npt.NDArray[np.float64]
    """Time for which pages were watched until then, summed over pages: touches / exposure is their rate."""
    bounded: npt.NDArray[np.bool_]
    """That rate is only a lower bound: all pages had been touched when they were read."""

    def __init__(self, mappings: Sequence[Mapping], layout: Layout) -> None:
        self.mappings = mappings
        starts = np.array([m.start for m in mappings], np.uint64)
        ends = np.array([m.end for m in mappings], np.uint64)
        self.tile: Addresses = layout.tile
        """Address to read at, a multiple of WINDOW."""
        self.mapping: Indices = layout.mapping
        self.weight: npt.NDArray[np.float64] = layout.weight
        """For how many windows, itself included, it stands."""
        self.first: Addresses = np.maximum(self.tile, starts[self.mapping])
        """First byte that belongs to the mapping: where the window begins."""
        self.last: Addresses = np.minimum(self.tile + np.uint64(WINDOW), ends[self.mapping])
        """One past the last byte that belongs to the mapping."""
        self.mask: Masks = _page_masks(self.tile, self.first, self.last)
        self.clearable = np.array([m.clearable for m in mappings], bool)[self.mapping]
        self.together = np.array([m.together for m in mappings], bool)[self.mapping]
        # What the pages are pages of: at the same address there may be something else later.
        self._origin = np.array([hash(origin(m)) for m in mappings], np.int64)[self.mapping]
        self._forgets = np.array([not m.anonymous for m in mappings], bool)[self.mapping]
        for name, kind in _STATE.items():
            setattr(self, name, np.zeros(len(self.tile), kind))

    def __len__(self) -> int:
        return len(self.tile)

    def carry_over(self, old: Windows) -> None:
        """Take over what is known of the windows that were there before at the same place, in the same mapping."""
        if not len(old) or not len(self):
            return
        position = np.minimum(np.searchsorted(old.first, self.first), len(old) - 1)
        same = (old.first[position] == self.first) & (old.mask[position] == self.mask)
        same &= old._origin[position] == self._origin
        for name in _STATE:
            getattr(self, name)[same] = getattr(old, name)[position[same]]
        self.refused[self.together] = 0  # whatever another way to clear could not do
        self._refuse_unclearable(np.arange(len(self)))

    def _refuse_unclearable(self, index: Indices) -> None:
        """In a mapping that cannot be cleared, a young page says nothing, and never will."""
        young = self.present[index] & ~self.watched[index]
        self.refused[index] |= np.where(self.clearable[index], np.uint64(0), young)

    def dirty(self) -> Masks:
        """Pages that were touched since their last clear, or never cleared, and could be cleared now."""
        return self.present & ~self.watched & ~self.refused

    def unknown(self) -> Masks:
        """Resident pages of which nothing is known yet."""
        return self.present & ~self.known & ~self.refused

    def unknown_of(self, index: Indices) -> Masks:
        """The same of some windows, shape (n,)."""
        return self.present[index] & ~self.known[index] & ~self.refused[index]

    def observe(self, index: Indices, read: WindowRead) -> Observation:
        """Take in a read of some windows: any read, for whatever purpose.

        Args:
            index: Windows that were read, shape (n,), each at most once.
            read: Their bits.
        """
        lost = (read.level & LEVEL_LOST) != 0
        if lost.any():
            good = ~lost
            index = index[good]
            read = WindowRead(read.young[good], read.present[good], read.level[good], read.taken_ns)
        mask, watched = self.mask[index], self.watched[index]
        present, young = read.present & mask, read.young & mask
        before, woken = watched & present, watched & young
        fresh = present & ~young & ~watched
        watched &= present & ~young
        since_ns = self.read_ns[index]
        returned = self.evicted[index] & present
        self.evicted[index] &= ~returned
        # It came back at some time since it was last seen away: the middle of that is as near as can be known.
        back_ns = (np.maximum(since_ns, self.evicted_ns[index]) + read.taken_ns) // 2
        returned_soon = np.where(back_ns - self.evicted_ns[index] <= SOON_NS, returned, np.uint64(0))
        self._be_patient(index[returned != 0], read.taken_ns)
        self.present[index] = present
        self.settled[index] &= watched
        self.watched[index] = watched
        # Fault-around maps pages of a file with the one that was touched, and marks them young; others come one by one.
        self.known[index] &= np.where(self._forgets[index], present, ALL_PAGES)
        self.refused[index] &= present & young  # what reads clear can be cleared after all
        self.huge[index] = (read.level & (LEVEL_CHUNK | LEVEL_GIB)) != 0
        self.read_ns[index] = read.taken_ns
        if fresh.any():
            some = fresh != 0
            self._start_watching(index[some], fresh[some], read.taken_ns)
        self._refuse_unclearable(index)
        return Observation(index, before, woken, since_ns, young, returned, read.taken_ns, int(lost.sum()),
                           returned_soon)

    def _be_patient(self, index: Indices, now_ns: int) -> None:
        """What is fetched back after some idle time will be so again: only twice that time shows that it is not."""
        away_ns = now_ns - self.gone_since_ns[index]
        self.patience_ns[index] = np.clip(_PATIENCE * away_ns, self.patience_ns[index], _LONGEST_PATIENCE_NS)

    def _start_watching(self, index: Indices, fresh: Masks, now_ns: int) -> None:
        """Watch pages that were just seen clear; keep the idle time of the older ones as well as two layers can."""
        recent = self.watched[index] & ~self.settled[index]
        idle_ns, settled_idle_ns = now_ns - self.cleared_ns[index], now_ns - self.settled_ns[index]
        settles = (recent != 0) & ((self.settled[index] == 0) | (2 * idle_ns >= settled_idle_ns))
        into = index[settles]
        self.settled[into] |= recent[settles]
        self.settled_ns[into] = self.cleared_ns[into]
        self.watched[index] |= fresh
        self.known[index] |= fresh
        self.cleared_ns[index] = now_ns

    def mark_evicted(self, runs: Addresses, idle_since_ns: int, now_ns: int | None = None) -> None:
        """Remember pages that were paged out, to see them return.

        Args:
            runs: Shape (n, 2): start and end of each run of pages, sorted.
            idle_since_ns: They had been idle at least since then.
            now_ns: When they went; None: as soon as they were idle.
        """
        if not len(runs) or not len(self):
            return
        counts = ((runs[:, 1] - runs[:, 0]) // np.uint64(PAGE)).astype(np.int64)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        pages = np.repeat(runs[:, 0], counts) + within.astype(np.uint64) * np.uint64(PAGE)
        owner = np.searchsorted(self.first, pages, side="right") - 1
        inside = (owner >= 0) & (pages < self.last[owner])
        owner, pages = owner[inside], pages[inside]
        self.gone_since_ns[owner] = idle_since_ns
        self.evicted_ns[owner] = idle_since_ns if now_ns is None else now_ns
        np.bitwise_or.at(self.evicted, owner, np.uint64(1) << ((pages - self.tile[owner]) // np.uint64(PAGE)))

    def with_evicted(self, limit: int | None) -> Indices:
        """Windows from which something was paged out that is not back: so many, or all; those read long ago first."""
        index = np.flatnonzero(self.evicted != 0)
        if limit is None or len(index) <= limit:
            return index
        return np.sort(index[np.argpartition(self.read_ns[index], limit)[:limit]])

    def idle_bytes(self, edges_ns: Sequence[int], now_ns: int) -> tuple[int, ...]:
        """Bytes not touched for at least each of these times; for 0, everything that is known."""
        settled = np.bitwise_count(self.settled) * self.weight
        recent = np.bitwise_count(self.watched) * self.weight - settled
        known = float(np.bitwise_count(self.known & self.present & ~self.refused) @ self.weight)
        since_ns = [now_ns - edge for edge in edges_ns]
        idle = _weight_at_most(self.settled_ns, settled, since_ns) + _weight_at_most(self.cleared_ns, recent, since_ns)
        return tuple(PAGE * round(known if edge == 0 else pages)
                     for edge, pages in zip(edges_ns, idle.tolist(), strict=True))

    def book(self, index: Indices, touches: npt.NDArray[np.float64], exposure_ns: npt.NDArray[np.float64],
             keep: npt.NDArray[np.float64]) -> None:
        """Add to the evidence of some windows.

        Args:
            index: Windows, shape (n,), each at most once.
            touches: Watched pages found touched.
            exposure_ns: Time for which pages were watched, summed over pages.
            keep: Weight of all older evidence.
        """
        touched = self.touches[index] * keep + touches
        exposed = self.exposure_ns[index] * keep + exposure_ns
        fade = np.minimum(_EVIDENCE_NS / np.maximum(exposed, 1.0), 1.0)
        self.touches[index] = touched * fade
        self.exposure_ns[index] = exposed * fade

    def book_wakes(self, index: Indices, watched: Counts, woken: Counts, exposure_ns: npt.NDArray[np.float64]) -> None:
        """Add what a read showed of watched pages to the evidence of their windows.

        The more of a window woke up, the less its past says. Where nearly all did, it may have been idle until shortly
        before, and its rate has only a lower bound: nothing new if a higher rate is known; otherwise the window is
        marked as *bounded*. Where far fewer woke up than the past foretold, it is forgotten.

        Args:
            index: Windows, shape (n,), each at most once.
            watched: Pages that were watched, shape (n,).
            woken: Of these.
            exposure_ns: Time for which they were watched, summed over pages (`estimate.watch_time_ns`).
        """
        bounded = woken > _NEARLY_ALL * watched
        known = ~self.bounded[index] & (self.touches[index] > 0)
        known &= self.touches[index] * exposure_ns >= woken * self.exposure_ns[index]
        teaches = ~(bounded & known) & (exposure_ns > 0)
        index, watched, woken = index[teaches], watched[teaches], woken[teaches]
        exposure_ns = exposure_ns[teaches]
        expected = self.touches[index] * exposure_ns / np.maximum(self.exposure_ns[index], 1.0)
        fell_asleep = (expected > _ASLEEP_ABOVE) & (woken < expected / 4)
        self.book(index, woken.astype(np.float64), exposure_ns,
                  np.where(fell_asleep, 0.0, 1 - woken / np.maximum(watched, 1)))
        self.bounded[index] = bounded[teaches]

    def forget_rates(self, index: Indices) -> None:
        """Forget how often the pages of these windows were touched: the region that they are in has changed."""
        self.touches[index] = self.exposure_ns[index] = 0.0
        self.bounded[index] = False

    def patience_of(self, start: int, end: int) -> npt.NDArray[np.int64]:
        """For how long each page of a range has to be idle, because it came back before: shape ((end - start) / PAGE,).

        Args:
            start: A multiple of PAGE.
            end: A multiple of PAGE.
        """
        first, last = start // WINDOW * WINDOW, -(-end // WINDOW) * WINDOW
        low, high = np.searchsorted(self.tile, np.uint64(first)), np.searchsorted(self.tile, np.uint64(last))
        patience_ns = np.zeros((last - first) // WINDOW, np.int64)
        slot = ((self.tile[low:high] - np.uint64(first)) // np.uint64(WINDOW)).astype(np.int64)
        np.maximum.at(patience_ns, slot, self.patience_ns[low:high])  # small mappings share a tile
        offset = (start - first) // PAGE
        return np.repeat(patience_ns, WINDOW_PAGES)[offset : offset + (end - start) // PAGE]

    def idle_since_ns(self, start: int, end: int) -> npt.NDArray[np.int64]:
        """Since when each page of a range is known to be untouched; the far future where that is not known.

        Args:
            start: A multiple of PAGE.
            end: A multiple of PAGE.

        Returns:
            Shape ((end - start) / PAGE,).
        """
        first = np.uint64(start // WINDOW * WINDOW)
        since = np.full(-(-(end - int(first)) // WINDOW) * WINDOW_PAGES, NEVER_IDLE_NS)
        low, high = np.searchsorted(self.tile, first), np.searchsorted(self.tile, np.uint64(end))
        index = np.arange(low, high)
        bits = np.uint64(1) << np.arange(WINDOW_PAGES, dtype=np.uint64)
        settled = (self.settled[index, None] & bits) != 0
        watched = (self.watched[index, None] & bits) != 0
        known = np.where(settled, self.settled_ns[index, None], self.cleared_ns[index, None])
        pages = ((self.tile[index] - first) // np.uint64(PAGE)).astype(np.int64)[:, None] + np.arange(WINDOW_PAGES)
        since[pages[watched]] = known[watched]
        offset = (start - int(first)) // PAGE
        return since[offset : offset + (end - start) // PAGE]

    def known_pages(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Which pages of a range were seen clear at least once: of those that are not idle, that is no ignorance.

        Args:
            start: A multiple of PAGE.
            end: A multiple of PAGE.

        Returns:
            Shape ((end - start) / PAGE,).
        """
        first = start // WINDOW * WINDOW
        masks = np.zeros(-(-(end - first) // WINDOW), np.uint64)
        low, high = np.searchsorted(self.tile, np.array([first, end], np.uint64))
        tiles = ((self.tile[low:high] - np.uint64(first)) // np.uint64(WINDOW)).astype(np.int64)
        np.bitwise_or.at(masks, tiles, self.known[low:high])  # small mappings share a tile
        known = np.unpackbits(masks.view(np.uint8), bitorder="little").view(np.bool_)
        offset = (start - first) // PAGE
        return known[offset : offset + (end - start) // PAGE]


def _weight_at_most(values: Counts, weights: npt.NDArray[np.float64], limits: Sequence[int]
                    ) -> npt.NDArray[np.float64]:
    """Sum of the weights of those values that are at most each of the limits, which descend."""
    reaches = np.zeros(len(values), np.uint8)  # how many of the limits; one pass for each is what takes the time
    for limit in limits:
        reaches += values <= limit
    sums: npt.NDArray[np.float64] = np.bincount(reaches, weights, len(limits) + 1)[::-1].cumsum()[-2::-1]
    return sums


def _page_masks(tile: Addresses, first: Addresses, last: Addresses) -> Masks:
    offset = (first - tile) // np.uint64(PAGE)
    pages = (last - first) // np.uint64(PAGE)
    return ALL_PAGES >> (np.uint64(WINDOW_PAGES) - pages) << offset
