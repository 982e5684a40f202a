# SPDX-License-Identifier: GPL-2.0-only
"""Access patterns: how often each page of an area is touched, as exact functions of the page number.

Pages are numbered from the start of their area. A still pattern does not change; Phases plays still ones in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pagepulse.errors import UsageError
from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.simulate.touches import Floats, Pages

CHUNK_PAGES = CHUNK // PAGE

SPAN = np.dtype([
    ("start", "<i8"),  # first page
    ("end", "<i8"),  # one past the last page
    ("rate_hz", "<f8"),  # touches a second of one page
    ("share", "<f8"),  # of the pages in the span that are touched at that rate, evenly spread; the others never are
])
"""Pages touched at one rate. Spans of a pattern are sorted, do not overlap and leave out what is never touched."""

Spans = npt.NDArray[np.void]


class Still(Protocol):
    """A pattern that does not change."""

    def rates(self, pages: Pages) -> Floats:
        """Touches a second of each page."""
        ...

    def uniform(self, first: Pages, count: int) -> Floats:
        """The rate that `count` pages from each `first` share; nan where they differ (or might)."""
        ...

    def mass(self, pages: Pages) -> Floats:
        """Touches a second of all pages before each page together."""
        ...

    def spans(self) -> Spans:
        """The whole truth, dtype SPAN."""
        ...


class Ranges:
    """Contiguous ranges of pages, each with its rate; pages outside are never touched.

    Args:
        borders: Shape (n + 1,), ascending page numbers.
        rates_hz: Shape (n,): rate between each border and the next.
    """

    def __init__(self, borders: Sequence[int] | Pages, rates_hz: Sequence[float] | Floats) -> None:
        inner = np.asarray(borders, np.int64)
        rates = np.asarray(rates_hz, np.float64)
        if inner.size != rates.size + 1 or (np.diff(inner) <= 0).any() or inner[0] < 0 or (rates < 0).any():
            raise UsageError("the ranges of a pattern must be ascending, with one rate of at least 0 each")
        self._borders = inner
        self._rates = np.concatenate([[0.0], rates, [0.0]])  # one for below the first border, one for above the last
        self._mass = np.concatenate([[0.0], np.cumsum(np.diff(inner) * rates)])

    def rates(self, pages: Pages) -> Floats:
        """Touches a second of each page."""
        rates: Floats = self._rates[np.searchsorted(self._borders, pages, "right")]
        return rates

    def uniform(self, first: Pages, count: int) -> Floats:
        """The rate that `count` pages from each `first` share; nan where a border is between them."""
        at = np.searchsorted(self._borders, first, "right")
        same = at == np.searchsorted(self._borders, first + (count - 1), "right")
        rates: Floats = np.where(same, self._rates[at], np.nan)
        return rates

    def mass(self, pages: Pages) -> Floats:
        """Touches a second of all pages before each page together."""
        mass: Floats = np.interp(pages, self._borders, self._mass)
        return mass

    def spans(self) -> Spans:
        """The whole truth, dtype SPAN."""
        return _spans(self._borders[:-1], self._borders[1:], self._rates[1:-1])


class PerChunk:
    """One rate for each run of `chunk_pages` pages, a multiple of 64.

    Args:
        rates_hz: Shape (n,), rate of one page in each run, in order of address.
        chunk_pages: Pages of a run.
    """

    def __init__(self, rates_hz: Floats, chunk_pages: int = CHUNK_PAGES) -> None:
        if chunk_pages % 64 or chunk_pages <= 0:
            raise UsageError("the runs of a pattern must be multiples of 64 pages")
        self._rates = rates_hz.astype(np.float32)  # 5 TiB in chunks: 10 MiB
        self._chunk_pages = chunk_pages

    def rates(self, pages: Pages) -> Floats:
        """Touches a second of each page."""
        rates: Floats = self._rates[self._run_of(pages)].astype(np.float64)
        return rates

    def _run_of(self, pages: Pages) -> Pages:
        return np.clip(pages // self._chunk_pages, 0, self._rates.size - 1)

    def uniform(self, first: Pages, count: int) -> Floats:
        """The rate that `count` pages from each `first` share; nan where they are not in one run."""
        at = self._run_of(first)
        return np.where(at == self._run_of(first + (count - 1)), self._rates[at].astype(np.float64), np.nan)

    @cached_property
    def _mass(self) -> Floats:
        return np.concatenate([[0.0], np.cumsum(self._rates, dtype=np.float64)]) * self._chunk_pages

    def mass(self, pages: Pages) -> Floats:
        """Touches a second of all pages before each page together."""
        mass: Floats = np.interp(pages / self._chunk_pages, np.arange(self._mass.size), self._mass)
        return mass

    def spans(self) -> Spans:
        """The whole truth, dtype SPAN; neighbours of the same rate are one span."""
        cuts = np.flatnonzero(np.diff(self._rates)) + 1
        firsts = np.concatenate([[0], cuts])
        ends = np.concatenate([cuts, [self._rates.size]])
        return _spans(firsts * self._chunk_pages, ends * self._chunk_pages, self._rates[firsts].astype(np.float64))


@dataclass(frozen=True)
class Stride:
    """Every `stride`-th page of the area, beginning with the first, at one rate."""

    pages: int
    """Pages of the area."""
    stride: int
    rate_hz: float

    def rates(self, pages: Pages) -> Floats:
        """Touches a second of each page."""
        return np.where(pages % self.stride == 0, self.rate_hz, 0.0)

    def uniform(self, first: Pages, count: int) -> Floats:
        """0 where none of the pages is touched, else nan; the rate itself only for a stride of 1."""
        if self.stride == 1:
            return np.full(first.size, self.rate_hz)
        return np.where(-first % self.stride >= count, 0.0, np.nan)

    def mass(self, pages: Pages) -> Floats:
        """Touches a second of all pages before each page together."""
        return (-(-pages // self.stride)).astype(np.float64) * self.rate_hz

    def spans(self) -> Spans:
        """The whole truth, dtype SPAN: one span, of which one page in `stride` is touched."""
        result = _spans(np.array([0]), np.array([self.pages]), np.array([self.rate_hz]))
        result["share"] = -(-self.pages // self.stride) / self.pages
        return result


@dataclass(frozen=True)
class Phases:
    """Still patterns in turn, each for its time, from time 0 on and again from the start after the last."""

    parts: tuple[tuple[int, Still], ...]
    """Duration in nanoseconds, and the pattern."""

    def __post_init__(self) -> None:
        if not self.parts or any(duration_ns <= 0 for duration_ns, _ in self.parts):
            raise UsageError("a pattern in phases needs at least one, each longer than 0")

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([duration_ns for duration_ns, _ in self.parts])

    def epochs(self, from_ns: int, to_ns: int) -> Iterator[Epoch]:
        """What holds in [from_ns, to_ns), the newest first."""
        cycle_ns = int(self._ends[-1])
        at_ns = to_ns
        while at_ns > from_ns:
            turn, inside = divmod(at_ns - 1, cycle_ns)
            index = int(np.searchsorted(self._ends, inside, "right"))
            duration_ns, part = self.parts[index]
            begin_ns = turn * cycle_ns + int(self._ends[index]) - duration_ns
            yield Epoch(part, max(begin_ns, from_ns), at_ns, turn * len(self.parts) + index)
            at_ns = begin_ns


Pattern = Still | Phases


class Epoch(NamedTuple):
    """A time in which one still pattern holds."""

    pattern: Still
    begin_ns: int
    end_ns: int
    number: int


def epochs(pattern: Pattern, from_ns: int, to_ns: int) -> Iterator[Epoch]:
    """What holds in [from_ns, to_ns), the newest first."""
    if isinstance(pattern, Phases):
        yield from pattern.epochs(from_ns, to_ns)
    elif to_ns > from_ns:
        yield Epoch(pattern, from_ns, to_ns, 0)


def _spans(starts: Pages, ends: Pages, rates_hz: Floats) -> Spans:
    result = np.zeros(starts.size, SPAN)
    result["start"], result["end"], result["rate_hz"], result["share"] = starts, ends, rates_hz, 1.0
    return result[rates_hz > 0]


def pages_of(size_bytes: int) -> int:
    """Pages of a size, which must be whole pages."""
    if size_bytes <= 0 or size_bytes % PAGE:
        raise UsageError(f"a simulated size must be a multiple of {PAGE} bytes, not {size_bytes}")
    return size_bytes // PAGE


def hot_set(size_bytes: int, hot_bytes: int, rate_hz: float, *, offset_bytes: int | None = None, seed: int = 0,
            cold_hz: float = 0.0) -> Ranges:
    """One contiguous hot set; everything else is touched at `cold_hz`. By default it lies where the seed says."""
    room = size_bytes - hot_bytes
    if room < 0 or hot_bytes <= 0:
        raise UsageError("the hot set must be larger than nothing and no larger than the area")
    if offset_bytes is None:
        offset_bytes = int(np.random.default_rng(seed).integers(0, room // PAGE + 1)) * PAGE
    return _hot_ranges(pages_of(size_bytes), np.array([offset_bytes // PAGE]), pages_of(hot_bytes), rate_hz, cold_hz)


def hot_spots(size_bytes: int, spot_bytes: int, spots: int, rate_hz: float, *, seed: int = 0, cold_hz: float = 0.0
              ) -> Ranges:
    """Hot spots of one size, scattered by the seed so that they do not overlap."""
    room = pages_of(size_bytes) - spots * pages_of(spot_bytes)
    if room < 0 or spots <= 0:
        raise UsageError("the hot spots do not fit into the area")
    gaps = np.sort(np.random.default_rng(seed).integers(0, room + 1, spots))
    starts = gaps + np.arange(spots) * pages_of(spot_bytes)
    return _hot_ranges(pages_of(size_bytes), starts, pages_of(spot_bytes), rate_hz, cold_hz)


def _hot_ranges(pages: int, starts: Pages, hot_pages: int, rate_hz: float, cold_hz: float) -> Ranges:
    borders = np.unique(np.concatenate([[0], starts, starts + hot_pages, [pages]]))
    at = np.searchsorted(starts, borders[:-1], "right") - 1
    hot = (at >= 0) & (borders[:-1] < starts[np.maximum(at, 0)] + hot_pages)
    return Ranges(borders, np.where(hot, rate_hz, cold_hz))


def moving_hot_set(size_bytes: int, hot_bytes: int, rate_hz: float, *, dwell_ns: int, step_bytes: int | None = None,
                   cold_hz: float = 0.0) -> Phases:
    """A hot set that stays for `dwell_ns`, moves on by `step_bytes` (its own size), and begins again at the end."""
    step = step_bytes or hot_bytes
    offsets = range(0, size_bytes - hot_bytes + 1, step)
    return Phases(tuple((dwell_ns, hot_set(size_bytes, hot_bytes, rate_hz, offset_bytes=offset, cold_hz=cold_hz))
                        for offset in offsets))


def zipf(size_bytes: int, touches_hz: float, *, exponent: float = 0.99, chunk_bytes: int = CHUNK, permuted: bool = True,
         seed: int = 0) -> PerChunk:
    """Chunk number r of n gets a share of all touches that falls as 1 / r**exponent.

    Args:
        size_bytes: Of the area.
        touches_hz: Page touches a second of the whole area.
        exponent: 0.99 is what YCSB uses.
        chunk_bytes: A multiple of 64 pages.
        permuted: Hot chunks lie scattered by the seed; otherwise the hottest comes first and the coldest last.
        seed: Of the permutation.
    """
    chunks = -(-pages_of(size_bytes) // pages_of(chunk_bytes))
    weights = np.arange(1, chunks + 1, dtype=np.float64) ** -exponent
    weights *= touches_hz / weights.sum() / pages_of(chunk_bytes)
    if permuted:
        np.random.default_rng(seed).shuffle(weights)
    return PerChunk(weights, pages_of(chunk_bytes))
