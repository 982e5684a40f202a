# SPDX-License-Identifier: GPL-2.0-only
"""Structure: where regions begin and end. Merge what cannot be told apart, cut where windows disagree, at that place.

What is compared is the rate of touches that windows have seen: touches, and the time of watching they came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pagepulse.model import regions as region_model
from pagepulse.model.evidence import Floats, Sums, island_gains, rate_log_likelihood, split_gains
from pagepulse.model.memory import CHUNK, WINDOWS_PER_CHUNK, Addresses, Mapping
from pagepulse.model.observation import Indices
from pagepulse.model.regions import Rows, Seen
from pagepulse.model.tally import sums_between
from pagepulse.model.windows import Windows

SPLIT_ABOVE = 20.0
"""G (see evidence.py) above which a region is cut in two."""

_ROUNDS = 4  # of cuts, each in what the round before has made
_ISLANDS = (1, 4, 16, 64)  # windows
_ISLANDS_A_ROUND = 1024  # candidates, the clearest first


def edges_of(regions: Rows, windows: Windows) -> Indices:
    """First window of each region, and how many windows there are: shape (n + 1,).

    A window is in the region that its first byte lies in. Windows are sorted: what belongs to a region follows from
    two edges, and sums over regions need nothing else (`tally.sums_between`).
    """
    if not len(regions):
        return np.zeros(1, np.intp)
    edges = np.searchsorted(windows.first, regions["start"][1:])  # of the few in the many: not the other way round
    return np.concatenate(([0], edges, [len(windows)]))


def owners(edges: Indices) -> Indices:
    """Region of each window, shape (w,)."""
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges))


def restructured(regions: Rows, windows: Windows, bounds: tuple[int, int], now_ns: int) -> Rows:
    """The regions, merged and cut anew.

    Args:
        regions: dtype regions.STATE.
        windows: All windows.
        bounds: How many regions at least, and at most.
        now_ns: Ages are compared at this time.
    """
    result = region_model.merge(regions, _seen(regions, windows), now_ns, *bounds)
    for _ in range(_ROUNDS):
        cuts = _cuts(result, windows, bounds[1] - len(result))
        if not len(cuts):
            break
        result = region_model.doubted(region_model.split_at(result, cuts), result)
        # What stood out in a region may be like the other half of it, once that is cut in two.
        result = region_model.merge(result, _seen(result, windows), now_ns, *bounds)
    if len(result) != len(regions) or not np.array_equal(result["start"], regions["start"]):
        _share_out_wakes(result, windows)
    return result


def _seen(regions: Rows, windows: Windows) -> Seen:
    """What windows of each region have seen."""
    edges, seen = edges_of(regions, windows), windows.witness * np.stack((windows.touches, windows.exposure_ns))
    bounded = sums_between(seen * windows.bounded, edges)
    return Seen(*sums_between(seen * ~windows.bounded, edges), *bounded)


def _seen_of_windows(windows: Windows, edges: Indices, owner: Indices) -> tuple[Floats, Floats]:
    """Touches and exposure of each window: none of one whose bound its region's rate keeps, for that says nothing."""
    sure = ~windows.bounded
    touches, exposure_ns = sums_between(np.stack((windows.touches, windows.exposure_ns)) * sure, edges)
    tells = sure | (windows.touches * exposure_ns[owner] > windows.exposure_ns * touches[owner])
    return windows.touches * tells, windows.exposure_ns * tells


class Scale(NamedTuple):
    """What to multiply the pages of each region's windows with, weighted: shape (n,) each."""

    own: Floats
    """To get those of the region."""
    drawn: Floats
    """To get those that its drawn windows stand for."""
    hits: Floats
    """Drawn windows in it."""
    bare: Floats
    """Populated bytes of regions in which no window lies: nothing is known of them."""


def scale_of(windows: Windows, regions: Rows, edges: Indices, mappings: Sequence[Mapping], chunks: Addresses) -> Scale:
    """How pages of windows become those of regions.

    1 where windows lie everywhere. Where they lie apart, a small region would be taken for as large as the windows that
    found it say, which were there by chance: its populated bytes are known, though (a ratio estimate: W. G. Cochran,
    "Sampling Techniques", 1977, chapter 6).

    Args:
        windows: All windows.
        regions: dtype regions.STATE.
        edges: Of these, as `edges_of` gives them.
        mappings: The target's mappings, sorted.
        chunks: The populated chunks, sorted.
    """
    count, apart = len(regions), windows.weight > 1
    if not apart.any():
        return Scale(np.ones(count), np.ones(count), np.full(count, np.inf), np.zeros(count))
    sizes = (windows.last - windows.first).astype(np.float64)
    seen_bytes = np.maximum(sums_between(windows.weight * sizes, edges), 1)
    populated_bytes = _populated_below(regions["end"], chunks) - _populated_below(regions["start"], chunks)
    # Regions of many small mappings hold gaps between them, in chunks that are populated all the same.
    mapped_bytes = _mapped_below(regions["end"], mappings) - _mapped_below(regions["start"], mappings)
    populated_bytes *= mapped_bytes / (regions["end"] - regions["start"])
    is_sample = sums_between(apart.astype(np.float64), edges) > 0
    own = np.where(is_sample, populated_bytes / seen_bytes, 1.0)
    drawn = sums_between(windows.drawn * sizes, edges) / seen_bytes
    hits = sums_between((windows.drawn > 0).astype(np.float64), edges)
    return Scale(own, drawn, hits, np.where(np.diff(edges) == 0, populated_bytes, 0.0))


