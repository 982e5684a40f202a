# SPDX-License-Identifier: GPL-2.0-only
"""DAMON's rules one by one, as mm/damon/core.c and vaddr.c have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagepulse.model.memory import PAGE, Mapping
from pagepulse.simulate import damon_rules as rules
from pagepulse.simulate.damon_rules import DAMON_REGION

MIB = 2**20
GIB = 2**30
BASE = 0x7F00_0000_0000
HUGE_LIMIT = 2**60


def regions(*rows):
    """Adjoining regions of (pages, nr_accesses, last_nr_accesses, age)."""
    result = np.zeros(len(rows), DAMON_REGION)
    ends = np.cumsum([row[0] * PAGE for row in rows])
    result["end"], result["start"] = BASE + ends, BASE + np.append(0, ends[:-1])
    for at, row in enumerate(rows):
        result[["nr_accesses", "last_nr_accesses", "age"]][at] = row[1:]
    return result


def facts(rows):
    """(pages, nr_accesses, last_nr_accesses, age) of each."""
    return [((end - start) // PAGE, *rest) for start, end, *rest in rows.tolist()]


def mapping(start, end):
    return Mapping(BASE + start, BASE + end, "[anon]")


# Where it looks

def test_the_two_largest_gaps_are_left_out_and_smaller_ones_are_watched():
    mappings = [mapping(0, 10), mapping(12, 20), mapping(50, 60), mapping(61, 70), mapping(200, 210)]
    assert rules.three_regions(mappings) == [(BASE, BASE + 20), (BASE + 50, BASE + 70), (BASE + 200, BASE + 210)]


def test_a_target_with_fewer_gaps_has_fewer_regions():
    assert rules.three_regions([mapping(0, 10), mapping(10, 20)]) == [(BASE, BASE + 20)]


def test_at_the_start_no_region_is_larger_than_a_share_of_the_whole():
    wide = rules.new_regions([(BASE, BASE + 95 * PAGE), (BASE + GIB, BASE + GIB + 5 * PAGE)])
    assert rules.size_limit(wide, 10) == 10 * PAGE
    cut = rules.split_to_limit(wide, 10 * PAGE)
    assert ((cut["end"] - cut["start"]) // PAGE).tolist() == [10] * 9 + [5, 5]
    assert cut["start"][0] == BASE
    assert cut["end"][9] == BASE + 95 * PAGE


def test_the_limit_is_never_below_a_page():
    assert rules.size_limit(rules.new_regions([(BASE, BASE + PAGE)]), 10) == PAGE


def test_each_region_gives_one_page_of_its_own():
    some = regions((1, 0, 0, 0), (7, 0, 0, 0), (5000, 0, 0, 0))
    rng = np.random.default_rng(1)
    drawn = np.array([rules.sample_addresses(some, rng, modulo_4gib=False) for _ in range(300)]).astype(np.int64)
    assert ((drawn >= some["start"]) & (drawn < some["end"])).all()
    assert (drawn % PAGE == 0).all()
    assert len(set(drawn[:, 1].tolist())) == 7


@pytest.mark.parametrize(("size", "reach"), [(6 * GIB, 2 * GIB), (8 * GIB, 4 * GIB), (3 * GIB, 3 * GIB)])
def test_older_kernels_sample_only_the_start_of_regions_above_4_gib(size, reach):
    wide = rules.new_regions([(BASE, BASE + size)])
    rng = np.random.default_rng(1)
    drawn = [int(rules.sample_addresses(wide, rng, modulo_4gib=True)[0]) - BASE for _ in range(300)]
    assert max(drawn) < reach
    assert max(drawn) > 0.95 * reach


# Age

@pytest.mark.parametrize(("now", "before", "threshold", "age"), [
    (5, 5, 0, 8),  # nothing changed
    (7, 5, 2, 8),  # changed by no more than the threshold
    (8, 5, 2, 0),  # by more
    (5, 8, 2, 0),
    (1, 0, 2, 0),  # within the threshold, but from nothing to something
    (0, 1, 2, 0),
    (0, 0, 0, 8),
])
def test_the_age_counts_on_until_the_pattern_changes(now, before, threshold, age):
    some = regions((1, now, before, 7))
    rules.update_ages(some, threshold)
    assert some["age"].tolist() == [age]


def test_ages_count_once_however_many_passes_a_merge_takes():
    some = regions(*[(1, i % 2 * 6, i % 2 * 6, 3) for i in range(8)])
    merged = rules.merge(some, max_nr_accesses=9, limit_bytes=HUGE_LIMIT, max_nr_regions=3, aggr_samples=20)
    assert merged["age"].tolist() == [4]


# Merge

def test_neighbours_within_the_threshold_become_one_with_averages_weighted_by_size():
    merged = rules.merge_once(regions((3, 10, 4, 9), (1, 8, 7, 2)), 2, HUGE_LIMIT)
    assert facts(merged) == [(4, (10 * 3 + 8) // 4, 4, (9 * 3 + 2) // 4)]  # 9 and 7: rounded down


def test_neighbours_that_differ_by_more_than_the_threshold_stay_apart():
    assert rules.merge_once(regions((3, 10, 4, 9), (1, 7, 7, 2)), 2, HUGE_LIMIT).size == 2


def test_a_merge_compares_with_what_the_left_side_has_become():
    merged = rules.merge_once(regions((1, 0, 0, 0), (1, 2, 0, 0), (1, 4, 0, 0), (1, 4, 0, 0)), 2, HUGE_LIMIT)
    assert facts(merged) == [(2, 1, 0, 0), (2, 4, 0, 0)]


def test_regions_with_a_gap_between_them_never_merge():
    apart = regions((1, 5, 5, 0), (1, 5, 5, 0))
    apart["start"][1] += PAGE
    apart["end"][1] += PAGE
    assert rules.merge_once(apart, 20, HUGE_LIMIT).size == 2


def test_a_merge_stops_at_the_size_limit():
    merged = rules.merge_once(regions(*[(2, 0, 0, 0)] * 5), 0, 4 * PAGE)
    assert [pages for pages, *_ in facts(merged)] == [4, 4, 2]


@pytest.mark.parametrize(("max_nr_accesses", "left"), [(9, 2), (10, 1), (19, 1)])
def test_the_threshold_is_a_tenth_of_the_largest_count_rounded_down(max_nr_accesses, left):
    merged = rules.merge(regions((1, 5, 0, 0), (1, 6, 0, 0)), max_nr_accesses, HUGE_LIMIT, 1000, 20)
    assert merged.size == left


def test_the_threshold_doubles_while_there_are_too_many_regions():
    some = [(1, 0, 0, 0), (1, 3, 0, 0), (1, 10, 0, 0)]
    assert rules.merge(regions(*some), 10, HUGE_LIMIT, 3, 20).size == 3
    assert rules.merge(regions(*some), 10, HUGE_LIMIT, 2, 20)["nr_accesses"].tolist() == [1, 10]  # threshold 4
    assert rules.merge(regions(*some), 10, HUGE_LIMIT, 1, 20)["nr_accesses"].tolist() == [4]  # threshold 16


def test_too_many_regions_that_cannot_merge_end_the_growth_of_the_threshold():
    assert rules.merge(regions(*[(2, 0, 0, 0)] * 6), 20, 2 * PAGE, 3, 20).size == 6


# Split

@pytest.mark.parametrize(("now", "before", "pieces"), [
    (501, 0, 1), (500, 0, 2), (500, 500, 2), (333, 333, 2), (332, 332, 3), (332, 331, 2), (10, 10, 3)])
def test_how_often_regions_are_split_depends_on_how_many_there_are(now, before, pieces):
    assert rules.pieces_wanted(now, before, 1000) == pieces


def test_a_split_is_at_a_tenth_of_the_size_and_inherits_everything():
    rng = np.random.default_rng(1)
    lefts = set()
    for _ in range(200):
        cut = rules.split(regions((1000, 0, 7, 5)), 2, rng)
        assert cut.size == 2
        assert cut[["nr_accesses", "last_nr_accesses", "age"]].tolist() == [(0, 7, 5)] * 2
        lefts.add(facts(cut)[0][0])
    assert lefts == set(range(100, 1000, 100))


def test_a_split_in_three_cuts_the_left_piece_again():
    rng = np.random.default_rng(1)
    for _ in range(100):
        first, second, third = (pages for pages, *_ in facts(rules.split(regions((1000, 0, 0, 0)), 3, rng)))
        assert (first + second) % 100 == 0
        assert first * 10 % (first + second) == 0
        assert first + second + third == 1000


def test_regions_of_two_pages_are_not_split():
    assert rules.split(regions((2, 0, 0, 0), (1, 0, 0, 0)), 3, np.random.default_rng(1)).size == 2


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 3), st.integers(0, 2**32))
@settings(deadline=None)
def test_a_split_keeps_every_byte_and_leaves_no_region_empty(sizes, pieces, seed):
    whole = regions(*[(size, 0, 0, 0) for size in sizes])
    cut = rules.split(whole, pieces, np.random.default_rng(seed))
    assert cut["start"][0] == whole["start"][0]
    assert cut["end"][-1] == whole["end"][-1]
    assert (cut["start"][1:] == cut["end"][:-1]).all()
    assert (cut["end"] > cut["start"]).all()
    assert ((cut["end"] - cut["start"]) % PAGE == 0).all()
    assert set(whole["start"].tolist()) <= set(cut["start"].tolist())


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20), st.integers(0, 20), st.integers(0, 9)), min_size=1,
                max_size=40), st.integers(0, 20), st.integers(1, 40))
@settings(deadline=None)
def test_a_merge_keeps_every_byte_and_invents_no_accesses(rows, max_nr_accesses, max_nr_regions):
    some = regions(*rows)
    merged = rules.merge(some.copy(), max_nr_accesses, HUGE_LIMIT, max_nr_regions, 20)
    assert merged["start"][0] == some["start"][0]
    assert merged["end"][-1] == some["end"][-1]
    assert (merged["start"][1:] == merged["end"][:-1]).all()
    assert merged.size <= max(max_nr_regions, 1) or merged.size == 1
    before = ((some["end"] - some["start"]) * some["nr_accesses"]).sum()
    assert ((merged["end"] - merged["start"]) * merged["nr_accesses"]).sum() <= before


# Intervals

@pytest.mark.parametrize(("score", "following"), [
    (10_000, 100_000_000), (0, 200_000_000), (5_000, 150_000_000), (15_000, 50_000_000), (19_999, 10_000),
    (20_000, 10_000), (10**9, 10_000)])
def test_the_feedback_moves_against_the_distance_from_the_goal(score, following):
    assert rules.feed_loop(100_000_000, score) == following


@pytest.mark.parametrize(("nr_accesses", "stretch_bp"), [
    (0, 20_000),  # nothing seen: twice as long
    (1, 18_750),  # 20 samples of which 4 % should see an access: 0.8 wanted, each tenth of the memory gives 0.1
    (8, 10_000),
    (12, 7_500),
    (16, 5_000),  # twice what was wanted or more: half
    (20, 5_000),
])
def test_the_intervals_stretch_by_what_is_missing_to_the_wanted_share_of_accesses(nr_accesses, stretch_bp):
    some = regions((9, 0, 0, 0), (1, nr_accesses, 0, 0))
    assert rules.adaptation_bp(some, 400, 20) == stretch_bp
