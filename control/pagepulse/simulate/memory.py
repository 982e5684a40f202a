# SPDX-License-Identifier: GPL-2.0-only
"""SimulatedMemory: a target behind the model's Memory protocol, with a clock of its own and a known truth.

It stores when which pages were cleared and computes from that, and from what the program does, what a read shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagepulse.errors import UsageError
from pagepulse.model.memory import (
    CHUNK,
    LEVEL_CHUNK,
    LEVEL_PAGE,
    PAGE,
    WINDOW_PAGES,
    Addresses,
    ClearResult,
    Mapping,
    Masks,
    WindowRead,
)
from pagepulse.simulate.area import ALL, Area, pack
from pagepulse.simulate.clears import PARTLY, ClearMap, Runs, cleared_at, set_at
from pagepulse.simulate.pattern import CHUNK_PAGES, epochs
from pagepulse.simulate.prices import CHEAP_AFTER, Prices, clear_ns
from pagepulse.simulate.touches import Flags, Pages
from pagepulse.simulate.truth import Truth, expected_touched, truth_of

IOVECS = 128
"""Ranges of one process_madvise call."""


class SimulatedMemory:
    """A target that does what its areas say.

    Args:
        areas: In any order; they must not overlap.
        seed: Another seed is another run of the same program.
        prices: What reads and clears cost.
        start_ns: The clock's first value.
    """

    def __init__(self, areas: Sequence[Area], *, seed: int = 0, prices: Prices | None = None, start_ns: int = 0
                 ) -> None:
        self.areas = tuple(sorted(areas, key=lambda area: area.start))
        if not self.areas or any(a.end > b.start for a, b in zip(self.areas, self.areas[1:], strict=False)):
            raise UsageError("a simulated target needs at least one area, and areas must not overlap")
        self.prices = prices or Prices()
        self.cpu_ns = 0.0
        """Ours, so far, at the prices given."""
        self.splits = 0
        """Huge pages that a clear of a part of them has split."""
        self._now_ns = start_ns
        self._salts = [int(salt) for salt in np.random.default_rng(seed).integers(0, 2**63, len(self.areas))]
        self._clears = ClearMap()
        self._split = np.zeros(0, np.int64)  # huge pages that are none any more: page number / 512, sorted
        self._ended_tax_ns = 0.0

    def now_ns(self) -> int:
        """The simulated clock."""
        return self._now_ns

    def advance(self, time_ns: int, *, wake: bool = True) -> None:
        """Let the program run, and us sleep, for this long. Waking up costs, unless it is not we who slept."""
        self._now_ns += time_ns
        self.cpu_ns += self.prices.wake_ns if wake else 0

    def charge(self, cpu_ns: float, tax_ns: float = 0) -> None:
        """Add work that the memory does not see: ours, and the target's."""
        self.cpu_ns += cpu_ns
        self._ended_tax_ns += tax_ns

    def mappings(self) -> list[Mapping]:
        """The areas."""
        return [Mapping(area.start, area.end, area.name, area.clearable, area.anonymous) for area in self.areas]

    def rss_bytes(self) -> int:
        """Bytes of the populated areas."""
        return sum(area.size_bytes for area in self.areas if area.populated)

    def truth(self, from_ns: int, to_ns: int) -> Truth:
        """What the program touches in [from_ns, to_ns): `truth_of` its areas."""
        return truth_of(self.areas, from_ns, to_ns)

    def changed(self, from_ns: int, to_ns: int) -> bool:
        """Whether the program did in [from_ns, to_ns) first one thing, then another."""
        return any(len(list(epochs(area.pattern, from_ns, to_ns))) > 1 for area in self.areas)

    def populated(self, spans: Addresses) -> Addresses:
        """Addresses of the chunks (2 MiB, aligned) that are populated, in these ranges: shape (m,), sorted."""
        found = [np.zeros(0, np.uint64)]
        for start, end in spans.astype(np.int64).tolist():
            for area in self.areas:
                low, high = max(start, area.start), min(end, area.end)
                if area.populated and low < high:
                    found.append(np.arange(low // CHUNK * CHUNK, high, CHUNK, dtype=np.uint64))
        chunks = np.concatenate(found)
        # Areas are sorted, and so are chunks; small areas may share one. (Sorting 5 TiB of chunks takes seconds.)
        return chunks[np.diff(chunks, prepend=np.uint64(0)) != 0] if len(chunks) else chunks

    def read_windows(self, addresses: Addresses) -> WindowRead:
        """Read the windows at these addresses, multiples of WINDOW. Any number of them."""
        first = addresses.astype(np.int64) // PAGE
        young, present = np.zeros(first.size, np.uint64), np.zeros(first.size, np.uint64)
        level = np.zeros(first.size, np.uint8)
        for area, salt in zip(self.areas, self._salts, strict=True):
            at = np.flatnonzero((first + WINDOW_PAGES > area.first) & (first < area.first + area.pages))
            if not area.populated or not at.size:
                continue
            resident = _inside(area, first[at])
            bits, levels = self._young(area, salt, first[at])
            young[at] |= bits & resident
            present[at] |= resident
            level[at] = levels
        self.cpu_ns += self.prices.call_ns + first.size * self.prices.window_ns
        return WindowRead(young, present, level, self._now_ns)

    def _young(self, area: Area, salt: int, first: Pages) -> tuple[Masks, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
        """Accessed bits and levels of windows that overlap the area."""
        level = np.full(first.size, LEVEL_PAGE, np.uint8)
        if not area.huge:
            return self._young_pages(area, salt, first), level
        whole = ~_member(self._split, first // CHUNK_PAGES)
        level[whole] = LEVEL_CHUNK
        young = np.zeros(first.size, np.uint64)
        young[whole] = np.where(self._young_chunks(area, salt, first[whole] // CHUNK_PAGES), ALL, 0)
        young[~whole] = self._young_pages(area, salt, first[~whole])
        return young, level

    def _young_pages(self, area: Area, salt: int, first: Pages) -> Masks:
        stamps = self._clears.stamps(first, WINDOW_PAGES)
        young = np.full(first.size, ALL)
        known = (stamps & 1 == 1) & (stamps != PARTLY)
        young[known] = area.touched_windows(first[known] - area.first, stamps[known] >> 1, self._now_ns, salt)
        if area.shared or area.off_lru:
            pages = first[known][:, None] - area.first + np.arange(WINDOW_PAGES)
            young[known] |= pack(area.skipped(pages, stamps[known][:, None] >> 1, salt))
        partly = np.flatnonzero(stamps == PARTLY)
        pages = first[partly][:, None] + np.arange(WINDOW_PAGES)
        young[partly] = pack(self._young_singly(area, salt, pages.reshape(-1)).reshape(pages.shape))
        return young

    def _young_chunks(self, area: Area, salt: int, chunks: Pages) -> Flags:
        """Of huge pages, by number in the address space."""
        stamps = self._clears.stamps(chunks * CHUNK_PAGES, CHUNK_PAGES)
        inside = chunks - area.first // CHUNK_PAGES
        touched = area.touched_chunks(inside, stamps >> 1, self._now_ns, salt)
        result: Flags = touched | (stamps & 1 == 0) | area.skipped(inside * CHUNK_PAGES, stamps >> 1, salt)
        return result

    def _young_singly(self, area: Area, salt: int, pages: Pages) -> Flags:
        """Of single pages, by number in the address space, shape (n,), where no window of them has one stamp."""
        stamps = self._clears.stamps(pages, 1)
        inside = pages - area.first
        touched = area.touched(inside, stamps >> 1, self._now_ns, salt)
        result: Flags = touched | (stamps & 1 == 0) | area.skipped(inside, stamps >> 1, salt)
        return result

    def sample_pages(self, addresses: Addresses, since_ns: int) -> Flags:
        """Which pages were touched since then: what a check sees if each was cleared then. Leaves no trace.

        Args:
            addresses: Shape (n,), any bytes.
            since_ns: When they were cleared.

        Returns:
            Shape (n,); false where nothing is resident.
        """
        pages = addresses.astype(np.int64) // PAGE
        result = np.zeros(pages.size, bool)
        for area, salt in zip(self.areas, self._salts, strict=True):
            at = np.flatnonzero((pages >= area.first) & (pages < area.first + area.pages))
            if not area.populated or not at.size:
                continue
            inside, after = pages[at] - area.first, np.full(at.size, since_ns, np.int64)
            result[at] = area.touched(inside, after, self._now_ns, salt)
            if area.huge:
                whole = ~_member(self._split, pages[at] // CHUNK_PAGES)
                result[at[whole]] = area.touched_chunks(inside[whole] // CHUNK_PAGES, after[whole], self._now_ns, salt)
        return result

    def clear(self, ranges: Addresses) -> ClearResult:
        """Clear the accessed bits of these ranges, shape (n, 2): start and end, multiples of PAGE.

        A range that is not mapped from end to end, or lies in an area that cannot be cleared, is refused.
        """
        wanted = ranges.astype(np.int64).reshape(-1, 2)
        wanted = wanted[np.argsort(wanted[:, 0], kind="stable")]
        taken = np.zeros(len(wanted), np.int64)
        calls = -(-len(wanted) // IOVECS)
        self.cpu_ns += calls * self.prices.call_ns
        for area in self.areas:
            if not area.clearable:
                continue
            low, high = np.maximum(wanted[:, 0], area.start), np.minimum(wanted[:, 1], area.end)
            taken += np.maximum(high - low, 0)
        fine = (taken == wanted[:, 1] - wanted[:, 0]) & (taken > 0) & (wanted % PAGE == 0).all(axis=1)
        starts, ends = _without_overlap(wanted[fine, 0] // PAGE, wanted[fine, 1] // PAGE)
        self._charge_clear(starts, ends)
        self._split_partly(starts, ends)
        self._ended_tax_ns += self._tax_of(self._clears.pieces(starts, ends))
        self._clears.paint(starts, ends, cleared_at(self._now_ns))
        return ClearResult(calls, int((~fine).sum()))

    def _charge_clear(self, starts: Pages, ends: Pages) -> None:
        sizes = ends - starts
        for area in self.areas:
            if area.huge:  # one entry for 512 pages
                low, high = np.maximum(starts, area.first), np.minimum(ends, area.first + area.pages)
                chunks = np.maximum(high // CHUNK_PAGES - -(-low // CHUNK_PAGES), 0)
                sizes = sizes - chunks * CHUNK_PAGES
                self.cpu_ns += int(chunks.sum()) * self.prices.chunk_ns
        dear = int(np.minimum(sizes, CHEAP_AFTER).sum())
        self.cpu_ns += clear_ns(self.prices, 0, starts.size, dear, int(sizes.sum()) - dear)
        self._ended_tax_ns += starts.size * self.prices.flush_tax_ns

    def _split_partly(self, starts: Pages, ends: Pages) -> None:
        """Split the huge pages of which the ranges take a part: a young one leaves 512 young pages behind."""
        edges = np.concatenate([starts[starts % CHUNK_PAGES != 0], ends[ends % CHUNK_PAGES != 0]]) // CHUNK_PAGES
        for area, salt in zip(self.areas, self._salts, strict=True):
            chunks = np.unique(edges[(edges >= area.first // CHUNK_PAGES)
                                     & (edges < (area.first + area.pages) // CHUNK_PAGES)])
            chunks = chunks[~_member(self._split, chunks)]
            if not area.huge or not chunks.size:
                continue
            young = chunks[self._young_chunks(area, salt, chunks)] * CHUNK_PAGES
            self._clears.paint(young, young + CHUNK_PAGES, set_at(self._now_ns))
            self._split = np.union1d(self._split, chunks)
            self.splits += chunks.size
            self.cpu_ns += chunks.size * self.prices.split_ns

    def unclearable(self, addresses: Addresses, masks: Masks) -> Masks:
        """Of the pages in `masks` (shape (n,)) that were young right after a clear: those that the clear skipped."""
        first = addresses.astype(np.int64) // PAGE
        result = np.zeros(first.size, np.uint64)
        for area, salt in zip(self.areas, self._salts, strict=True):
            at = np.flatnonzero((first + WINDOW_PAGES > area.first) & (first < area.first + area.pages))
            pages = first[at][:, None] - area.first + np.arange(WINDOW_PAGES)
            skipped = pack(area.skipped(pages, self._now_ns, salt)) if area.clearable else np.full(at.size, ALL)
            result[at] |= skipped & _inside(area, first[at])
        return result & masks

    @property
    def tax_ns(self) -> float:
        """The target's part so far: flushes, and each cleared page that it touched again, once.

        The number of these pages is the expected one, given when each was cleared and how often it is touched.
        """
        return self._ended_tax_ns + self._tax_of(self._clears.runs())

    def _tax_of(self, runs: Runs) -> float:
        """What touching cleared pages again has cost until now, for these runs."""
        known = np.flatnonzero(runs.stamps & 1 == 1)
        starts, ends, after = runs.starts[known], runs.ends[known], runs.stamps[known] >> 1
        pages = 0.0
        for area in self.areas:
            low, high = np.maximum(starts, area.first), np.minimum(ends, area.first + area.pages)
            here = np.flatnonzero(low < high)
            pages += expected_touched(area, low[here] - area.first, high[here] - area.first, after[here], self._now_ns)
        return pages * self.prices.retouch_ns


def _without_overlap(starts: Pages, ends: Pages) -> tuple[Pages, Pages]:
    """Ranges sorted by start, each cut to what none before it covers."""
    covered = np.maximum.accumulate(np.append(0, ends))[:-1]
    starts = np.maximum(starts, covered)
    return starts[starts < ends], ends[starts < ends]


def _inside(area: Area, first: Pages) -> Masks:
    """Masks of the pages of windows from each `first` that lie in the area, which each window overlaps."""
    below = np.maximum(area.first - first, 0).astype(np.uint64)
    above = np.maximum(first + WINDOW_PAGES - (area.first + area.pages), 0).astype(np.uint64)
    return (ALL << below) & (ALL >> above)


def _member(sorted_numbers: Pages, numbers: Pages) -> Flags:
    if not sorted_numbers.size:
        return np.zeros(numbers.size, bool)
    at = np.minimum(np.searchsorted(sorted_numbers, numbers), sorted_numbers.size - 1)
    result: Flags = sorted_numbers[at] == numbers
    return result
