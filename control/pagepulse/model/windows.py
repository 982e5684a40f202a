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

import numpy as np
import numpy.typing as npt

from pagepulse.model.evidence import WITNESS
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
from pagepulse.model.observation import Counts, Indices, Observation
from pagepulse.model.tally import Tally

NEVER_IDLE_NS = np.iinfo(np.int64).max
"""Since when a page is idle that was not seen clear since its last touch."""

SOON_NS = 10_000_000_000
"""What comes back so soon after it was paged out should never have gone."""

EVERY = slice(None)
"""All windows, where some may be named."""
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
        self.drawn: npt.NDArray[np.float64] = layout.drawn
        """For how many it stood when they were drawn: 0 where it was laid because of what others saw."""
        self.first: Addresses = np.maximum(self.tile, starts[self.mapping])
        """First byte that belongs to the mapping: where the window begins."""
        self.last: Addresses = np.minimum(self.tile + np.uint64(WINDOW), ends[self.mapping])
        """One past the last byte that belongs to the mapping."""
        self.mask: Masks = _page_masks(self.tile, self.first, self.last)
        self.witness: npt.NDArray[np.float64] = np.maximum(WITNESS, 1 / popcount(self.mask))
        """How many independent witnesses a page is: small mappings have one at least."""
        self.clearable = np.array([m.clearable for m in mappings], bool)[self.mapping]
        self.together = np.array([m.together for m in mappings], bool)[self.mapping]
        # What the pages are pages of: at the same address there may be something else later.
        self._origin = np.array([hash(origin(m)) for m in mappings], np.int64)[self.mapping]
        self._forgets = np.array([not m.anonymous for m in mappings], bool)[self.mapping]
        for name, kind in _STATE.items():
            setattr(self, name, np.zeros(len(self.tile), kind))
        self.tally = Tally(self.weight)

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
        self._refuse_unclearable(everything := np.arange(len(self)))
        self._count(everything)

    def _refuse_unclearable(self, index: Indices) -> None:
        """In a mapping that cannot be cleared, a young page says nothing, and never will."""
        young = self.present[index] & ~self.watched[index]
        self.refused[index] |= np.where(self.clearable[index], np.uint64(0), young)

    def refuse(self, index: Indices, pages: Masks) -> None:
        """The kernel will not clear these pages, shape (n,); what else was said of these windows holds."""
        self.refused[index] |= pages
        self._count(index)

    def allow(self, index: Indices, pages: Masks) -> None:
        """The kernel will clear these pages after all."""
        self.refused[index] &= ~pages
        self._count(index)

    def know(self, index: Indices, pages: Masks) -> None:
        """These pages were clear, for a moment at least."""
        self.known[index] |= pages
        self._count(index)

    def dirty(self, index: Indices | slice = EVERY) -> Masks:
        """Pages that were touched since their last clear, or never cleared, and could be cleared now."""
        return self.present[index] & ~self.watched[index] & ~self.refused[index]

    def unknown(self, index: Indices | slice = EVERY) -> Masks:
        """Resident pages of which nothing is known yet."""
        return self.present[index] & ~self.known[index] & ~self.refused[index]

    def with_dirty(self) -> npt.NDArray[np.bool_]:
        """Which windows have dirty pages, shape (w,)."""
        return self.tally.pages.dirty > 0

    def _count(self, index: Indices) -> None:
        self.tally.count(index, self.present[index], self.dirty(index), self.unknown(index), self.refused[index],
                         self.settled[index])

    def observe(self, index: Indices, read: WindowRead) -> Observation:
        """Take in a read of some windows: any read, for whatever purpose.

        Args:
            index: Windows that were read, shape (n,), each at most once.
            read: Their bits.
        """
        if read.blind:
            self._unwatch()
        lost = (read.level & LEVEL_LOST) != 0
        if lost.any():
            index = index[good := ~lost]
            read = WindowRead(read.young[good], read.present[good], read.level[good], read.taken_ns)
        present, young = read.present & self.mask[index], read.young & self.mask[index]
        watched = self.watched[index] & present
        since_ns, returned = self.read_ns[index], self.evicted[index] & present
        seen = Observation(index, watched, watched & young, since_ns, young, returned, read.taken_ns, int(lost.sum()),
                           self._soon(index, since_ns, returned, read.taken_ns))
        self.read_ns[index] = read.taken_ns
        huge = (read.level & (LEVEL_CHUNK | LEVEL_GIB)) != 0
        # Nearly all that a patrol reads is as it was.
        news = (present != self.present[index]) | (young != present & ~watched) | (huge != self.huge[index])
        news |= seen.returned != 0
        if news.any():
            self._take_in(index[news], present[news], young[news], seen.returned[news], read.taken_ns)
            self.huge[index[news]] = huge[news]
        return seen

    def _soon(self, index: Indices, since_ns: Counts, returned: Masks, now_ns: int) -> Masks:
        """Of the pages that came back, those that did so soon: halfway since the last read is as near as is known."""
        if not returned.any():
            return returned
        back_ns = (np.maximum(since_ns, self.evicted_ns[index]) + now_ns) // 2
        return np.where(back_ns - self.evicted_ns[index] <= SOON_NS, returned, np.uint64(0))

    def _take_in(self, index: Indices, present: Masks, young: Masks, returned: Masks, now_ns: int) -> None:
        """What is not as it was: masks of each window, shape (n,)."""
        watched = self.watched[index]
        fresh = present & ~young & ~watched
        watched &= present & ~young
        self.evicted[index] &= ~returned
        self._be_patient(index[returned != 0], now_ns)
        self.present[index] = present
        self.settled[index] &= watched
        self.watched[index] = watched
        # Fault-around maps pages of a file with the one that was touched, and marks them young; others come one by one.
        self.known[index] &= np.where(self._forgets[index], present, ALL_PAGES)
        self.refused[index] &= present & young  # what reads clear can be cleared after all
        if fresh.any():
            some = fresh != 0
            self._start_watching(index[some], fresh[some], now_ns)
        self._refuse_unclearable(index)
        self._count(index)

    def _unwatch(self) -> None:
        """What was watched may have been touched: nothing is known of any page, until it is read again."""
        self.watched[:] = self.settled[:] = self.known[:] = 0
        self._count(np.arange(len(self)))

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


def _page_masks(tile: Addresses, first: Addresses, last: Addresses) -> Masks:
    offset = (first - tile) // np.uint64(PAGE)
    pages = (last - first) // np.uint64(PAGE)
    return ALL_PAGES >> (np.uint64(WINDOW_PAGES) - pages) << offset
