# SPDX-License-Identifier: GPL-2.0-only
"""Which regions show a pattern: tables of (pattern, region, expected)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import BASE, MIB, SECOND, region, snapshot, touched_region
from pagepulse.policy.match import matches
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.scheme import Scheme

NOW = 10 * SECOND + SECOND // 10  # end of a snapshot from builders


def scheme(**pattern: Any) -> Scheme:
    text = json.dumps({"schemes": [{"name": "test", "action": "stat", "access_pattern": pattern}]})
    return parse_schemes(text.encode(), "test")[0]


def aged(age_ns: int) -> Any:
    return region(since_ns=NOW - age_ns)


@pytest.mark.parametrize(("pattern", "row", "expected"), [
    ({}, region(), True),
    ({"size": {"min": "2 MiB", "max": "2 MiB"}}, region(size=2 * MIB), True),
    ({"size": {"min": 2 * MIB + 1}}, region(size=2 * MIB), False),
    ({"size": {"max": 2 * MIB - 1}}, region(size=2 * MIB), False),
    ({"size": {"min": "2 MiB"}}, region(size=2 * MIB, present_bytes=4096), True),
    ({"age": {"min": "5 s", "max": "5 s"}}, aged(5 * SECOND), True),
    ({"age": {"min": "5 s"}}, aged(5 * SECOND - 1), False),
    ({"age": {"max": "5 s"}}, aged(5 * SECOND + 1), False),
    ({"rate": {"max": "0%"}}, touched_region(share=0.0), True),
    ({"rate": {"max": "0%"}}, touched_region(share=0.002), False),
    ({"rate": {"max": "5%"}}, touched_region(share=0.05), True),
    ({"rate": {"max": "5%"}}, touched_region(share=0.06), False),
    ({"rate": {"min": "50%"}}, touched_region(share=0.5), True),
    ({"rate": {"min": "50%"}}, touched_region(share=0.49), False),
    ({"rate": {"min": "100%"}}, touched_region(share=1.0), True),
    ({"rate": {"max": "3%"}}, region(nr_accesses=0.6), True),  # 0.6 is a little more in single precision
    ({"rate": {"min": "7%"}}, region(nr_accesses=1.4), True),  # 1.4 is a little less
    ({"rate": {"max": "2 Hz"}}, region(rate_hz=2.0), True),
    ({"rate": {"max": "2 Hz"}}, region(rate_hz=2.1), False),
    ({"rate": {"min": "2 Hz"}}, region(rate_hz=1.9), False),
    ({"rate": {"min": "1%", "max": "50 Hz"}}, region(nr_accesses=1.0, rate_hz=49.0), True),
    ({"rate": {"min": "1%", "max": "50 Hz"}}, region(nr_accesses=0.1, rate_hz=49.0), False),
    ({"rate": {"min": "1%", "max": "50 Hz"}}, region(nr_accesses=1.0, rate_hz=51.0), False),
    ({"size": {"min": "2 MiB"}, "age": {"min": "5 s"}}, aged(SECOND), False),
])
def test_a_region_matches_if_size_rate_and_age_are_all_within_their_bounds(pattern, row, expected):
    assert matches(scheme(**pattern), snapshot(row)).tolist() == [expected]


@pytest.mark.parametrize(("facts", "expected"), [
    ({"present_bytes": 0}, False),
    ({"unknown_bytes": 2 * MIB}, False),
    ({"unclearable_bytes": 2 * MIB}, False),
    ({"unknown_bytes": MIB, "unclearable_bytes": MIB}, False),
    ({"unknown_bytes": 2 * MIB - 4096}, True),
])
def test_memory_of_which_nothing_is_known_matches_no_pattern_at_all(facts, expected):
    assert matches(scheme(), snapshot(region(**facts))).tolist() == [expected]


def test_each_region_is_judged_for_itself():
    rows = [touched_region(BASE + i * 2 * MIB, share=share) for i, share in enumerate((0.0, 0.9, 0.01))]
    assert matches(scheme(rate={"max": "5%"}), snapshot(*rows)).tolist() == [True, False, True]


def test_the_share_counts_the_sampling_intervals_that_the_snapshot_really_had():
    row = region(nr_accesses=10.0)
    half = snapshot(row)  # 10 of 20 sampling intervals
    tenth = snapshot(row, duration_ns=SECOND // 2)  # 10 of 100
    assert matches(scheme(rate={"min": "50%"}), half).tolist() == [True]
    assert matches(scheme(rate={"min": "50%"}), tenth).tolist() == [False]


def test_a_snapshot_without_regions_matches_nothing():
    assert matches(scheme(), snapshot(region()[:0])).shape == (0,)


def test_ages_keep_their_meaning_when_the_intervals_move():
    row = aged(5 * SECOND)
    slow = snapshot(row, start_ns=NOW - 4 * SECOND, duration_ns=4 * SECOND)
    assert matches(scheme(age={"min": "5 s"}), slow).tolist() == [True]


def test_an_unbounded_pattern_matches_the_oldest_and_largest_region():
    whole = region(0, size=2**47, since_ns=0)
    assert matches(scheme(size={"min": 0, "max": 2**63 - 1}), snapshot(whole)).tolist() == [True]


@pytest.mark.parametrize(("action", "expected"), [("willneed", True), ("stat", False)])
def test_what_is_not_resident_is_for_willneed_alone(action, expected):
    text = json.dumps({"schemes": [{"name": "test", "action": action, "access_pattern": {}}]})
    [asked] = parse_schemes(text.encode(), "test")
    assert matches(asked, snapshot(region(present_bytes=0))).tolist() == [expected]
