# SPDX-License-Identifier: GPL-2.0-only
"""Structure: where regions begin and end. Merge what cannot be told apart, cut where windows disagree, at that place.

What is compared is the rate of touches that windows have seen: touches, and the time of watching they came in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagepulse.model import regions as region_model
from pagepulse.model.evidence import WITNESS, rate_log_likelihood, split_gains
from pagepulse.model.memory import Addresses
from pagepulse.model.regions import Rows
from pagepulse.model.windows import Indices, Windows

SPLIT_ABOVE = 20.0
"""G (see evidence.py) above which a region is cut in two."""

_CUTS_A_ROUND = 4  # an idle island in busy memory takes two cuts


def owners(regions: Rows, windows: Windows) -> Indices:
    """Region of each window: the one that its first byte lies in, shape (w,)."""
    return np.maximum(np.searchsorted(regions["start"], windows.first, side="right") - 1, 0)


def restructured(regions: Rows, windows: Windows, owner: Indices, bounds: tuple[int, int], now_ns: int) -> Rows:
    """The regions, merged and cut anew.

    Args:
        regions: dtype regions.STATE.
        windows: All windows.
        owner: Region of each window.
        bounds: How many regions at least, and at most.
        now_ns: Ages are compared at this time.
    """
    exposure_ns = _exposure_ns(windows, owner, len(regions))
    touches, exposure = (_summed(column * WITNESS, owner, len(regions)) for column in (windows.touches, exposure_ns))
    result = region_model.merge(regions, touches, exposure, now_ns, *bounds)
    for _ in range(_CUTS_A_ROUND):
        cuts = _cuts(result, windows, bounds[1] - len(result))
        if not len(cuts):
            break
        result = region_model.split_at(result, cuts)
    if len(result) != len(regions) or not np.array_equal(result["start"], regions["start"]):
        _share_out_wakes(result, windows)
    return result


def _summed(values: npt.NDArray[np.float64], owner: Indices, count: int) -> npt.NDArray[np.float64]:
    return np.bincount(owner, values, count).astype(np.float64)


def _exposure_ns(windows: Windows, owner: Indices, count: int) -> npt.NDArray[np.float64]:
    """Exposure of each window. Where its rate is only bounded from below, it is taken to be its region's, if higher."""
    sure = ~windows.bounded
    touches = _summed(windows.touches * sure, owner, count)
    exposure_ns = _summed(windows.exposure_ns * sure, owner, count)
    typical_ns = windows.touches * (exposure_ns / np.maximum(touches, 1e-9))[owner]
    return np.where(windows.bounded, np.minimum(windows.exposure_ns, typical_ns), windows.exposure_ns)


def _share_out_wakes(regions: Rows, windows: Windows) -> None:
    """Give each region the wakes of its own windows: a cut region's parts would otherwise inherit each other's."""
    owner, own = owners(regions, windows), np.where(windows.watched != 0, 1.0, 0.0)
    for column, values in (("wakes", windows.touches), ("watch_ns", windows.exposure_ns)):
        regions[column] = _summed(values * own, owner, len(regions))


def _cuts(regions: Rows, windows: Windows, room: int) -> Addresses:
    """Where to cut: in each region behind the window where its two parts disagree most, if they do; at most `room`."""
    owner = owners(regions, windows)
    # Most regions have seen no touch at all: there is nothing to cut in them.
    active = np.flatnonzero((_summed(windows.touches, owner, len(regions)) > 0)[owner])
    if room <= 0 or not len(active):
        return np.empty(0, np.uint64)
    exposure_ns = _exposure_ns(windows, owner, len(regions))
    first = np.flatnonzero(np.concatenate(([True], owner[active[1:]] != owner[active[:-1]])))
    rank = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(active))))
    gains = split_gains(windows.touches[active] * WITNESS, exposure_ns[active] * WITNESS, first, rank,
                        rate_log_likelihood)
    best = np.maximum.reduceat(gains, first)
    behind = np.flatnonzero((gains == best[rank]) & (gains > SPLIT_ABOVE))
    _, one_each = np.unique(rank[behind], return_index=True)
    cuts: Addresses = windows.first[active[behind[one_each]][:room] + 1]
    return cuts
