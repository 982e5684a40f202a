# SPDX-License-Identifier: GPL-2.0-only
"""What regions cost us: estimating each of them in each aggregation interval, and cutting and merging now and then.

    python -m bench.region_work [--write]

On arrays made for it, three of ten regions hot; nothing is read and nobody is watched.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bench.kept import Table, circumstances, noise, print_table
from bench.machine import description
from bench.table import judgement
from pagepulse.model.estimate import estimate
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, WINDOW, WINDOWS_PER_CHUNK, Mapping, WindowRead
from pagepulse.model.observation import Indices
from pagepulse.model.probe import Outcome
from pagepulse.model.regions import STATE, Rows, learn
from pagepulse.model.structure import edges_of, owners, restructured
from pagepulse.model.windows import ALL_PAGES, Windows
from workload import now_ns

CASES = ((1000, 16), (1000, 64), (10_000, 8), (100_000, 1), (100_000, 4))
"""Regions, and windows in each."""
GOALS_MS = {1000: 2.0, 100_000: 100.0}
PROBES = 16
REPETITIONS = 40
INTERVAL_NS = 100_000_000
RESTRUCTURE_NS = 4_000_000_000
NOW_NS = 10_000_000_000
BASE = 0x7F00_0000_0000
HOT_SHARE = 0.3


class Times(NamedTuple):
    """Medians, in milliseconds."""

    estimate: float
    learn: float
    restructure: float

    @property
    def an_interval(self) -> float:
        """In the mean, at the default aggregation interval."""
        return self.estimate + self.learn + self.restructure * INTERVAL_NS / RESTRUCTURE_NS


class Case:
    """A target of so many regions, of so many windows each.

    Args:
        regions: How many.
        each: Windows in each.
    """

    def __init__(self, regions: int, each: int) -> None:
        rng = np.random.default_rng(1)
        count = regions * each
        mapping = Mapping(BASE, BASE + count * WINDOW, "[heap]")
        chunks = np.uint64(BASE) + np.arange(-(-count // WINDOWS_PER_CHUNK), dtype=np.uint64) * np.uint64(CHUNK)
        self.windows = Windows([mapping], spread([mapping], chunks, count))
        hot = rng.random(regions) < HOT_SHARE
        self._watch(np.repeat(hot, each), rng)
        self.regions = _regions(hot, each)
        self.edges = edges_of(self.regions, self.windows)
        self.owner = owners(self.edges)
        self._rng = rng

    def _watch(self, hot: np.ndarray[tuple[int], np.dtype[np.bool_]], rng: np.random.Generator) -> None:
        """All pages are cleared once; those of hot windows are found young a second later."""
        every, count = np.arange(len(self.windows)), len(self.windows)
        resident, small = np.full(count, ALL_PAGES), np.ones(count, np.uint8)
        self.windows.observe(every, WindowRead(np.zeros(count, np.uint64), resident, small, NOW_NS - 2_000_000_000))
        young = np.where(hot, ALL_PAGES, np.uint64(0))
        self.windows.observe(every, WindowRead(young, resident, small, NOW_NS - 1_000_000_000))
        self.windows.touches[:] = np.where(hot, 64 * rng.random(count), 0)
        self.windows.exposure_ns[:] = np.where(hot, 64e7, 64e9)

    def times(self) -> Times:
        """Measure."""
        bounds = (10, len(self.regions))
        probed: Indices = np.sort(self._rng.choice(len(self.windows), PROBES, replace=False))
        hits = np.full(PROBES, 32)
        outcome = Outcome(hits=hits, quick_hits=hits / 2, usual_hits=hits / 1.0,
                          trials=hits * 2, exposure_ns=np.full(PROBES, 1e9))
        woken = np.zeros((2, len(self.regions)))
        return Times(
            _median_ms(lambda: estimate(self.regions, self.windows, self.edges, woken, 20.0, INTERVAL_NS, INTERVAL_NS,
                                        NOW_NS)),
            _median_ms(lambda: learn(self.regions, self.owner[probed], outcome, np.ones(PROBES), NOW_NS)),
            _median_ms(lambda: restructured(self.regions, self.windows, bounds, NOW_NS)))


def _regions(hot: np.ndarray[tuple[int], np.dtype[np.bool_]], each: int) -> Rows:
    regions = np.zeros(len(hot), STATE)
    regions["start"] = BASE + np.arange(len(hot)) * each * WINDOW
    regions["end"] = regions["start"] + np.uint64(each * WINDOW)
    regions["trials"], regions["hits"], regions["exposure_ns"] = 1000, np.where(hot, 900, 0), 1e10
    regions["quick_hits"], regions["watch_ns"] = regions["hits"] / 2, 1e9
    return regions


def _median_ms(work: Callable[[], object]) -> float:
    work()
    times_ns = []
    for _ in range(REPETITIONS):
        begun_ns = now_ns()
        work()
        times_ns.append(now_ns() - begun_ns)
    return statistics.median(times_ns) / 1e6


def table() -> Table:
    """Measure all."""
    rows, remarks = [], []
    with circumstances() as facts:
        for regions, each in CASES:
            times = Case(regions, each).times()
            goal = GOALS_MS.get(regions)
            met = "-" if goal is None else f"{goal:g}: {judgement(times.an_interval <= goal)}"
            rows.append([f"{regions:,}", f"{regions * each:,}", *(f"{one:.2f} ms" for one in times),
                         f"{times.an_interval:.2f} ms", met])
    remarks.append(f"{description()} ({noise(facts)}).")
    about = (f"`make bench-regions`. Medians of {REPETITIONS}; three of ten regions hot. *An interval* is what an "
             f"aggregation interval of {INTERVAL_NS / 1e6:.0f} ms costs in the mean: an estimate, the lessons of "
             f"{PROBES} probes, and its part of cutting and merging each {RESTRUCTURE_NS / 1e9:.0f} s.")
    columns = ("Regions", "Windows", "Estimate", "Learn", "Cut and merge", "An interval", "Goal, at most")
    return Table("Region work", about, columns, rows, remarks)


if __name__ == "__main__":
    sys.exit(print_table("bench.region_work", __doc__ or "", table))
