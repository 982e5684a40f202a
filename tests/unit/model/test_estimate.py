# SPDX-License-Identifier: GPL-2.0-only
"""Estimate: cases small enough to reckon by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import BASE, MS, SECOND
from pagepulse.model.estimate import AGE_TOLERANCE, Estimate, estimate, watch_time_ns
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, Mapping, WindowRead
from pagepulse.model.regions import STATE
from pagepulse.model.windows import ALL_PAGES, Windows

NOW_NS = 1000 * SECOND
PAGES = 512


def region(**facts: float) -> np.ndarray:
    """One region of 2 MiB, well known from probes of which none found anything touched."""
    row = np.zeros(1, STATE)
    row["start"], row["end"], row["since_ns"] = BASE, BASE + CHUNK, NOW_NS - 60 * SECOND
    row["trials"], row["exposure_ns"] = 1e6, 1e6 * 100 * MS
    for name, value in facts.items():
        row[name] = value
    if "usual_hits" not in facts:
        row["usual_hits"] = row["hits"]  # the interval is the usual one
    return row


def windows(young_pages: int, *, cleared_first: bool = True) -> Windows:
    """The eight windows of 2 MiB, read clear at first, then with this many young pages."""
    mappings = [Mapping(BASE, BASE + CHUNK, "[heap]")]
    found = Windows(mappings, spread(mappings, np.array([BASE], np.uint64), 100))
    every, level = np.arange(8), np.ones(8, np.uint8)
    present = np.full(8, ALL_PAGES)
    if cleared_first:
        found.observe(every, WindowRead(np.zeros(8, np.uint64), present, level, NOW_NS - 30 * SECOND))
    bits = (np.arange(PAGES) < young_pages).reshape(8, 64)
    young = np.packbits(bits, axis=1, bitorder="little").view("<u8").reshape(-1)
    found.observe(every, WindowRead(young, present, level, NOW_NS))
    return found


def of(row: np.ndarray, known: Windows, *, woken: float = 0, watched_ns: float = 0, interval_ns: int = 100 * MS
       ) -> tuple[np.ndarray, Estimate]:
    return estimate(row, known, np.array([0, 8]), np.array([[woken], [watched_ns]], float), interval_ns / (5 * MS),
                    interval_ns, 100 * MS, NOW_NS)


# --- what is touched -----------------------------------------------------------------------------------------------

def test_memory_that_sleeps_is_not_touched():
    _, found = of(region(), windows(0), watched_ns=512 * 100 * MS)
    assert (found.present[0], found.dirty[0], found.touched[0], found.nr_accesses[0]) == (PAGES, 0, 0, 0)


def test_of_dirty_pages_the_share_that_probes_found_is_touched():
    _, found = of(region(hits=0.25e6, quick_hits=0.1e6), windows(400))
    assert found.dirty[0] == 400
    assert found.touched[0] == pytest.approx(100, rel=0.01)
    assert found.nr_accesses[0] == pytest.approx(20 * 0.1 * 400 / PAGES, rel=0.01)


def test_the_rate_is_hits_over_the_time_for_which_pages_were_watched():
    _, found = of(region(hits=1e6, quick_hits=1e6, exposure_ns=1e6 * SECOND / 50), windows(PAGES))
    assert found.rate_hz[0] == pytest.approx(50, rel=0.01)
    assert found.nr_accesses[0] == pytest.approx(20, rel=0.01)


def test_of_watched_pages_those_that_were_not_read_wake_at_the_rate_of_those_that_were():
    # 1 of 64 pages that were read woke within the interval; 512 pages sleep.
    _, found = of(region(), windows(1), woken=1, watched_ns=64 * 100 * MS)
    assert found.touched[0] == pytest.approx(512 * (1 - np.exp(-1 / 64)), rel=0.01)


def test_refused_pages_are_no_part_of_what_is_touched():
    known = windows(PAGES)
    known.refuse(np.arange(8), np.full(8, ALL_PAGES))
    _, found = of(region(hits=1e6, quick_hits=1e6), known)
    assert (found.refused[0], found.dirty[0], found.touched[0], found.nr_accesses[0]) == (PAGES, 0, 0, 0)
    assert found.rate_hz[0] == 0


def test_the_rate_is_that_of_the_pages_that_can_be_watched():
    known = windows(PAGES)
    known.refuse(np.arange(4), np.full(4, ALL_PAGES))
    _, found = of(region(hits=1e6, quick_hits=1e6, exposure_ns=1e6 * SECOND / 50), known)
    assert found.rate_hz[0] == pytest.approx(50, rel=0.01)
    assert found.nr_accesses[0] == pytest.approx(20, rel=0.01)
    assert found.touched[0] == pytest.approx(PAGES / 2, rel=0.01)


def test_memory_that_was_never_seen_clear_is_unknown():
    _, found = of(region(), windows(PAGES, cleared_first=False))
    assert found.unknown[0] == PAGES


def test_memory_of_which_nothing_is_known_is_not_called_touched():
    _, found = of(region(trials=0, exposure_ns=0), windows(PAGES, cleared_first=False))
    assert (found.touched[0], found.nr_accesses[0], found.rate_hz[0]) == (0, 0, 0)
    assert found.nr_accesses_error[0] == pytest.approx(20 / np.sqrt(12))


def test_what_is_unknown_is_taken_to_be_as_what_is_known_around_it():
    known = windows(PAGES)
    known.known[4:] = 0
    known.know(np.arange(4, 8), np.zeros(4, np.uint64))
    _, found = of(region(hits=0.5e6), known)
    assert (found.unknown[0], found.dirty[0]) == (PAGES / 2, PAGES / 2)
    assert found.touched[0] == pytest.approx(PAGES / 2, rel=0.01)


# --- how sure that is ----------------------------------------------------------------------------------------------

def test_memory_that_is_watched_is_sure():
    _, found = of(region(trials=0), windows(0), watched_ns=1)
    assert found.nr_accesses_error[0] == 0


def test_each_quadruple_of_probed_pages_halves_the_error():
    errors = [of(region(trials=n, quick_hits=0.3 * n, exposure_ns=n * 10 * MS), windows(PAGES))[1].nr_accesses_error[0]
              for n in (1e5, 4e5, 16e5)]
    assert errors[0] == pytest.approx(2 * errors[1], rel=0.02) == pytest.approx(4 * errors[2], rel=0.03)
    assert errors[0] == pytest.approx(20 * np.sqrt(0.3 * 0.7 / (1e5 / 16)), rel=0.02)


def test_no_hit_in_a_few_probed_pages_is_no_certainty():
    _, found = of(region(trials=64, exposure_ns=64 * 100 * MS), windows(PAGES))
    assert found.nr_accesses_error[0] > 1


def test_only_pages_that_were_touched_since_their_clear_are_unsure():
    unsure, half = (of(region(trials=160, quick_hits=80, exposure_ns=1e9), windows(n))[1].nr_accesses_error[0]
                    for n in (PAGES, PAGES // 2))
    assert half == pytest.approx(unsure / 2)


def test_what_was_not_probed_yet_but_was_just_touched_is_taken_for_active():
    _, found = of(region(trials=0, exposure_ns=0), windows(100))
    assert found.touched[0] == pytest.approx(100, rel=0.01)


def test_memory_that_woke_in_this_interval_counts_at_its_region_s_rate_and_is_as_unsure():
    facts = {"trials": 0, "exposure_ns": 0, "wakes": 400.0, "watch_ns": 400 * 20 * MS}  # each was touched after 20 ms
    _, found = of(region(**facts), windows(400), woken=400, watched_ns=400 * 20 * MS)
    assert found.nr_accesses[0] == pytest.approx(20 * (1 - np.exp(-5 / 20)) * 400 / PAGES, rel=0.02)
    assert found.nr_accesses_error[0] == pytest.approx(found.nr_accesses[0])


def test_a_region_without_windows_says_nothing():
    rows = np.concatenate((region(), region(start=BASE + CHUNK, end=BASE + 2 * CHUNK)))
    _, found = estimate(rows, windows(PAGES), np.array([0, 8, 8]), np.zeros((2, 2)), 20.0, 100 * MS, 100 * MS, NOW_NS)
    assert found.present.tolist() == [PAGES, 0]
    assert found.touched[1] == found.rate_hz[1] == 0


# --- how long a pattern holds --------------------------------------------------------------------------------------

@pytest.mark.parametrize("share", [0.5, 0.5 + 0.9 * AGE_TOLERANCE, 0.5 - 0.9 * AGE_TOLERANCE])
def test_a_pattern_keeps_its_age_while_the_touched_share_stays_near(share):
    row = region(hits=share * 1e6, reference=0.5)
    aged, _ = of(row, windows(PAGES))
    assert (aged["since_ns"][0], aged["reference"][0]) == (row["since_ns"][0], 0.5)


def test_a_share_that_left_its_pattern_begins_a_new_age_and_becomes_the_reference():
    aged, _ = of(region(hits=0.7e6, reference=0.5), windows(PAGES))
    assert aged["since_ns"][0] == NOW_NS
    assert aged["reference"][0] == pytest.approx(0.7, rel=0.01)


def test_few_probes_may_stray_further_before_an_age_ends():
    aged, _ = of(region(trials=10, hits=7, exposure_ns=10 * 100 * MS, reference=0.5), windows(PAGES))
    assert aged["since_ns"][0] == NOW_NS - 60 * SECOND


def test_an_idle_region_that_stirs_a_little_begins_a_new_age():
    aged, _ = of(region(hits=0.02e6, reference=0.0), windows(PAGES))
    assert aged["since_ns"][0] == NOW_NS


def test_a_region_that_falls_asleep_is_idle_since_its_last_clear_not_since_it_was_noticed():
    aged, _ = of(region(reference=0.5), windows(0))
    assert aged["since_ns"][0] == NOW_NS - 30 * SECOND


def test_a_longer_interval_is_no_change_of_pattern():
    # At 1 touch a second: 9.5 % within 100 ms, 63 % within 1 s.
    share, usual = 1 - np.exp(-1.0), 1 - np.exp(-0.1)
    row = region(hits=share * 1e6, usual_hits=usual * 1e6, exposure_ns=share * 1e6 * SECOND, reference=usual)
    aged, found = of(row, windows(PAGES), interval_ns=SECOND)
    assert found.touched[0] == pytest.approx(PAGES * share, rel=0.01)
    assert aged["since_ns"][0] == NOW_NS - 60 * SECOND


@pytest.mark.parametrize("interval_ns", [100 * MS, SECOND, 5 * SECOND])
def test_half_of_a_region_that_is_busy_is_no_change_of_pattern_at_any_interval(interval_ns):
    row = region(hits=0.5e6, usual_hits=0.5e6, quick_hits=0.5e6, exposure_ns=0.5e6 * interval_ns, reference=0.5)
    aged, found = of(row, windows(PAGES), interval_ns=interval_ns)
    assert found.touched[0] == pytest.approx(PAGES / 2, rel=0.01)
    assert aged["since_ns"][0] == NOW_NS - 60 * SECOND


def test_wakes_count_half_after_four_seconds():
    aged, _ = of(region(wakes=8, watch_ns=SECOND), windows(0), interval_ns=4 * SECOND)
    assert (aged["wakes"][0], aged["watch_ns"][0]) == (pytest.approx(4), pytest.approx(SECOND / 2))


def test_the_given_regions_stay_as_they_are():
    row = region(hits=0.7e6, reference=0.5, wakes=10)
    before = row.copy()
    of(row, windows(PAGES))
    assert (row == before).all()


# --- time of watching ----------------------------------------------------------------------------------------------

def test_pages_that_all_stayed_asleep_were_watched_for_the_whole_span():
    assert watch_time_ns(np.array([64]), np.array([0]), np.array([SECOND])).tolist() == [64 * SECOND]


def test_the_time_of_watching_gives_the_most_likely_rate_of_those_that_woke():
    found = watch_time_ns(np.array([64]), np.array([32]), np.array([SECOND]))
    assert 32 / found[0] == pytest.approx(np.log(2) / SECOND)


def test_where_all_woke_half_a_page_is_taken_for_asleep():
    found = watch_time_ns(np.array([64]), np.array([64]), np.array([SECOND]))
    assert 64 / found[0] == pytest.approx(np.log(128) / SECOND)


def test_no_watched_page_is_no_time():
    assert watch_time_ns(np.array([0]), np.array([0]), np.array([SECOND])).tolist() == [0]
