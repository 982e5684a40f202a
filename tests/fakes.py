# SPDX-License-Identifier: GPL-2.0-only
"""FakeMemory: a few hundred MiB behind the model's Memory protocol, exact to the page, and strict.

Unlike the simulated memory it holds one accessed bit for each page, as a page table does, and tests touch pages one by
one. What would harm a real target (a partial clear of a huge page) fails the test at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from pagepulse.errors import TargetGone
from pagepulse.kernel.instruments import Instruments
from pagepulse.model.engine import Engine
from pagepulse.model.memory import (
    CHUNK,
    LEVEL_CHUNK,
    LEVEL_LOST,
    LEVEL_NONE,
    LEVEL_PAGE,
    PAGE,
    WINDOW,
    WINDOW_PAGES,
    Addresses,
    ClearResult,
    Mapping,
    Masks,
    WindowRead,
)
from pagepulse.model.snapshot import Snapshot

BASE = 0x7F00_0000_0000
MIB = 1 << 20
MS = 1_000_000
SECOND = 1_000_000_000
CHUNK_PAGES = CHUNK // PAGE


class NoProbes:
    """For a target of whom no probe tells anything."""

    attached = ()
    sees_taken = counts_faults = False
    lost = taken_lost = 0
    own_clear = nullcontext()

    def watch(self, target) -> None:
        """Nothing looks."""

    def drain_taken(self) -> tuple[Addresses, Masks]:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)

    drain_faults = drain_taken


class NoSharedProbes:
    """For a fleet without a kernel: nobody else clears anything."""

    attached = ()

    def of_one(self) -> NoSharedProbes:
        return self

    def close(self) -> None:
        """Nothing to detach."""


NO_INSTRUMENTS = Instruments(None, NoSharedProbes())  # type: ignore[arg-type]
"""For a fleet whose monitors are fakes."""


@dataclass
class Counts:
    """What was asked of the memory."""

    reads: int = 0
    windows_read: int = 0
    clears: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)


class FakeMemory:
    """A target whose pages a test touches.

    Args:
        size_bytes: Of the address space from BASE on, in which everything is mapped; a multiple of CHUNK.
        start_ns: The clock's first value.
    """

    def __init__(self, size_bytes: int = 64 * MIB, start_ns: int = 1000 * SECOND) -> None:
        assert size_bytes % CHUNK == 0
        pages = size_bytes // PAGE
        self.present, self.young, self.huge, self.shared, self.taken = (np.zeros(pages, bool) for _ in range(5))
        self.zero = np.zeros(pages, bool)
        """Pages that even a clear of all skips."""
        self.touched_ns = np.zeros(pages, np.int64)
        """Of each page: when it was last touched; 0: never."""
        self.times_cleared = np.zeros(pages, np.int64)
        self.counts = Counts()
        self.lost: set[int] = set()
        """Windows, by address, whose page tables change under every read."""
        self.is_gone = False
        self._now_ns = start_ns
        self._mappings: dict[int, Mapping] = {}

    # --- what tests do to it ---------------------------------------------------------------------------------------

    def map(self, address: int, size_bytes: int, name: str = "[anon]", *, populate: bool = True, huge: bool = False,
            clearable: bool = True, together: bool = False) -> None:
        """Map a range; populated memory is young, as after its first touch."""
        self._mappings[address] = Mapping(address, address + size_bytes, name, clearable, together=together)
        if populate:
            self.touch(address, size_bytes // PAGE)
        if huge:
            assert address % CHUNK == size_bytes % CHUNK == 0, "huge pages are aligned"
            self.huge[self.slice(address, size_bytes // PAGE)] = True

    def unmap(self, address: int) -> None:
        """Unmap the mapping that begins here."""
        mapping = self._mappings.pop(address)
        pages = self.slice(mapping.start, (mapping.end - mapping.start) // PAGE)
        for bits in (self.present, self.young, self.huge, self.shared, self.taken):
            bits[pages] = False

    def touch(self, address: int, pages: int = 1) -> None:
        """The target touches contiguous pages now; in a huge page, the one bit is that of all its pages."""
        chosen = self.slice(address, pages)
        self.present[chosen] = self.young[chosen] = True
        self.touched_ns[chosen] = self._now_ns
        chunks = np.unique(np.flatnonzero(self.huge[chosen]) + chosen.start) // CHUNK_PAGES
        for chunk in np.unique(chunks):
            self.young[chunk * CHUNK_PAGES : (chunk + 1) * CHUNK_PAGES] = True

    def share(self, address: int, pages: int) -> None:
        """The kernel skips these pages from now on: several processes map them."""
        self.shared[self.slice(address, pages)] = True

    def take(self, address: int, pages: int) -> None:
        """Another agent clears these pages' accessed bits, and a probe sees it: the next read shows them once."""
        chosen = self.slice(address, pages)
        self.taken[chosen] |= self.young[chosen]
        self.young[chosen] = False

    def page_out(self, address: int, pages: int) -> None:
        """The pages are not resident any more."""
        chosen = self.slice(address, pages)
        self.present[chosen] = self.young[chosen] = False

    def advance(self, time_ns: int) -> None:
        """Let time pass."""
        self._now_ns += time_ns

    def slice(self, address: int, pages: int) -> slice:
        """Positions of pages in the arrays."""
        first = (address - BASE) // PAGE
        assert address % PAGE == 0
        assert first >= 0
        assert first + pages <= len(self.present)
        return slice(first, first + pages)

    # --- Memory ----------------------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        return self._now_ns

    def mappings(self) -> list[Mapping]:
        self._check()
        return [self._mappings[start] for start in sorted(self._mappings)]

    def populated(self, spans: Addresses) -> Addresses:
        self._check()
        chunks = np.flatnonzero(self.present.reshape(-1, CHUNK_PAGES).any(axis=1)).astype(np.uint64)
        addresses = np.uint64(BASE) + chunks * np.uint64(CHUNK)
        inside = np.zeros(len(addresses), bool)
        for start, end in spans:
            inside |= (addresses + np.uint64(CHUNK) > start) & (addresses < end)
        return addresses[inside]

    def read_windows(self, addresses: Addresses) -> WindowRead:
        self._check()
        assert not (addresses % np.uint64(WINDOW)).any(), "windows are read at multiples of their size"
        self.counts.reads += 1
        self.counts.windows_read += len(addresses)
        rows = ((addresses - np.uint64(BASE)) // np.uint64(WINDOW)).astype(np.intp)
        present, young, huge = (_packed(bits)[rows] for bits in (self.present, self.young | self.taken, self.huge))
        self.taken.reshape(-1, WINDOW_PAGES)[rows] = False
        level = np.where(huge != 0, LEVEL_CHUNK, np.where(present != 0, LEVEL_PAGE, LEVEL_NONE)).astype(np.uint8)
        lost = np.array([int(address) in self.lost for address in addresses], bool)
        level[lost] |= LEVEL_LOST
        return WindowRead(np.where(lost, 0, young & present).astype(np.uint64),
                          np.where(lost, 0, present).astype(np.uint64), level, self._now_ns)

    def clear(self, ranges: Addresses) -> ClearResult:
        self._check()
        assert (ranges[:, 0] < ranges[:, 1]).all()
        assert (ranges[1:, 0] >= ranges[:-1, 1]).all(), "ranges are sorted and disjoint"
        self.counts.clears += 1
        refused = 0
        for start, end in ranges.tolist():
            self.counts.ranges.append((start, end))
            refused += not self._clear(start, end)
        return ClearResult(-(-len(ranges) // 128), refused)

    def _clear(self, start: int, end: int) -> bool:
        owners = [m for m in self._mappings.values() if m.start < end and start < m.end]
        if sum(min(m.end, end) - max(m.start, start) for m in owners) < end - start:
            return False
        if not all(m.clearable for m in owners):
            return False
        if any(m.together for m in owners):
            for m in self._mappings.values():
                if m.together:
                    self._clear_pages(self.slice(m.start, (m.end - m.start) // PAGE), self.zero)
            return True
        chosen = self.slice(start, (end - start) // PAGE)
        for edge in (chosen.start, chosen.stop):
            cut = edge % CHUNK_PAGES and self.huge[edge]
            assert not cut, f"a clear of {start:#x}-{end:#x} would split a huge page"
        self._clear_pages(chosen, self.shared)
        return True

    def _clear_pages(self, chosen: slice, skipped: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        pages = np.arange(chosen.start, chosen.stop)
        pages = pages[self.present[pages] & ~skipped[pages]]
        self.young[pages] = False
        self.times_cleared[pages] += 1

    def unclearable(self, addresses: Addresses, masks: Masks) -> Masks:
        rows = ((addresses - np.uint64(BASE)) // np.uint64(WINDOW)).astype(np.intp)
        together = np.array([any(m.together and m.start < address + WINDOW and address < m.end
                                 for m in self._mappings.values()) for address in addresses.tolist()], bool)
        return np.where(together, _packed(self.zero)[rows], _packed(self.shared)[rows]) & masks

    def rss_bytes(self) -> int:
        self._check()
        return int(self.present.sum()) * PAGE

    def _check(self) -> None:
        if self.is_gone:
            raise TargetGone("the target has exited")


def _packed(bits: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Masks:
    return np.packbits(bits.reshape(-1, WINDOW_PAGES), axis=1, bitorder="little").view("<u8").reshape(-1)


def watch(engine: Engine, memory: FakeMemory, program: Callable[[], None], *, intervals: int, probes: int = 16,
          patrol: int = 4096, sweep_pages: int = 1 << 20, steps: int = 20) -> Iterator[Snapshot]:
    """Aggregation intervals as the monitor runs them, the program's turn once each sampling interval.

    Args:
        engine: Measures `memory`.
        memory: Its clock is moved by one sampling interval after each turn of the program.
        program: What the target does.
        intervals: So many aggregation intervals.
        probes: As in plan.Limits.
        patrol: As in plan.Limits.
        sweep_pages: As in plan.Limits.
        steps: Sampling intervals of an aggregation interval.
    """
    for number in range(intervals):
        if number * steps % 200 == 0:
            engine.update()
        engine.sweep(sweep_pages)
        engine.begin(probes)
        for step in range(1, steps + 1):
            program()
            memory.advance(engine.options.sampling_ns)
            if step in (1, 4, 16, 64) and 2 * step < steps:
                engine.tick()
        yield engine.finish(patrol)
