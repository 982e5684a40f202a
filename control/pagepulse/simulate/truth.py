# SPDX-License-Identifier: GPL-2.0-only
"""Truth: what a simulated program touches in an interval, exactly, as ranges of addresses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, WINDOW_PAGES
from pagepulse.simulate.area import Area
from pagepulse.simulate.pattern import CHUNK_PAGES, Epoch, Spans, epochs
from pagepulse.simulate.touches import Floats, Pages, chance

TRUTH = np.dtype([
    ("start", "<u8"),  # first byte
    ("end", "<u8"),  # one past the last byte
    ("rate_hz", "<f8"),  # touches a second of one page (of one huge page where they are), averaged over the interval
    ("share", "<f8"),  # of the range that is touched at that rate; the rest never is
    ("touched_bytes", "<f8"),  # expected to be touched in the interval
])
"""A range of one rate. Ranges are sorted and do not overlap; what is never touched is left out."""

Truth = npt.NDArray[np.void]
_LONG = 64  # windows, or huge pages, of a run: from there on it is quicker to go by the ranges of the truth


def truth_of(areas: Iterable[Area], from_ns: int, to_ns: int) -> Truth:
    """The truth over [from_ns, to_ns) for areas sorted by address: shape (n,), dtype TRUTH.

    Where a huge page maps the memory its 2 MiB are touched together. Pages that cannot be cleared are touched, too:
    a monitor cannot know. Expected values are exact, but for a stride in phases, whose pages are taken as drawn anew
    in each phase.
    """
    parts = [_area_truth(area, from_ns, to_ns) for area in areas if area.populated]
    return np.concatenate([np.zeros(0, TRUTH), *parts])


def hot(truth: Truth, least_hz: float) -> Truth:
    """The ranges touched at least this often."""
    return truth[truth["rate_hz"] >= least_hz]


def expected_touched(area: Area, starts: Pages, ends: Pages, after_ns: Pages, now_ns: int) -> float:
    """Entries (pages, or huge pages) expected to be touched in runs of pages of an area, each since its own time.

    Huge pages that were split count as one entry still, and pages that no clear reaches not at all.

    Args:
        area: Whose pages.
        starts: Shape (n,), first pages, numbered in the area.
        ends: Shape (n,), one past the last pages.
        after_ns: Shape (n,), since when.
        now_ns: Until when.
    """
    long = ends - starts > _LONG * (CHUNK_PAGES if area.huge else WINDOW_PAGES)
    total = _expected_in_pieces(area, starts[~long], ends[~long], after_ns[~long], now_ns)
    entry_bytes = CHUNK_PAGES * PAGE if area.huge else PAGE
    for since in np.unique(after_ns[long]).tolist():
        truth = _area_truth(area, since, now_ns)
        at = long & (after_ns == since)
        bytes_before = np.append(0.0, np.cumsum(truth["touched_bytes"]))
        borders = np.stack([truth["start"], truth["end"]], axis=1).astype(np.float64).reshape(-1)
        level = np.stack([bytes_before[:-1], bytes_before[1:]], axis=1).reshape(-1)
        if borders.size:
            below = np.interp(area.start + np.stack([starts[at], ends[at]]) * PAGE, borders, level)
            total += float((below[1] - below[0]).sum()) / entry_bytes
    return total * (1 - area.shared)


def _expected_in_pieces(area: Area, starts: Pages, ends: Pages, after_ns: Pages, now_ns: int) -> float:
    """Window by window: most runs are one window, and each may have its own time."""
    unit = CHUNK_PAGES if area.huge else WINDOW_PAGES
    count = -(-(ends - starts) // unit)
    run = np.repeat(np.arange(starts.size), count)
    first = starts[run] + (np.arange(run.size) - np.repeat(np.cumsum(count) - count, count)) * unit
    sizes = np.minimum(ends[run] - first, unit)
    total = 0.0
    for size in np.unique(sizes).tolist():
        at = sizes == size
        total += float(area.chances(first[at], size, after_ns[run][at], now_ns).sum())
    return total


def _area_truth(area: Area, from_ns: int, to_ns: int) -> Truth:
    held = list(epochs(area.pattern, from_ns, to_ns))
    spans = [_spans(area, epoch) for epoch in held]
    borders = np.unique(np.concatenate([np.zeros(0, np.int64), *(one[side] for one in spans
                                                                 for side in ("start", "end"))]))
    if borders.size < 2:
        return np.zeros(0, TRUTH)
    touches, untouched, share = np.zeros(borders.size - 1), np.ones(borders.size - 1), np.zeros(borders.size - 1)
    for one, epoch in zip(spans, held, strict=True):
        rates, part = _at(one, borders[:-1])
        expected = rates * ((epoch.end_ns - epoch.begin_ns) * 1e-9)
        touches += expected
        untouched *= 1 - part * chance(area.rhythm, expected)
        share = np.maximum(share, part)
    return _ranges(area, borders, touches / ((to_ns - from_ns) * 1e-9), share, 1 - untouched)


def _ranges(area: Area, borders: Pages, rates_hz: Floats, share: Floats, touched: Floats) -> Truth:
    result = np.zeros(borders.size - 1, TRUTH)
    result["start"] = area.start + borders[:-1] * PAGE
    result["end"] = np.minimum(area.start + borders[1:] * PAGE, area.end)
    result["rate_hz"], result["share"] = rates_hz, share
    result["touched_bytes"] = touched * (result["end"] - result["start"]).astype(np.float64)
    return result[rates_hz > 0]


def _at(spans: Spans, pages: Pages) -> tuple[Floats, Floats]:
    """Rate and share at these pages; 0 outside all spans."""
    if not spans.size:
        return np.zeros(pages.size), np.zeros(pages.size)
    at = np.maximum(np.searchsorted(spans["start"], pages, "right") - 1, 0)
    inside = (pages >= spans["start"][at]) & (pages < spans["end"][at])
    return np.where(inside, spans["rate_hz"][at], 0.0), np.where(inside, spans["share"][at], 0.0)


def _spans(area: Area, epoch: Epoch) -> Spans:
    """The spans of one epoch; for huge pages those of whole ones, at the rate of the whole."""
    spans = epoch.pattern.spans()
    if not area.huge or not spans.size:
        return spans
    borders = np.arange(0, area.pages + 1, CHUNK_PAGES)
    rates = np.diff(epoch.pattern.mass(borders))
    firsts = np.flatnonzero(np.append(True, np.diff(rates) != 0))
    result = np.zeros(firsts.size, spans.dtype)
    result["start"], result["end"] = borders[firsts], borders[np.append(firsts[1:], rates.size)]
    result["rate_hz"], result["share"] = rates[firsts], 1.0
    return result[result["rate_hz"] > 0]
