# SPDX-License-Identifier: GPL-2.0-only
"""Heat: how much of the memory at each address was touched at each time. Every heatmap is drawn from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagepulse.model.snapshot import Snapshot
from pagepulse.report.folding import Folding

Matrix = npt.NDArray[np.float64]
"""Shape (rows, cells): time by folded address."""


@dataclass(frozen=True, slots=True)
class Heat:
    """Time by address. NaN is what is not known: not mapped, not resident, never seen untouched, unclearable."""

    start_ns: int
    end_ns: int
    aggregation_ns: float
    folding: Folding
    touched_share: Matrix
    """Share of the watched bytes that an aggregation interval touches, 0 to 1."""
    rate_hz: Matrix
    """Touches a second of one page."""

    @property
    def rows(self) -> int:
        """How many steps of time it has."""
        return len(self.touched_share)

    @property
    def row_ns(self) -> float:
        """How long one step of time is."""
        return (self.end_ns - self.start_ns) / self.rows


def shade(touched_share: Matrix) -> Matrix:
    """How bright a share is drawn, 0 to 1: its cube root, so that 1 % (0.22) and 0.1 % (0.1) can be seen."""
    return np.cbrt(touched_share)


def heat(snapshots: Iterable[Snapshot], folding: Folding, rows: int, start_ns: int, end_ns: int,
         aggregation_ns: float) -> Heat:
    """Average the snapshots over steps of time and cells of the address axis.

    Args:
        snapshots: Those between `start_ns` and `end_ns`, in order.
        folding: The address axis.
        rows: Steps of time.
        start_ns: Where the first step begins.
        end_ns: Where the last step ends.
        aggregation_ns: What a share of memory touched refers to.
    """
    sums = np.zeros((3, rows, folding.cells))  # byte-nanoseconds watched, touched, and watched times the rate
    row_ns = (end_ns - start_ns) / rows
    for snapshot in snapshots:
        first, last = (snapshot.start_ns - start_ns) / row_ns, (snapshot.end_ns - start_ns) / row_ns
        cells = _cells(snapshot, folding)
        for row in range(max(int(first), 0), min(int(np.ceil(last)), rows)):
            sums[:, row] += cells * (min(last, row + 1) - max(first, row))
    watched, touched, weighted_rate = sums
    seen = watched > 1e-3  # bytes; what remains of cumulative sums is rounding
    return Heat(start_ns, end_ns, aggregation_ns, folding,
                np.divide(touched, watched, out=np.full_like(watched, np.nan), where=seen).clip(0, 1),
                np.divide(weighted_rate, watched, out=np.full_like(watched, np.nan), where=seen).clip(0))


def _cells(snapshot: Snapshot, folding: Folding) -> Matrix:
    """Shape (3, cells): bytes watched, bytes touched, bytes watched times their rate, in each cell."""
    regions = snapshot.regions
    borders = np.stack((folding.cell_of(regions["start"]), folding.cell_of(regions["end"])), axis=1).reshape(-1)
    present, unknown, unclearable, touched = (
        regions[name].astype(np.float64)
        for name in ("present_bytes", "unknown_bytes", "unclearable_bytes", "touched_bytes"))
    watched = np.maximum(present - unknown - unclearable, 0)
    rate = np.nan_to_num(regions["rate_hz"].astype(np.float64))
    edges = np.arange(folding.cells + 1, dtype=np.float64)
    result = np.zeros((3, folding.cells))
    if len(regions):
        for row, amount in zip(result, (watched, np.minimum(touched, watched), watched * rate), strict=True):
            total = np.cumsum(amount)
            until = np.stack((total - amount, total), axis=1).reshape(-1)  # at the start and the end of each region
            row[:] = np.diff(np.interp(edges, borders, until))
    return result
