# SPDX-License-Identifier: GPL-2.0-only
"""Regions tile their areas, whatever is cut, merged or mapped: no overlap, every byte kept, bounds kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.model import regions as r
from pagepulse.model.memory import PAGE, WINDOW, Mapping

NOW = 100_000_000_000


@st.composite
def mappings(draw, most=12):
    """Sorted mappings, some of them adjacent, some with gaps; names repeat."""
    address, made = 0x1000_0000, []
    for _ in range(draw(st.integers(1, most))):
        address += PAGE * draw(st.sampled_from([0, 0, 1, 5, 1000]))
        size = PAGE * draw(st.integers(1, 600))
        made.append(Mapping(address, address + size, draw(st.sampled_from(["[anon]", "libc.so", "[heap]"]))))
        address += size
    return made


def tiles(regions, areas):
    """Sorted, no overlap, and exactly the areas."""
    assert (regions["start"] < regions["end"]).all()
    assert (regions["end"][:-1] <= regions["start"][1:]).all()
    assert int((regions["end"] - regions["start"]).sum()) == int((areas["end"] - areas["start"]).sum())
    owner = np.searchsorted(areas["start"], regions["start"], side="right") - 1
    assert (regions["end"] <= areas["end"][owner]).all()
    assert (owner == regions["area"]).all()
    return True


def some_regions(areas, points):
    fitted = r.fit(np.empty(0, r.STATE), areas, NOW)
    span = int(areas["end"][-1] - areas["start"][0])
    cuts = areas["start"][0] + (np.array(points, np.uint64) * np.uint64(PAGE)) % np.uint64(span)
    return r.split_at(fitted, np.unique(cuts))


@given(mappings(), st.integers(1, 20))
def test_areas_cover_every_mapping_and_keep_their_limit(made, limit):
    areas = r.areas_of(made, limit)

    assert 1 <= len(areas) <= max(limit, 1)
    assert all(((areas["start"] <= m.start) & (m.end <= areas["end"])).any() for m in made)


@given(mappings(), st.lists(st.integers(0, 100_000), max_size=30))
def test_cutting_keeps_every_byte(made, points):
    areas = r.areas_of(made, 1000)

    assert tiles(some_regions(areas, points), areas)


@given(mappings(), mappings(), st.lists(st.integers(0, 100_000), max_size=30))
def test_regions_follow_mappings_that_come_and_go(before, after, points):
    old = some_regions(r.areas_of(before, 1000), points)
    areas = r.areas_of(after, 1000)

    assert tiles(r.fit(old, areas, NOW), areas)


@given(mappings(), st.lists(st.integers(0, 100_000), max_size=60), st.integers(3, 10), st.integers(0, 30),
       st.lists(st.floats(0, 100), min_size=100, max_size=100))
def test_merging_keeps_every_byte_and_both_bounds(made, points, minimum, more, touches):
    areas = r.areas_of(made, 1000)
    regions = some_regions(areas, points)
    touched, watched = np.array(touches[: len(regions)]), np.full(len(regions), 1e9)
    merged = r.merge(regions, r.Seen(touched, watched, touched[::-1], watched), NOW, minimum, minimum + more)

    assert tiles(merged, areas)
    assert len(merged) >= min(minimum, len(regions))
    assert len(merged) <= max(minimum + more, len(areas))


@given(mappings(), st.integers(3, 40))
def test_the_minimum_is_reached_where_regions_can_be_cut(made, minimum):
    areas = r.areas_of(made, 1000)
    regions = r.split_to_minimum(r.fit(np.empty(0, r.STATE), areas, NOW), minimum, WINDOW)

    assert tiles(regions, areas)
    assert len(regions) >= minimum or ((regions["end"] - regions["start"]) < 2 * WINDOW).all()


def test_100_000_mappings_become_no_more_areas_than_allowed():
    many = [Mapping(i * 4 * PAGE, i * 4 * PAGE + PAGE, "[anon]") for i in range(1, 100_001)]

    assert len(r.areas_of(many, 500)) == 500


def test_neighbours_alike_become_one_and_others_do_not():
    areas = r.areas_of([Mapping(0x100000, 0x500000, "[anon]")], 10)
    regions = r.split_at(r.fit(np.empty(0, r.STATE), areas, NOW), np.array([0x200000, 0x300000, 0x400000], np.uint64))
    merged = r.merge(regions, r.Seen.of(np.array([0.0, 0.0, 500.0, 500.0]), np.full(4, 1e9)), NOW, 1, 1000)

    assert merged["start"].tolist() == [0x100000, 0x300000]


@pytest.mark.parametrize(("touches_of_other", "become"), [(0.0, 2), (50.0, 2), (500.0, 1), (5000.0, 1)])
def test_a_region_with_a_lower_bound_is_like_one_that_keeps_it(touches_of_other, become):
    areas = r.areas_of([Mapping(0x100000, 0x300000, "[anon]")], 10)
    regions = r.split_at(r.fit(np.empty(0, r.STATE), areas, NOW), np.array([0x200000], np.uint64))
    bound, other = np.array([400.0, 0.0]), np.array([0.0, touches_of_other])
    watched_ns = np.array([1e9, 0.0])
    for flip in (slice(None), slice(None, None, -1)):
        seen = r.Seen(other[flip], watched_ns[::-1][flip], bound[flip], watched_ns[flip])

        assert len(r.merge(regions, seen, NOW, 1, 1000)) == become


def test_a_merged_region_is_as_old_as_its_parts_by_size():
    areas = r.areas_of([Mapping(0x100000, 0x500000, "[anon]")], 10)
    regions = r.split_at(r.fit(np.empty(0, r.STATE), areas, NOW), np.array([0x200000], np.uint64))
    regions["since_ns"] = [NOW - 40_000_000_000, NOW - 30_000_000_000]
    [merged] = r.merge(regions, r.Seen.of(np.zeros(2), np.full(2, 1e9)), NOW, 1, 1000)

    assert NOW - int(merged["since_ns"]) == pytest.approx(32.5e9)


def test_cut_regions_share_their_evidence_by_size():
    areas = r.areas_of([Mapping(0x100000, 0x500000, "[anon]")], 10)
    regions = r.fit(np.empty(0, r.STATE), areas, NOW)
    regions["trials"], regions["hits"] = 400, 100
    parts = r.split_at(regions, np.array([0x200000], np.uint64))

    assert parts["trials"].tolist() == [100, 300]
    assert parts["hits"].tolist() == [25, 75]


@pytest.mark.parametrize(("references", "become"), [((0.0, 0.9), 2), ((0.5, 0.9), 1), ((0.0, 0.001), 1)])
def test_what_woke_a_moment_ago_does_not_join_what_is_as_old_and_was_active(references, become):
    areas = r.areas_of([Mapping(0x100000, 0x500000, "[anon]")], 10)
    regions = r.split_at(r.fit(np.empty(0, r.STATE), areas, NOW), np.array([0x300000], np.uint64))
    regions["reference"] = references

    assert len(r.merge(regions, r.Seen.of(np.full(2, 500.0), np.full(2, 1e9)), NOW, 1, 1000)) == become


def test_a_small_part_takes_over_few_of_the_trials_of_the_whole_and_most_of_it_all_that_are_its_own():
    areas = r.areas_of([Mapping(0x100000, 0x900000, "[anon]")], 10)
    whole = r.fit(np.empty(0, r.STATE), areas, NOW)
    whole["trials"], whole["hits"], whole["wakes"] = 8000, 4000, 800
    parts = r.doubted(r.split_at(whole, np.array([0x200000], np.uint64)), whole)

    assert parts["trials"].tolist() == [64, 7000]
    assert parts["hits"].tolist() == [32, 3500]
    assert parts["wakes"].tolist() == [100, 700]