def _mapped_below(addresses: Addresses, mappings: Sequence[Mapping]) -> Floats:
    """Bytes of mappings below each address."""
    starts, ends = (np.array([getattr(m, side) for m in mappings], np.uint64) for side in ("start", "end"))
    before = np.concatenate(([0.0], np.cumsum((ends - starts).astype(np.float64))))
    position = np.searchsorted(starts, addresses, side="right")
    last = np.maximum(position - 1, 0)
    within = np.minimum(addresses, ends[last]) - np.minimum(starts[last], addresses)
    below: Floats = before[last] + np.where(position > 0, within.astype(np.float64), 0.0)
    return below


def _populated_below(addresses: Addresses, chunks: Addresses) -> Floats:
    """Bytes of populated chunks below each address."""
    position = np.searchsorted(chunks, addresses, side="right")
    last = chunks[np.maximum(position - 1, 0)]
    within = np.where(position > 0, np.minimum(addresses - last, np.uint64(CHUNK)), np.uint64(0))
    below: Floats = np.maximum(position - 1, 0) * float(CHUNK) + within
    return below


def between_regions(windows: Windows, owner: Indices, limit: int) -> Addresses:
    """Chunks that lie between the last window of a region and the first of the next, where these lie apart.

    Args:
        windows: All windows.
        owner: Region of each window.
        limit: Windows that may be laid there at most; the narrowest gaps come first.

    Returns:
        Addresses of chunks, sorted.
    """
    edge = np.flatnonzero((owner[1:] != owner[:-1]) & (windows.mapping[1:] == windows.mapping[:-1]))
    first = windows.tile[edge] // np.uint64(CHUNK)
    count = (windows.tile[edge + 1] // np.uint64(CHUNK) - first).astype(np.int64) + 1
    apart = windows.first[edge + 1] > windows.last[edge]
    first, count = first[apart], count[apart]
    order = np.argsort(count, kind="stable")
    order = order[np.cumsum(count[order]) <= limit // WINDOWS_PER_CHUNK]
    first, count = first[order], count[order]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.unique((np.repeat(first, count) + within.astype(np.uint64)) * np.uint64(CHUNK))


def _share_out_wakes(regions: Rows, windows: Windows) -> None:
    """Give each region the wakes of its own windows: a cut region's parts would otherwise inherit each other's."""
    own = np.stack((windows.touches, windows.exposure_ns)) * (windows.watched != 0)
    regions["wakes"], regions["watch_ns"] = sums_between(own, edges_of(regions, windows))


def _cuts(regions: Rows, windows: Windows, room: int) -> Addresses:
    """Where to cut: around islands, and where the two parts of a region disagree most; at most `room` addresses."""
    if room <= 0:
        return np.empty(0, np.uint64)
    edges = edges_of(regions, windows)
    owner = owners(edges)
    touches, exposure = _seen_of_windows(windows, edges, owner)
    # Most regions have seen no touch at all: there is nothing to cut in them.
    active = np.flatnonzero((sums_between(touches, edges) > 0)[owner])
    if not len(active):
        return np.empty(0, np.uint64)
    touches, exposure = touches[active] * windows.witness[active], exposure[active] * windows.witness[active]
    first = np.flatnonzero(np.concatenate(([True], owner[active[1:]] != owner[active[:-1]])))
    sums = Sums.of(touches, exposure, first, rate_log_likelihood)
    before = np.concatenate((_island_edges(sums), _best_cuts(sums, first)))
    _, one_each = np.unique(before, return_index=True)
    cuts: Addresses = windows.first[active[before[np.sort(one_each)][:room]]]
    return cuts


def _best_cuts(sums: Sums, first: Indices) -> Indices:
    """In each region the window before which to cut, if its two parts disagree."""
    gains = split_gains(sums)
    best = np.maximum.reduceat(gains, first)
    behind = np.flatnonzero((gains == best[sums.owner]) & (gains > SPLIT_ABOVE))
    _, one_each = np.unique(sums.owner[behind], return_index=True)
    after: Indices = behind[one_each] + 1
    return after


def _island_edges(sums: Sums) -> Indices:
    """Where islands begin and end, the clearest first. Islands of several sizes are tried; they do not overlap."""
    found = []
    for length in _ISLANDS:
        gains = island_gains(sums, length)
        begin = np.flatnonzero(gains > SPLIT_ABOVE)
        after = (begin + 1) % len(gains)
        begin = begin[(gains[begin] >= gains[begin - 1]) & (gains[begin] >= gains[after])]
        found.append((gains[begin], begin, np.full(len(begin), length)))
    gain, starts, lengths = (np.concatenate(column) for column in zip(*found, strict=True))
    clearest = np.argsort(-gain, kind="stable")[:_ISLANDS_A_ROUND]
    taken, edges = bytearray(len(sums.owner)), []  # one by one: bytes are several times as quick at that as arrays
    for start, length in zip(starts[clearest].tolist(), lengths[clearest].tolist(), strict=True):
        if taken.find(1, start, start + length) < 0:
            taken[start : start + length] = bytes([1]) * length
            edges += [start, start + length]
    # What follows a region's last window is another region: there is an edge already.
    return np.array([edge for edge in edges if edge < len(sums.owner)], np.intp)
