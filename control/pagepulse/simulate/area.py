# SPDX-License-Identifier: GPL-2.0-only
"""Area: one mapping of a simulated target, and what its pages do. It knows the truth, and nothing of clears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pagepulse.errors import UsageError
from pagepulse.model.memory import CHUNK, PAGE, WINDOW_PAGES, Masks
from pagepulse.simulate.pattern import CHUNK_PAGES, Pattern, Still, epochs, pages_of
from pagepulse.simulate.touches import SATURATED, Flags, Floats, Pages, Rhythm, Times, chance, fractions, touched

ALL = np.uint64(2**64 - 1)
_BLOCK = 512  # windows evaluated at once: their arrays stay in the cache
_SHARED, _OFF_LRU, _HUGE = 1, 2, 3  # salts: which pages, apart from when


@dataclass(frozen=True, eq=False)
class Area:
    """One mapping of a simulated target."""

    start: int
    size_bytes: int
    pattern: Pattern
    name: str = "[anon]"
    rhythm: Rhythm = Rhythm.RANDOM
    huge: bool = False
    """Mapped by huge pages: one accessed bit for 2 MiB. Start and size must be multiples of that."""
    shared: float = 0.0
    """Share of the pages (scattered; huge pages if it is huge) mapped by others too: never cleared, so always young."""
    off_lru: float = 0.0
    """Share of the pages that are not on the LRU until `lru_at_ns`: a clear before then skips them."""
    lru_at_ns: int = 0
    clearable: bool = True
    """False: locked or hugetlb. A clear is refused."""
    populated: bool = True
    """False: mapped, never touched, nothing resident."""
    anonymous: bool = True

    def __post_init__(self) -> None:
        unit = CHUNK if self.huge else PAGE
        if self.start % unit or self.size_bytes % unit or pages_of(self.size_bytes) <= 0:
            raise UsageError(f"the area at {self.start:#x} must start at, and be, a multiple of {unit} bytes")
        if not 0 <= self.shared <= 1 or not 0 <= self.off_lru <= 1:
            raise UsageError("shares of pages are between 0 and 1")

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.start + self.size_bytes

    @property
    def first(self) -> int:
        """Number of the first page in the address space."""
        return self.start // PAGE

    @property
    def pages(self) -> int:
        """Pages of the area."""
        return self.size_bytes // PAGE

    def touched(self, pages: Pages, after_ns: Times, now_ns: int, salt: int) -> Flags:
        """Which pages (numbered in the area) are touched in [after_ns, now_ns). Any shape, as `after_ns`."""
        result = np.zeros(pages.shape, bool)
        for epoch in epochs(self.pattern, int(after_ns.min(initial=now_ns)), now_ns):
            begin = np.maximum(after_ns, epoch.begin_ns)
            result |= touched(self.rhythm, pages, epoch.pattern.rates(pages), begin, np.int64(epoch.end_ns),
                              salt + (epoch.number << 20))
        return result

    def touched_windows(self, first: Pages, after_ns: Times, now_ns: int, salt: int) -> Masks:
        """The same for windows of 64 pages from each `first`, shape (n,), as masks; most need no look at a page."""
        masks = np.zeros(first.size, np.uint64)
        for epoch in epochs(self.pattern, int(after_ns.min(initial=now_ns)), now_ns):
            begin = np.maximum(after_ns, epoch.begin_ns)
            rates = epoch.pattern.uniform(first, WINDOW_PAGES)
            masks[rates * (epoch.end_ns - begin) * 1e-9 > SATURATED[self.rhythm]] = ALL
            todo = np.flatnonzero((masks != ALL) & (rates != 0) & (begin < epoch.end_ns))
            for part in np.split(todo, range(_BLOCK, todo.size, _BLOCK)):
                known = rates[part][:, None]
                pages = first[part][:, None] + np.arange(WINDOW_PAGES)
                exact = known if not np.isnan(known).any() else epoch.pattern.rates(pages)
                flags = touched(self.rhythm, pages, exact, begin[part][:, None], np.int64(epoch.end_ns),
                                salt + (epoch.number << 20))
                masks[part] |= pack(flags)
        return masks

    def touched_chunks(self, chunks: Pages, after_ns: Times, now_ns: int, salt: int) -> Flags:
        """Which huge pages (numbered in the area, shape (n,)) are touched: any of their 512 pages is."""
        result = np.zeros(chunks.shape, bool)
        for epoch in epochs(self.pattern, int(after_ns.min(initial=now_ns)), now_ns):
            result |= touched(self.rhythm, chunks * WINDOW_PAGES, _chunk_rates(epoch.pattern, chunks),
                              np.maximum(after_ns, epoch.begin_ns), np.int64(epoch.end_ns),
                              salt + (epoch.number << 20) + (_HUGE << 44))
        return result

    def skipped(self, pages: Pages, at_ns: Times | int, salt: int) -> Flags:
        """Which pages (numbered in the area) a clear at `at_ns` skips, without an error."""
        unit = pages // CHUNK_PAGES if self.huge else pages
        result = np.full(pages.shape, False)
        if self.shared:
            result |= fractions(unit, salt + (_SHARED << 44)) < self.shared
        if self.off_lru:
            result |= (fractions(unit, salt + (_OFF_LRU << 44)) < self.off_lru) & (np.asarray(at_ns) < self.lru_at_ns)
        return result

    def chances(self, first: Pages, count: int, after_ns: Times, now_ns: int) -> Floats:
        """Expected touched pages among `count` (at most 64) from each `first`: shape (n,). Of a huge page: 0 to 1."""
        untouched = np.ones((first.size, 1))
        for epoch in epochs(self.pattern, int(after_ns.min(initial=now_ns)), now_ns):
            seconds = np.maximum(epoch.end_ns - np.maximum(after_ns, epoch.begin_ns), 0)[:, None] * 1e-9
            rates = epoch.pattern.uniform(first, count)[:, None]
            if self.huge:
                rates = _chunk_rates(epoch.pattern, first // CHUNK_PAGES)[:, None]
            elif np.isnan(rates).any():
                rates = epoch.pattern.rates(first[:, None] + np.arange(count))
            untouched = untouched * (1 - chance(self.rhythm, rates * seconds))
        expected: Floats = (1 - untouched).mean(axis=1) * (1 if self.huge else count)
        return expected


def pack(flags: Flags) -> Masks:
    """Masks of windows: bit i of word n is flag [n, i]."""
    packed = np.packbits(flags, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64).reshape(-1)


def _chunk_rates(pattern: Still, chunks: Pages) -> Floats:
    return pattern.mass((chunks + 1) * CHUNK_PAGES) - pattern.mass(chunks * CHUNK_PAGES)
