# SPDX-License-Identifier: GPL-2.0-only
"""Access patterns do what they say, at any time and in any order of asking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagepulse.errors import UsageError
from pagepulse.model.memory import PAGE
from pagepulse.simulate.area import Area
from pagepulse.simulate.pattern import (
    PerChunk,
    Phases,
    Ranges,
    Stride,
    epochs,
    hot_set,
    hot_spots,
    moving_hot_set,
    zipf,
)
from pagepulse.simulate.touches import Rhythm, touched

MIB = 2**20
GIB = 2**30
MS = 1_000_000
SECOND = 1_000_000_000
BASE = 0x7F00_0000_0000

PATTERNS = {
    "hot set": hot_set(64 * MIB, 10 * MIB, 20.0, seed=1, cold_hz=0.5),
    "spots": hot_spots(64 * MIB, 1 * MIB, 7, 20.0, seed=2),
    "zipf": zipf(64 * MIB, 1e5, seed=3),
    "stride": Stride(64 * MIB // PAGE, 7, 20.0),
    "moving": moving_hot_set(64 * MIB, 8 * MIB, 20.0, dwell_ns=130 * MS),
    "phases": Phases(((70 * MS, hot_set(64 * MIB, 8 * MIB, 9.0, offset_bytes=0)),
                      (50 * MS, Stride(64 * MIB // PAGE, 3, 11.0)))),
}
each_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
each_rhythm = pytest.mark.parametrize("rhythm", Rhythm)


@each_pattern
@each_rhythm
def test_windows_and_single_pages_tell_the_same(pattern, rhythm):
    area = Area(BASE, 64 * MIB, pattern, rhythm=rhythm)
    first = np.arange(0, area.pages, 64)
    after = np.random.default_rng(1).integers(0, 900 * MS, first.size)
    masks = area.touched_windows(first, after, SECOND, 5)
    pages = (first[:, None] + np.arange(64)).reshape(-1)
    singly = area.touched(pages, np.repeat(after, 64), SECOND, 5).reshape(-1, 64)
    bits = (masks[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert (bits.astype(bool) == singly).all()


@given(st.sampled_from(list(Rhythm)), st.sampled_from(list(PATTERNS)),
       st.lists(st.integers(0, SECOND), min_size=3, max_size=3))
@settings(deadline=None)
def test_an_interval_that_grows_loses_no_touch_and_is_the_sum_of_its_parts(rhythm, name, times):
    begin, middle, end = sorted(times)
    area = Area(BASE, 64 * MIB, PATTERNS[name], rhythm=rhythm)
    pages = np.arange(0, area.pages, 3)

    def between(a, b):
        return area.touched(pages, np.full(pages.size, a), b, 7)

    early, late, all_of_it = between(begin, middle), between(middle, end), between(begin, end)
    assert not (early & ~all_of_it).any()
    assert (all_of_it == (early | late)).all()


@pytest.mark.parametrize("touches", [0.02, 0.3, 1.0, 5.0])
def test_random_touches_are_a_poisson_process(touches):
    pages = np.arange(200_000)
    for after in (0, 123_456_789, 9_876_543_210_123):
        flags = touched(Rhythm.RANDOM, pages, np.full(1, 10.0), np.array([after]),
                        np.int64(after + round(touches * SECOND / 10)), 99)
        assert flags.mean() == pytest.approx(1 - np.exp(-touches), rel=4 / np.sqrt(touches * 2e5), abs=1e-3)


def test_touches_in_disjoint_intervals_are_independent():
    pages = np.arange(200_000)
    halves = [touched(Rhythm.RANDOM, pages, np.full(1, 10.0), np.array([start * MS]), np.int64((start + 30) * MS), 1)
              for start in (100, 130)]
    both = (halves[0] & halves[1]).mean()
    assert both == pytest.approx(halves[0].mean() * halves[1].mean(), rel=0.03)


def test_a_sweep_touches_every_page_exactly_once_in_each_period():
    pages = np.arange(6400)
    every = [touched(Rhythm.SWEEP, pages, np.full(1, 10.0), np.array([start * MS]), np.int64((start + 25) * MS), 1)
             for start in range(0, 100, 25)]
    assert (np.sum(every, axis=0) == 1).all()


@each_pattern
def test_the_mass_is_the_sum_of_the_rates(pattern):
    for epoch in epochs(pattern, 0, SECOND):
        pages = np.arange(64 * MIB // PAGE)
        rates = epoch.pattern.rates(pages)
        assert epoch.pattern.mass(pages[1:]) == pytest.approx(np.cumsum(rates)[:-1], rel=1e-6, abs=1e-6)


@each_pattern
def test_the_spans_are_the_rates(pattern):
    for epoch in epochs(pattern, 0, SECOND):
        rates = epoch.pattern.rates(np.arange(64 * MIB // PAGE))
        spans = epoch.pattern.spans()
        assert (spans["start"][1:] >= spans["end"][:-1]).all()
        assert ((spans["end"] - spans["start"]) * spans["rate_hz"] * spans["share"]).sum() == pytest.approx(rates.sum())
        for span in spans:
            inside = rates[span["start"]:span["end"]]
            assert (inside > 0).mean() == pytest.approx(span["share"])
            assert inside.max() == span["rate_hz"]


@each_pattern
def test_pages_said_to_have_one_rate_have_it(pattern):
    for epoch in epochs(pattern, 0, SECOND):
        first = np.arange(0, 64 * MIB // PAGE - 64, 17)
        rates = epoch.pattern.rates(first[:, None] + np.arange(64))
        said = epoch.pattern.uniform(first, 64)
        known = ~np.isnan(said)
        assert known.any() or isinstance(epoch.pattern, Stride)
        assert (rates[known] == said[known][:, None]).all()


def test_phases_take_turns_and_begin_again():
    a, b = Ranges([0, 1], [1.0]), Ranges([0, 1], [2.0])
    phases = Phases(((30, a), (20, b)))
    seen = [(e.pattern, e.begin_ns, e.end_ns) for e in phases.epochs(10, 105)]
    assert seen == [(a, 100, 105), (b, 80, 100), (a, 50, 80), (b, 30, 50), (a, 10, 30)]


def test_spots_of_200_mb_in_160_gb_are_there_and_apart():
    spans = hot_spots(160 * GIB, 200 * MIB, 3, 50.0, seed=4).spans()
    assert (spans["end"] - spans["start"]).tolist() == [200 * MIB // PAGE] * 3
    assert spans["end"][-1] <= 160 * GIB // PAGE


def test_zipf_gives_the_hottest_chunk_its_share_and_permutes_by_seed():
    in_order = zipf(GIB, 1e6, permuted=False).rates(np.arange(0, GIB // PAGE, 512))
    assert in_order.sum() * 512 == pytest.approx(1e6, rel=1e-5)
    assert in_order[0] / in_order[9] == pytest.approx(10**0.99, rel=1e-5)
    scattered = [zipf(GIB, 1e6, seed=seed).rates(np.arange(0, GIB // PAGE, 512)) for seed in (1, 1, 2)]
    assert (scattered[0] == scattered[1]).all()
    assert (scattered[0] != scattered[2]).any()
    assert sorted(scattered[0]) == sorted(in_order)


@pytest.mark.parametrize("wrong", [
    lambda: hot_set(MIB, 2 * MIB, 1.0),
    lambda: hot_set(MIB, 0, 1.0),
    lambda: hot_set(MIB, 1000, 1.0),
    lambda: hot_spots(MIB, MIB, 2, 1.0),
    lambda: Ranges([0, 5, 5], [1.0, 1.0]),
    lambda: Ranges([0, 5], [-1.0]),
    lambda: PerChunk(np.ones(3), 100),
    lambda: Phases(()),
    lambda: Phases(((0, Ranges([0, 1], [1.0])),)),
])
def test_a_pattern_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        wrong()
