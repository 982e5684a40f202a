# SPDX-License-Identifier: GPL-2.0-only
"""Probe: from brackets of first touches to hits, exposure and rates."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import MS, SECOND
from pagepulse.model.memory import WindowRead
from pagepulse.model.probe import Probe, exposure_ns
from pagepulse.model.windows import ALL_PAGES


def masks(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def started(trial: int, hit: int = 0) -> Probe:
    return Probe(np.array([7]), masks(0x1000_0000), masks(trial), masks(hit), SECOND)


def read(young: int, after_ns: int) -> WindowRead:
    return WindowRead(masks(young), ALL_PAGES * np.ones(1, np.uint64), np.ones(1, np.uint8), SECOND + after_ns)


def test_each_page_counts_at_the_first_read_that_shows_it():
    probe = started(0xFF)
    probe.tick(read(0b0011, 5 * MS))
    probe.tick(read(0b0111, 20 * MS))
    probe.tick(read(0b0111, 100 * MS))
    assert probe.touches.T.tolist() == [[2], [1], [0]]
    outcome = probe.outcome(5 * MS, 100 * MS)
    assert (outcome.trials.tolist(), outcome.hits.tolist()) == ([8], [3])
    assert outcome.quick_hits.tolist() == [pytest.approx(2)]


def test_pages_that_were_not_cleared_are_no_trials_and_no_hits():
    probe = started(0b1100)
    probe.tick(read(0b0111, 5 * MS))
    outcome = probe.outcome(5 * MS, 100 * MS)
    assert (outcome.trials.tolist(), outcome.hits.tolist()) == ([2], [1])


def test_a_page_touched_before_the_clear_could_be_read_back_counts_at_the_first_read():
    probe = started(0b11, hit=0b10)
    probe.tick(read(0b10, 5 * MS))
    probe.tick(read(0b10, 20 * MS))
    assert probe.outcome(5 * MS, 100 * MS).hits.tolist() == [1]
    assert probe.touches.T.tolist() == [[1], [0]]


def test_a_lost_read_moves_its_touches_to_the_next_one():
    probe = started(0b11)
    probe.tick(read(0, 5 * MS))
    probe.tick(read(0b11, 20 * MS))
    assert probe.touches.T.tolist() == [[0], [2]]


def test_a_bit_that_another_agent_took_between_two_reads_is_in_the_whole_read():
    probe = started(0b11)
    probe.tick(read(0b01, 5 * MS))
    probe.tick(read(0b10, 20 * MS))
    assert probe.whole_read.young.tolist() == [0b11]
    assert probe.whole_read.taken_ns == SECOND + 20 * MS
    assert probe.outcome(5 * MS, 100 * MS).hits.tolist() == [2]


def test_a_first_read_that_came_late_is_reckoned_back_to_one_sampling_interval():
    probe = started(int(ALL_PAGES))
    probe.tick(read(0xFFFF_FFFF_FFFF, 10 * MS))  # 3/4 within two intervals: 1/2 within one
    assert probe.outcome(5 * MS, 100 * MS).quick_hits.tolist() == [pytest.approx(32)]


def test_a_probe_of_nothing_has_no_windows():
    assert len(Probe.none().windows) == 0


def test_untouched_pages_were_exposed_for_the_whole_time():
    edges = np.array([0, 5 * MS, 100 * MS])
    assert exposure_ns(np.zeros((1, 2), np.int64), np.array([64]), edges).tolist() == [64 * 100 * MS]


def test_exposure_is_never_longer_than_what_the_reads_allow_nor_shorter():
    edges = np.array([0, 5 * MS, 20 * MS, 100 * MS])
    touches = np.array([[3, 2, 1], [0, 0, 5], [5, 0, 0]])
    found = exposure_ns(touches, np.array([4, 0, 0]), edges)
    low = touches @ edges[:-1] + np.array([4, 0, 0]) * 100 * MS
    high = touches @ edges[1:] + np.array([4, 0, 0]) * 100 * MS
    assert (found >= low).all()
    assert (found <= high).all()


@pytest.mark.parametrize("rate_hz", [0.1, 1, 10, 50])
def test_the_rate_of_independent_touches_follows_from_hits_and_exposure(rate_hz):
    rng = np.random.default_rng(3)
    first_ns = rng.exponential(1e9 / rate_hz, 200_000)
    edges = np.array([0, 5 * MS, 20 * MS, 100 * MS])
    touches = np.histogram(first_ns, edges)[0][None, :]
    untouched = np.array([np.count_nonzero(first_ns > edges[-1])])
    found_hz = 1e9 * touches.sum() / exposure_ns(touches, untouched, edges)[0]
    assert found_hz == pytest.approx(rate_hz, rel=0.03)
