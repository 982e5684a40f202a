# SPDX-License-Identifier: GPL-2.0-only
"""Folding: the address axis of a heatmap. Only mapped addresses, gaps between them folded away.

An address space is mostly hole: 128 TiB, of which a program maps a few GiB in a dozen places. The axis is made of
cells; groups of neighbouring mappings get cells by their size, small ones a minimum so that they can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagepulse.errors import PagepulseError
from pagepulse.model.snapshot import Snapshot

_NEAR_BYTES = 4 * 1024 * 1024
"""Parts of one mapping this close together (a library's text and data, stacks and their guards) are one group."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Every address that was ever mapped: n disjoint spans, sorted."""

    start: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]
    name: npt.NDArray[np.int64]
    """Shape (n,): index into `names`."""
    names: tuple[str, ...]


class SpanCollector:
    """Gathers the mappings of snapshots. Where they disagree on a name, the newest mapping's counts."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._runs: dict[tuple[int, int, int], None] = {}
        self._before: tuple[bytes, tuple[str, ...]] = (b"", ())

    def add(self, snapshot: Snapshot) -> None:
        """Take in one snapshot; nearly free if its mappings are those of the one before."""
        runs = _runs(snapshot)
        if (key := (runs.tobytes(), snapshot.mappings)) == self._before:
            return
        self._before = key
        for start, end, mapping in runs.tolist():
            name = self._names.setdefault(snapshot.mappings[mapping], len(self._names))
            run = (start, end, name)
            self._runs.pop(run, None)  # so that the newest comes last
            self._runs[run] = None

    def spans(self) -> Spans:
        """All that was gathered."""
        runs = np.array(list(self._runs), np.uint64).reshape(-1, 3)
        borders = np.unique(runs[:, :2])
        owner = np.full(max(len(borders) - 1, 0), -1, np.int64)
        first, last = np.searchsorted(borders, runs[:, 0]), np.searchsorted(borders, runs[:, 1])
        for i, j, name in zip(first.tolist(), last.tolist(), runs[:, 2].tolist(), strict=True):
            owner[i:j] = name
        breaks = np.flatnonzero(np.diff(owner, prepend=-2))  # stretches of one owner; -1 is nobody's
        ends = np.append(breaks[1:], len(owner))
        mine = owner[breaks] >= 0
        return Spans(borders[breaks[mine]], borders[ends[mine]], owner[breaks[mine]], tuple(self._names))


def _runs(snapshot: Snapshot) -> npt.NDArray[np.uint64]:
    """Shape (n, 3): start, end and mapping of the adjoining regions of one mapping."""
    regions = snapshot.regions
    if not len(regions):
        return np.zeros((0, 3), np.uint64)
    start, end, mapping = regions["start"], regions["end"], regions["mapping"]
    apart = (start[1:] != end[:-1]) | (mapping[1:] != mapping[:-1])
    first = np.concatenate(([0], np.flatnonzero(apart) + 1))
    last = np.append(first[1:], len(regions)) - 1
    return np.stack((start[first], end[last], mapping[first].astype(np.uint64)), axis=1)


@dataclass(frozen=True, slots=True)
class Group:
    """A stretch of the axis: one mapping, or neighbours too small to be told apart."""

    name: str
    """Of its largest mapping."""
    others: int
    """How many other names it holds."""
    start: int
    end: int
    """One past its last byte; it may have holes."""
    size_bytes: int
    """Mapped bytes."""
    first_cell: int
    cells: int


@dataclass(frozen=True, slots=True)
class Folding:
    """The axis. Between groups it is folded: they do not adjoin in memory, or are not of one mapping."""

    groups: tuple[Group, ...]
    cells: int
    _borders: npt.NDArray[np.float64]
    """Start and end of each span, in turn."""
    _border_cells: npt.NDArray[np.float64]
    """Where on the axis they lie."""

    def cell_of(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        """Where addresses lie on the axis, in cells."""
        return np.interp(addresses.astype(np.float64), self._borders, self._border_cells)

    def address_of(self, cell: int) -> int:
        """The first address of a cell."""
        span = max(int(np.searchsorted(self._border_cells[::2], cell, "right")) - 1, 0)
        start, end = self._borders[2 * span:2 * span + 2]
        first, last = self._border_cells[2 * span:2 * span + 2]
        return int(start + (end - start) * (cell - first) / (last - first)) // 4096 * 4096

    def group_of(self, cell: int) -> Group:
        """The group that a cell belongs to."""
        return next(group for group in reversed(self.groups) if group.first_cell <= cell)


def fold(spans: Spans, cells: int, *, min_cells: int = 1, max_groups: int | None = None) -> Folding:
    """Lay these spans out on an axis.

    Args:
        spans: What is mapped.
        cells: How long the axis is. Raised to what the groups need at least.
        min_cells: What the smallest group gets.
        max_groups: Small neighbours share a group until no more are left; as many as fit, unless given.

    Raises:
        PagepulseError: Nothing is mapped.
    """
    if not len(spans.start):
        raise PagepulseError("there is nothing to draw", why="no snapshot of the recording has a region")
    max_groups = max(1, min(max_groups or cells, cells // min_cells))
    firsts = _group(spans, max_groups)
    sizes = (spans.end - spans.start).astype(np.float64)
    group_sizes = np.add.reduceat(sizes, firsts)
    widths = _widths(group_sizes, cells, min_cells)
    offsets = np.concatenate(([0], np.cumsum(widths)))
    groups = []
    border_cells = np.zeros(2 * len(sizes))
    for i, (first, last) in enumerate(zip(firsts, [*firsts[1:], len(sizes)], strict=True)):
        inside = offsets[i] + np.concatenate(([0], np.cumsum(sizes[first:last]))) * widths[i] / group_sizes[i]
        border_cells[2 * first:2 * last] = np.stack((inside[:-1], inside[1:]), axis=1).reshape(-1)
        largest = first + int(sizes[first:last].argmax())
        groups.append(Group(
            spans.names[int(spans.name[largest])], len(np.unique(spans.name[first:last])) - 1, int(spans.start[first]),
            int(spans.end[last - 1]), int(group_sizes[i]), int(offsets[i]), int(widths[i])))
    borders = np.stack((spans.start, spans.end), axis=1).reshape(-1).astype(np.float64)
    return Folding(tuple(groups), int(offsets[-1]), borders, border_cells)


def _group(spans: Spans, max_groups: int) -> npt.NDArray[np.int64]:
    """The first span of each group."""
    apart = (spans.name[1:] != spans.name[:-1]) | (spans.start[1:] - spans.end[:-1] > _NEAR_BYTES)
    firsts = np.concatenate(([0], np.flatnonzero(apart) + 1))
    while len(firsts) > max_groups:
        sizes = np.add.reduceat(spans.end - spans.start, firsts)
        limits = np.unique(sizes)
        low, high = 0, len(limits) - 1
        while low < high:  # the smallest limit below which small neighbours must join
            middle = (low + high) // 2
            low, high = (low, middle) if _joined(sizes, limits[middle]).sum() <= max_groups else (middle + 1, high)
        joined = firsts[_joined(sizes, limits[low])]
        if len(joined) == len(firsts) or low == len(limits) - 1:
            joined = firsts[::2]  # all alike: join them by twos
        firsts = joined
    return firsts


def _joined(sizes: npt.NDArray[np.uint64], limit: np.uint64) -> npt.NDArray[np.bool_]:
    """Which groups begin one if those no larger than the limit join their small neighbours."""
    small = sizes <= limit
    begins = np.ones(len(sizes), np.bool_)
    begins[1:] = ~(small[1:] & small[:-1])
    return begins


def _widths(sizes: npt.NDArray[np.float64], cells: int, min_cells: int) -> npt.NDArray[np.int64]:
    """Whole cells for each group: by size, none below the minimum, all together `cells`."""
    widths = np.full(len(sizes), min_cells, np.int64)
    large = np.ones(len(sizes), np.bool_)
    while True:  # what is below the minimum takes it; the others share the rest
        rest = cells - min_cells * int((~large).sum())
        share = sizes * rest / max(float(sizes[large].sum()), 1.0)
        if not (large & (share < min_cells)).any():
            break
        large &= share >= min_cells
    if not large.any():
        return widths
    ends = np.floor(np.cumsum(share[large]) + 0.5)  # not np.round: it rounds halves to even, and a cell gets lost
    widths[large] = np.diff(ends, prepend=0).astype(np.int64)
    return widths
