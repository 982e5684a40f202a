# SPDX-License-Identifier: GPL-2.0-only
"""How right a monitor was: what it found against what was true. Ranges are sorted and do not overlap.

Hot is what Telescope (USENIX ATC'24) calls hot: regions whose nr_accesses, summed over one second, exceed 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pagepulse.simulate.touches import Floats
from pagepulse.simulate.truth import Truth

HOT_ABOVE = 5.0
"""nr_accesses summed over one second above which a region counts as hot."""

Array = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Precision and recall of hot bytes. None: nothing was found, or there was nothing to find."""

    found_bytes: float
    """Reported as hot."""
    hot_bytes: float
    """Truly hot."""
    right_bytes: float
    """Both."""

    @property
    def precision(self) -> float | None:
        """Of what was reported, the share that is hot."""
        return self.right_bytes / self.found_bytes if self.found_bytes else None

    @property
    def recall(self) -> float | None:
        """Of what is hot, the share that was reported."""
        return self.right_bytes / self.hot_bytes if self.hot_bytes else None


def summed_accesses(snapshots: Iterable[Array]) -> tuple[npt.NDArray[np.uint64], Floats]:
    """Add up `nr_accesses` of several snapshots whose regions differ.

    Args:
        snapshots: Arrays with the fields `start`, `end` and `nr_accesses`: those of one second.

    Returns:
        Ranges between which the sum changes, shape (n, 2), and the sum in each, shape (n,). Unwatched memory has 0.
    """
    rows = np.concatenate([np.stack([one["start"].astype(np.int64), one["end"].astype(np.int64)]) for one in snapshots],
                          axis=1) if (snapshots := list(snapshots)) else np.zeros((2, 0), np.int64)
    counts = np.concatenate([np.zeros(0), *(one["nr_accesses"].astype(np.float64) for one in snapshots)])
    borders, at = np.unique(rows, return_inverse=True)
    at = at.reshape(2, -1)
    change = np.bincount(at[0], counts, borders.size) - np.bincount(at[1], counts, borders.size)
    ranges = np.stack([borders[:-1], borders[1:]], axis=1).astype(np.uint64)
    return ranges, np.cumsum(change)[:-1]


def hot_ranges(snapshots: Iterable[Array], above: float = HOT_ABOVE) -> npt.NDArray[np.uint64]:
    """What a monitor calls hot: the ranges, shape (n, 2), whose summed accesses exceed `above`."""
    ranges, sums = summed_accesses(snapshots)
    return ranges[sums > above + 1e-6]  # sums of floats


def overlap_bytes(ranges: npt.NDArray[np.uint64], truth: Truth) -> float:
    """Bytes of the ranges, shape (n, 2), that are of the truth, with its share where it is sparse."""
    if not truth.size or not len(ranges):
        return 0.0
    starts, ends = truth["start"].astype(np.float64), truth["end"].astype(np.float64)
    before = np.append(0.0, np.cumsum((ends - starts) * truth["share"]))
    borders = np.stack([starts, ends], axis=1).reshape(-1)
    level = np.stack([before[:-1], before[1:]], axis=1).reshape(-1)
    inside = np.interp(ranges.astype(np.float64), borders, level)
    return float((inside[:, 1] - inside[:, 0]).sum())


def measure(found: npt.NDArray[np.uint64], truly_hot: Truth) -> Accuracy:
    """Compare the ranges reported as hot, shape (n, 2), with the truth about what is."""
    hot_bytes = ((truly_hot["end"] - truly_hot["start"]).astype(np.float64) * truly_hot["share"]).sum()
    found_bytes = (found[:, 1] - found[:, 0]).astype(np.float64).sum()
    return Accuracy(float(found_bytes), float(hot_bytes), overlap_bytes(found, truly_hot))


def wss_error(estimated_bytes: float, true_bytes: float) -> float | None:
    """How far the estimate is off, as a signed fraction of the truth; None where the truth is nothing."""
    return (estimated_bytes - true_bytes) / true_bytes if true_bytes else None


def seconds_to_recall_90(seen: Sequence[tuple[int, Accuracy]], start_ns: int) -> float | None:
    """Seconds from the start to the first of two successive measurements that recall 90 %; None: never.

    Two, because one may be luck: DAMON finds a small hot spot now and then and merges it away at once.
    """
    good = [(at_ns, (accuracy.recall or 0.0) >= 0.9) for at_ns, accuracy in seen]
    for (at_ns, first), (_, second) in pairwise(good):
        if first and second:
            return (at_ns - start_ns) / 1e9
    return None
