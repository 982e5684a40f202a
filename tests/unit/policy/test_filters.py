# SPDX-License-Identifier: GPL-2.0-only
"""What memory of a pattern a scheme may have: for regions as far as they are known, for pages exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import BASE, MIB, SECOND, region, snapshot
from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.model.snapshot import SharedRange
from pagepulse.policy.decide import PageState, candidates, cold_runs
from pagepulse.policy.filters import Filter, Pages, Where, may_pass, passing, rejects_all
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.quota import Usage
from pagepulse.policy.scheme import Scheme

NAMES = ("[heap]", "[anon: arena]", "/usr/lib/libc.so.6", "/dev/shm/cache")
CGROUP = "/system.slice/redis.service"
FILTERS = st.builds(
    lambda kind, matching, allow: {**kind, "matching": matching, "allow": allow},
    st.one_of(
        st.sampled_from([{"type": "anon"}, {"type": "file"}, {"type": "young"},
                         {"type": "hugepage_size", "size": {"min": "2M"}}, {"type": "mapping", "glob": "*lib*"},
                         {"type": "cgroup", "path": "/system.slice"}, {"type": "cgroup", "path": "/other"}]),
        st.tuples(st.integers(0, 1030), st.integers(1, 1030)).map(
            lambda at: {"type": "address", "start": BASE + at[0] * PAGE, "end": BASE + (at[0] + at[1]) * PAGE})),
    st.booleans(), st.booleans())


def scheme(*filters: dict[str, Any]) -> Scheme:
    text = json.dumps({"schemes": [{"name": "x", "action": "pageout", "access_pattern": {"age": {"min": "1 s"}},
                                    "filters": list(filters)}]})
    return parse_schemes(text.encode(), "test")[0]


def rules(*filters: dict[str, Any]) -> tuple[Filter, ...]:
    """Filters without a scheme, which would refuse those that nothing can pass."""
    return tuple(Filter.model_validate(one) for one in filters)


def passed(*filters: dict[str, Any], name: str = "[heap]", cgroup: str = CGROUP, start: int = BASE, young: str = "....",
           huge: bool = False) -> str:
    """Which of a few pages pass: `x`, which not: `.`. `young` has a `y` for each young page."""
    pages = Pages(start, np.array([letter == "y" for letter in young]), np.full(len(young), huge))
    return "".join("x" if one else "." for one in passing(rules(*filters), pages, Where(name, (cgroup,))))


def names_that_pass(*filters: dict[str, Any]) -> list[str]:
    return [name for name in NAMES if passed(*filters, name=name) == "xxxx"]


def test_without_filters_all_pass():
    assert names_that_pass() == list(NAMES)


@pytest.mark.parametrize(("given_filters", "expected"), [
    ([{"type": "anon"}], NAMES[2:]),
    ([{"type": "anon", "allow": True}], NAMES[:2]),
    ([{"type": "anon", "matching": False}], NAMES[:2]),
    ([{"type": "anon", "matching": False, "allow": True}], NAMES[2:]),
    ([{"type": "file", "allow": True}], NAMES[2:]),
    ([{"type": "mapping", "glob": "[heap]"}], NAMES[1:]),
    ([{"type": "mapping", "glob": "*/libc.so*", "allow": True}], NAMES[2:3]),
    ([{"type": "mapping", "glob": "[anon: *]", "allow": True}], NAMES[1:2]),
    ([{"type": "mapping", "glob": "[heap]"}, {"type": "anon", "allow": True}], NAMES[1:2]),
    ([{"type": "anon", "allow": True}, {"type": "mapping", "glob": "[heap]"}], NAMES),
    ([{"type": "mapping", "glob": "/dev/shm/*", "allow": True}, {"type": "file"}], (*NAMES[:2], NAMES[3])),
])
def test_the_first_filter_that_matches_decides_and_the_rest_is_the_opposite_of_the_last(given_filters, expected):
    assert names_that_pass(*given_filters) == list(expected)


@pytest.mark.parametrize(("path", "inside"), [
    ("/system.slice", True), (CGROUP, True), (CGROUP + "/", True), ("/", True), ("/system", False),
    ("/user.slice", False)])
def test_a_cgroup_holds_the_processes_in_it_and_below_it(path, inside):
    assert passed({"type": "cgroup", "path": path, "allow": True}) == ("xxxx" if inside else "....")


def test_either_version_of_cgroups_will_do():
    pages = Pages(BASE, np.zeros(4, np.bool_), np.zeros(4, np.bool_))
    found = [passing(rules({"type": "cgroup", "path": path}), pages, Where("[heap]", ("/", "/batch/17"))).any()
             for path in ("/batch", "/batch/17", "/batch/1")]
    assert found == [False, False, True]


def test_addresses_are_cut_to_the_page():
    span = {"type": "address", "start": BASE + PAGE, "end": hex(BASE + 3 * PAGE)}
    assert passed({**span, "allow": True}) == ".xx."
    assert passed({**span, "matching": False, "allow": True}) == "x..x"


def test_young_pages_and_sizes_of_pages_are_asked_page_by_page():
    assert passed({"type": "young"}, young=".y.y") == "x.x."
    large = {"type": "hugepage_size", "size": {"min": "2 MiB"}, "allow": True}
    assert [passed(large, huge=huge) for huge in (True, False)] == ["xxxx", "...."]
    small = {"type": "hugepage_size", "size": {"max": "64 KiB"}, "allow": True}
    assert [passed(small, huge=huge) for huge in (True, False)] == ["....", "xxxx"]


@given(st.lists(FILTERS, max_size=4), st.integers(0, 3), st.booleans(), st.booleans())
def test_nothing_passes_filters_that_are_told_to_reject_all(given_filters, mapping, young, huge):
    pages = Pages(BASE, np.full(4, young), np.full(4, huge))
    some = passing(rules(*given_filters), pages, Where(NAMES[mapping], (CGROUP,))).any()
    assert not (some and rejects_all(rules(*given_filters), young=young))


def test_shared_memory_that_its_program_named_is_of_a_file():
    assert passed({"type": "anon", "allow": True}, name="[anon_shmem: cache]") == "...."
    assert passed({"type": "file", "allow": True}, name="[anon_shmem: cache]") == "xxxx"


@pytest.mark.parametrize(("given_filter", "expected"), [
    ({"type": "anon", "allow": True}, [True, False, True]),
    ({"type": "file", "allow": True}, [False, True, True]),
    ({"type": "anon"}, [False, True, True]),
    ({"type": "file"}, [True, False, True]),
])
def test_a_region_of_shared_memory_is_of_a_file_whatever_its_name(given_filter, expected):
    own, shared, both = (region(BASE + i * CHUNK, size=CHUNK, mapping=1) for i in range(3))
    ranges = (SharedRange(BASE + CHUNK, BASE + 2 * CHUNK + CHUNK // 2, "00:01:77", 0),)
    snap = replace(snapshot(own, shared, both, mappings=NAMES), shared=ranges)
    assert may_pass(rules(given_filter), snap, (CGROUP,)).tolist() == expected


# --- regions -------------------------------------------------------------------------------------------------------

@given(st.lists(FILTERS, max_size=4), st.integers(0, 3), st.booleans(), st.booleans())
def test_a_region_of_which_a_page_passes_is_never_left_out(given_filters, mapping, young, huge):
    snap = snapshot(region(size=4 * MIB, mapping=mapping), mappings=NAMES)
    pages = Pages(BASE, np.full(1024, young), np.full(1024, huge))
    some = passing(rules(*given_filters), pages, Where(NAMES[mapping], (CGROUP,))).any()
    may, = may_pass(rules(*given_filters), snap, (CGROUP,))
    assert may or not some


@given(st.lists(FILTERS.filter(lambda one: one["type"] not in {"young", "hugepage_size", "address"}), max_size=4),
       st.integers(0, 3))
def test_where_all_is_known_of_a_region_the_answer_is_exact(given_filters, mapping):
    snap = snapshot(region(mapping=mapping), mappings=NAMES)
    pages = Pages(BASE, np.zeros(4, np.bool_), np.zeros(4, np.bool_))
    exact = passing(rules(*given_filters), pages, Where(NAMES[mapping], (CGROUP,))).all()
    assert may_pass(rules(*given_filters), snap, (CGROUP,)).tolist() == [exact]


def test_candidates_carry_the_filters_to_the_pages():
    of = scheme({"type": "address", "start": BASE + CHUNK, "end": BASE + CHUNK + 2 * PAGE, "allow": True})
    snap = snapshot(region(size=2 * CHUNK, since_ns=0), region(BASE + 4 * CHUNK, since_ns=0))
    one, = candidates(of, snap, Usage(0))
    everything = np.ones(1024, np.bool_)
    state = PageState(BASE, everything, ~everything, ~everything, np.zeros(1024, np.int64))
    assert cold_runs(one, state, 100 * SECOND).tolist() == [[BASE + CHUNK, BASE + CHUNK + 2 * PAGE]]


def test_a_huge_page_that_passes_only_in_part_is_left_alone():
    of = scheme({"type": "address", "start": BASE, "end": BASE + PAGE})
    one, = candidates(of, snapshot(region(since_ns=0)), Usage(0))
    everything = np.ones(512, np.bool_)
    state = PageState(BASE, everything, ~everything, everything, np.zeros(512, np.int64))
    assert cold_runs(one, state, 100 * SECOND).tolist() == []
