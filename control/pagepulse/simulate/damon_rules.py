# SPDX-License-Identifier: GPL-2.0-only
"""The rules by which DAMON adjusts its regions and intervals, one function each. Source: mm/damon/core.c, vaddr.c.

Integer arithmetic is the kernel's: divisions round down, as they do there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, Mapping

DAMON_REGION = np.dtype([
    ("start", "<i8"),  # first byte
    ("end", "<i8"),  # one past the last byte
    ("nr_accesses", "<i8"),  # samples of this aggregation interval that found the page touched
    ("last_nr_accesses", "<i8"),  # of the aggregation interval before
    ("age", "<i8"),  # aggregation intervals since the pattern changed
])
"""struct damon_region, without what only schemes use."""

Regions = npt.NDArray[np.void]


def new_regions(spans: Sequence[tuple[int, int]]) -> Regions:
    """Regions that have seen nothing yet."""
    result = np.zeros(len(spans), DAMON_REGION)
    result["start"], result["end"] = [start for start, _ in spans], [end for _, end in spans]
    return result


def three_regions(mappings: Sequence[Mapping]) -> list[tuple[int, int]]:
    """From the first mapping to the last, without the two largest gaps (damon_va_three_regions).

    The kernel gives up where there are no two gaps; a simulated target may have fewer.
    """
    gaps = [(b.start - a.end, a.end, b.start) for a, b in pairwise(mappings) if b.start > a.end]
    largest = sorted(sorted(gaps, reverse=True)[:2], key=lambda gap: gap[1])
    starts = [mappings[0].start, *(gap[2] for gap in largest)]
    ends = [*(gap[1] for gap in largest), mappings[-1].end]
    return list(zip(starts, ends, strict=True))


def size_limit(regions: Regions, min_nr_regions: int, min_region_bytes: int = PAGE) -> int:
    """The size that no region may exceed by merging (damon_region_sz_limit)."""
    return max(int((regions["end"] - regions["start"]).sum()) // min_nr_regions, min_region_bytes)


def split_to_limit(regions: Regions, limit_bytes: int) -> Regions:
    """Cut each region into parts of the limit and a rest (damon_apply_min_nr_regions). The limit is whole pages."""
    count = -(-(regions["end"] - regions["start"]) // limit_bytes)
    result = np.repeat(regions, count)
    nth = np.arange(result.size) - np.repeat(np.cumsum(count) - count, count)
    result["start"] += nth * limit_bytes
    result["end"] = np.minimum(result["start"] + limit_bytes, result["end"])
    return result


def sample_addresses(regions: Regions, rng: np.random.Generator, *, modulo_4gib: bool) -> npt.NDArray[np.uint64]:
    """One random page of each region: shape (n,), addresses of pages.

    Args:
        regions: Where.
        rng: The source of chance.
        modulo_4gib: As kernels before mid-2026: damon_rand() takes the size as 32 bits, so that of a region above 4 GiB
            only the first (size modulo 4 GiB) bytes are ever sampled.
    """
    sizes = regions["end"] - regions["start"]
    if modulo_4gib:
        sizes = sizes % 2**32
        sizes[sizes == 0] = 2**32  # get_random_u32_below(0) is any u32
    pages: npt.NDArray[np.int64] = (regions["start"] + rng.integers(0, sizes)) // PAGE
    return pages.astype(np.uint64) * np.uint64(PAGE)


def update_ages(regions: Regions, threshold: int) -> None:
    """Reset the age where the pattern changed, by more than the threshold or to or from nothing; else count on."""
    now, before = regions["nr_accesses"], regions["last_nr_accesses"]
    changed = (np.abs(now - before) > threshold) | ((now == 0) != (before == 0))
    regions["age"] = np.where(changed, 0, regions["age"] + 1)


def merge_once(regions: Regions, threshold: int, limit_bytes: int) -> Regions:
    """One pass from left to right (damon_merge_regions_of), without the ages.

    Each region joins what stands before it if they touch, differ by no more than the threshold, and are together no
    larger than the limit. Counts and ages are averages weighted by size; last_nr_accesses is that of the first.
    """
    merged: list[list[int]] = []
    for start, end, accesses, last, age in regions.tolist():
        if merged:
            left = merged[-1]
            size_left, size = left[1] - left[0], end - start
            if left[1] == start and abs(left[2] - accesses) <= threshold and size_left + size <= limit_bytes:
                left[1] = end
                left[2] = (left[2] * size_left + accesses * size) // (size_left + size)
                left[4] = (left[4] * size_left + age * size) // (size_left + size)
                continue
        merged.append([start, end, accesses, last, age])
    return np.array([tuple(row) for row in merged], DAMON_REGION)


def merge(regions: Regions, max_nr_accesses: int, limit_bytes: int, max_nr_regions: int, aggr_samples: int) -> Regions:
    """Merge what looks alike, with a growing threshold while there are too many (kdamond_merge_regions).

    Args:
        regions: At the end of an aggregation interval. Their ages are updated, in the first pass only.
        max_nr_accesses: The largest count in this aggregation interval.
        limit_bytes: What `size_limit` said.
        max_nr_regions: The user's limit.
        aggr_samples: Sampling intervals in an aggregation interval, the largest threshold that makes sense.
    """
    threshold = max_nr_accesses // 10
    update_ages(regions, threshold)
    while True:
        regions = merge_once(regions, threshold, limit_bytes)
        threshold = max(1, threshold * 2)
        if regions.size <= max_nr_regions or threshold // 2 >= aggr_samples:
            return regions


def pieces_wanted(nr_regions: int, last_nr_regions: int, max_nr_regions: int) -> int:
    """Into how many pieces each region is split (kdamond_split_regions): 1, 2 or 3."""
    if nr_regions > max_nr_regions // 2:
        return 1
    return 3 if nr_regions == last_nr_regions and nr_regions < max_nr_regions // 3 else 2


def split(regions: Regions, pieces: int, rng: np.random.Generator, min_region_bytes: int = PAGE) -> Regions:
    """Cut each region at k tenths, k from 1 to 9 by chance; for three pieces the left one again. All is inherited."""
    left = regions["end"] - regions["start"]  # what may still be cut, from the start of the region
    starts, parents = [regions["start"]], [np.arange(regions.size)]
    for _ in range(pieces - 1):
        cut = rng.integers(1, 10, regions.size) * left // 10 // min_region_bytes * min_region_bytes
        fine = np.flatnonzero((left > 2 * min_region_bytes) & (cut > 0) & (cut < left))
        starts.append(regions["start"][fine] + cut[fine])
        parents.append(fine)
        left[fine] = cut[fine]
    start, parent = np.concatenate(starts), np.concatenate(parents)
    order = np.lexsort((start, parent))
    result = regions[parent[order]]
    result["start"] = start[order]
    same = parent[order][1:] == parent[order][:-1]
    result["end"][:-1][same] = result["start"][1:][same]
    return result


def feed_loop(last_input: int, score: int) -> int:
    """The next input that should bring the score to 10 000 (damon_feed_loop_next_input)."""
    goal = least = 10_000
    if score == goal:
        return last_input
    if score >= goal * 2:
        return least
    compensation = last_input * abs(score - goal) // goal
    return max(last_input - compensation, least) if score > goal else last_input + compensation


def adaptation_bp(regions: Regions, access_bp: int, aggr_samples: int) -> int:
    """By how much to stretch the intervals, in 10 000ths: 5 000 to 20 000 (damon_get_intervals_adaptation_bp).

    Args:
        regions: With the counts of the last aggregation interval.
        access_bp: The share of all samples, weighted by size, that should find an access, in 10 000ths.
        aggr_samples: Sampling intervals in an aggregation interval.
    """
    sizes = regions["end"] - regions["start"]
    observed = sum(size * count for size, count in zip(sizes.tolist(), regions["nr_accesses"].tolist(), strict=True))
    wanted = int(sizes.sum()) * aggr_samples * access_bp // 10_000 or 1
    adaptation = feed_loop(100_000_000, observed * 10_000 // wanted) // 10_000
    return 5_000 + adaptation // 2 if adaptation <= 10_000 else adaptation
