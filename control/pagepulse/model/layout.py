# SPDX-License-Identifier: GPL-2.0-only
"""Layout: where windows lie.

Everywhere in a target that is small enough; in a larger one spread evenly over it, and everywhere only in those chunks
where it matters what lies between two of them (*dense* chunks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import CHUNK, PAGE, WINDOW, WINDOWS_PER_CHUNK, Addresses, Mapping

_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)  # golden ratio * 2^64, modulo 2^64: for windows
_ROOT_2 = np.uint64(0x6A09_E667_F3BC_C909)  # square root of 2, likewise: for chunks, so that the two are independent
_SMALL_SHARE = 0.125  # of the windows may be the only ones of small mappings
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

NO_CHUNKS: Addresses = np.empty(0, np.uint64)


class Layout(NamedTuple):
    """Windows of a target, sorted by where they begin: shape (w,) each."""

    tile: Addresses
    """Address to read at, a multiple of WINDOW."""
    mapping: npt.NDArray[np.intp]
    """Index of the mapping that the window lies in."""
    weight: npt.NDArray[np.float64]
    """For how many windows, itself included, it stands."""
    drawn: npt.NDArray[np.float64]
    """For how many it stood when windows were spread over the target; 0 if it was laid because of what others saw."""


def spread(mappings: Sequence[Mapping], chunks: Addresses, limit: int) -> Layout:
    """About `limit` windows at most, evenly spread; all there are if these are fewer.

    Windows are chosen by their address alone, so that others may come and go, and what is chosen under one limit is
    chosen under a higher one, too.

    Args:
        mappings: The target's mappings, sorted.
        chunks: The populated chunks among them, sorted.
        limit: Windows.
    """
    every = 1  # one chunk in so many; where one window of each chunk would be too many
    while len(chunks) > limit * every:
        every *= 2
    some = chunks if every == 1 else chunks[chunks // np.uint64(CHUNK) * _ROOT_2 <= _ALL // np.uint64(every)]
    tile, mapping, first = _windows_of(mappings, some)
    within = 1  # and there, one window in so many
    while len(tile) > limit * within:
        within *= 2
    # Small mappings share a tile: what tells their windows apart is the page where they begin.
    places = first // np.uint64(WINDOW) + first % np.uint64(WINDOW) // np.uint64(PAGE)
    chosen = places * _GOLDEN <= _ALL // np.uint64(within)
    weight = np.full(int(chosen.sum()), float(every * within))
    layout = Layout(tile[chosen], mapping[chosen], weight, weight)
    return _with_small_ones(layout, tile, mapping, every, within, limit)


def _with_small_ones(layout: Layout, tile: Addresses, mapping: npt.NDArray[np.intp], every: int, within: int,
                     limit: int) -> Layout:
    """The layout, with one window of each mapping that may have none by chance: else it would seem to be nothing.

    Where such mappings are too many for that, those that were drawn stand for the others.

    Args:
        layout: What is spread.
        tile: All windows of the chunks that were chosen from.
        mapping: Of each of them.
        every: One chunk in so many was.
        within: And one window in so many of these.
        limit: Windows.
    """
    first = np.flatnonzero(np.diff(mapping, prepend=-1))
    count = np.diff(np.append(first, len(mapping)))
    small = count < within
    if not small.any() or int(small.sum()) > limit * _SMALL_SHARE:
        return layout
    middle = (first + count // 2)[small]
    weight = (count[small] * every).astype(np.float64)
    others = ~np.isin(layout.mapping, mapping[middle])
    ones = Layout(tile[middle], mapping[middle], weight, weight)
    return _sorted(_some(layout, others), ones)


def _some(layout: Layout, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Layout:
    """Windows of a layout, by a mask or in another order."""
    return Layout(layout.tile[which], layout.mapping[which], layout.weight[which], layout.drawn[which])


def _sorted(one: Layout, other: Layout) -> Layout:
    """Both in one, by address."""
    tile, mapping, weight, drawn = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    return _some(Layout(tile, mapping, weight, drawn), np.lexsort((mapping, tile)))


def with_dense(layout: Layout, mappings: Sequence[Mapping], dense: Addresses) -> Layout:
    """The layout, with every window of some chunks.

    Args:
        layout: What is spread.
        mappings: The target's mappings, sorted.
        dense: Addresses of chunks, sorted.
    """
    if not len(dense):
        return layout
    tile, mapping, _ = _windows_of(mappings, dense)
    position = np.maximum(np.searchsorted(dense, layout.tile, side="right") - 1, 0)
    inside = dense[position] == layout.tile // np.uint64(CHUNK) * np.uint64(CHUNK)
    drawn, before = np.zeros(len(tile)), _some(layout, inside)
    low = np.searchsorted(tile, before.tile)
    drawn[low + (before.mapping - mapping[low])] = before.drawn  # mappings that share a tile follow one another
    return _sorted(_some(layout, ~inside), Layout(tile, mapping, np.ones(len(tile)), drawn))


def among(chunks: Addresses, populated: Addresses) -> Addresses:
    """Those of the chunks that are populated; both sorted."""
    if not len(populated):
        return NO_CHUNKS
    position = np.minimum(np.searchsorted(populated, chunks), len(populated) - 1)
    found: Addresses = chunks[populated[position] == chunks]
    return found


def _windows_of(mappings: Sequence[Mapping], chunks: Addresses) -> tuple[Addresses, npt.NDArray[np.intp], Addresses]:
    """All windows of the mappings in these chunks: tile, mapping, and first byte that belongs to the mapping."""
    starts = np.array([m.start for m in mappings], np.uint64)
    ends = np.array([m.end for m in mappings], np.uint64)
    tiles = (chunks[:, None] + np.arange(WINDOWS_PER_CHUNK, dtype=np.uint64) * np.uint64(WINDOW)).reshape(-1)
    low = np.searchsorted(tiles, starts // np.uint64(WINDOW) * np.uint64(WINDOW))
    count = np.searchsorted(tiles, ends) - low
    owner = np.repeat(np.arange(len(mappings)), count)
    tile = tiles[np.arange(count.sum()) + np.repeat(low - (np.cumsum(count) - count), count)]
    return tile, owner, np.maximum(tile, starts[owner])
