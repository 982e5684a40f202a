# SPDX-License-Identifier: GPL-2.0-only
"""damo's documents, as damo itself writes them: taken as they are, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.errors import RefusedFile
from pagepulse.policy import damo_values
from pagepulse.policy.explain import sentence
from pagepulse.policy.fields import Rate, Target
from pagepulse.policy.parse import Document, parse_document
from pagepulse.policy.scheme import Scheme

DATA = Path(__file__).parents[2] / "data" / "damo"
REFUSED = {"paddr", "lru_prio", "no_meaning", "node_goal", "user_input"}
SCHEME = "kdamonds[0].contexts[0].schemes[0]"
SECOND = 1_000_000_000


def content(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


def document(value: Any) -> Document:
    return parse_document(json.dumps(value).encode(), "test")


def damos(**changes: Any) -> dict[str, Any]:
    """A scheme as damo 3.4.3 writes it, with these top-level keys changed."""
    scheme: dict[str, Any] = content("full")["kdamonds"][0]["contexts"][0]["schemes"][0]
    return scheme | changes


def of(**changes: Any) -> Scheme:
    only, = document([damos(**changes)]).schemes
    return only


def faults(value: Any) -> list[str]:
    with pytest.raises(RefusedFile) as refused:
        document(value)
    return [line.strip() for line in refused.value.why.splitlines()]


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_what_damo_wrote_is_taken_as_it_is_or_refused_with_a_path(path):
    if path.stem in REFUSED:
        assert all(line.startswith("kdamonds[0].contexts[0].") for line in faults(content(path.stem)))
    else:
        assert all(sentence(scheme) for scheme in document(content(path.stem)).schemes)


def test_a_full_document_says_here_what_it_says_to_damon():
    only, = document(content("full")).schemes
    assert sentence(only) == (
        "pageout-0: pages out memory that was not touched for at least 5 s, in regions of 4 KiB or more that are "
        "touched in at most 5% of sampling intervals, allowing what is anonymous, and rejecting the rest, looking each "
        "2 s; at most 128 MiB and 10 ms of work each second, coldest first by rate 3, age 7; tuned until memory "
        "pressure (some) is 1%; only while free memory is within 20% and 50%, beginning below 40%, asked each 5 s.")


def test_a_bare_list_says_the_same_as_the_full_document():
    full = content("full")
    assert document(full["kdamonds"][0]["contexts"][0]["schemes"]).schemes == document(full).schemes


def test_a_fault_in_a_bare_list_has_a_path_of_that_list():
    assert faults([damos(), damos(action="explode")])[0].startswith("[1].action: expected an action, got 'explode'")


def test_schemes_of_all_contexts_come_in_order_each_with_a_name_of_its_own():
    value = content("ethp")
    value["kdamonds"] += content("tiering")["kdamonds"]
    assert [one.name for one in document(value).schemes] == [
        "hugepage-0", "nohugepage-1", "migrate_hot-2", "migrate_cold-3"]


def test_a_name_that_older_files_give_is_kept():
    assert of(name="prcl").name == "prcl"


@pytest.mark.parametrize(("bounds", "lowest", "highest"), [
    (("0 %", "0 %"), 0, 0.05),
    (("5 %", "max"), 0.05, None),
    (("1 %", "100 %"), 0, None),
    (("3 samples", "7 samples"), 0.15, 0.4),
    (("min", "18,446,744,073,709,551,615 %"), 0, None),
    ((5, 50), 0.05, 0.55),
])
def test_a_rate_admits_what_damon_would_count_so(bounds, lowest, highest):
    pattern = damos()["access_pattern"] | {"nr_accesses": dict(zip(("min", "max"), bounds, strict=True))}
    found = of(access_pattern=pattern).access_pattern.rate
    assert found.min == Rate(share=pytest.approx(lowest))
    assert found.max == (None if highest is None else Rate(share=pytest.approx(highest)))


def test_samples_and_ages_in_intervals_are_those_of_the_document():
    value = content("intervals")
    context = value["kdamonds"][0]["contexts"][0]
    context["intervals"] |= {"sample_us": "20 ms", "aggr_us": "200 ms"}
    context["schemes"][0]["access_pattern"] |= {
        "nr_accesses": {"min": "1 samples", "max": "1 samples"}, "age": {"min": "15 aggr_intervals", "max": "max"}}
    only, = document(value).schemes
    assert only.access_pattern.rate.min == Rate(share=0.1)
    assert only.access_pattern.age.min_ns == 3 * SECOND


def test_what_is_left_out_without_harm_is_noted():
    notes = document(content("intervals")).notes
    assert [note.split(":")[0].removeprefix("kdamonds[0].contexts[0].") for note in notes] == [
        "targets", "intervals", "schemes[0].access_pattern.nr_accesses.max"]


def test_a_bare_list_of_schemes_with_nothing_to_note_has_no_notes():
    pattern = damos()["access_pattern"] | {"nr_accesses": {"min": "5 %", "max": "max"}}
    assert document([damos(access_pattern=pattern)]).notes == ()


def test_a_limit_of_zero_is_none_as_in_damon():
    quotas = damos()["quotas"] | {"time_ms": "0 ns", "sz_bytes": "0 B", "reset_interval_ms": "max", "goals": []}
    only = of(quotas=quotas)
    assert (only.limit_bytes, only.quotas.time_ns, only.quotas.reset_interval_ns) == (None, None, SECOND)


def test_a_goal_of_pressure_is_a_share_of_the_reset_interval():
    quotas = damos()["quotas"] | {"reset_interval_ms": "2 s"}
    assert of(quotas=quotas).quotas.goals[0].target == Target(share=0.005)


def test_filters_of_addresses_come_first_as_in_damons_core():
    only, = document(content("filters")).schemes
    assert [one.type for one in only.filters] == ["address", "anon", "cgroup", "young", "hugepage_size"]
    assert (only.filters[0].start, only.filters[0].end) == (4096, 8192)


def test_a_filter_of_before_allow_rejects():
    only, = document(content("damo-2.0.0")).schemes
    assert [(one.type, one.matching, one.allow) for one in only.filters] == [("anon", False, False)]


@pytest.mark.parametrize(("changes", "fault"), [
    ({"dests": [{"id": 0, "weight": 7}, {"id": 1, "weight": 3}], "action": "migrate_hot"},
     "[0].dests: expected one NUMA node to migrate to, got 2"),
    ({"action": "migrate_cold"}, "[0].dests: expected one NUMA node to migrate to, got 0"),
    ({"max_nr_snapshots": "5"}, "[0].max_nr_snapshots: expected none, got '5'; a scheme ends with the run here"),
    ({"acton": "stat"}, "[0]: unknown key 'acton'; did you mean 'action'?"),
    ({"filters": [{"filter_type": "memcg", "matching": True, "memcg_path": None}]},
     "[0].filters[0].memcg_path: expected a path, got none"),
    ({"filters": [{"filter_type": "addr", "matching": True, "address_range": {"start": "8,192", "end": "4,096"}}]},
     "[0].filters[0]: expected start below end, got 0x2000 and 0x1000"),
    ({"filters": [{"filter_type": "anon", "matching": "perhaps"}]},
     "[0].filters[0].matching: expected true or false, got 'perhaps'"),
])
def test_a_fault_is_told_with_its_path_in_damos_document(changes, fault):
    assert faults([damos(**changes)]) == [fault]


def test_probes_pauses_and_other_primitives_are_refused_by_name():
    value = content("full")
    context = value["kdamonds"][0]["contexts"][0]
    context |= {"pause": True, "probes": [{"filters": []}]}
    context["sample_control"]["primitives_enabled"]["page_fault"] = True
    assert [line.split(":")[0].removeprefix("kdamonds[0].contexts[0].") for line in faults(value)] == [
        "probes", "sample_control.primitives_enabled.page_fault", "pause"]


# --- values --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("value", "expected_ns"), [
    ("1 m 30 s", 90 * SECOND), ("2 h", 7200 * SECOND), ("1,500 ms", 1_500_000_000), ("0 ns", 0), ("5", 5_000),
    (5, 5_000), ("1.5s", 1_500_000_000), ("max", damo_values.UNLIMITED),
    ("18446744073709551615", damo_values.UNLIMITED)])
def test_a_time_has_its_own_units_or_that_of_its_key(value, expected_ns):
    assert damo_values.time_in("us")(value) == expected_ns


@pytest.mark.parametrize("value", ["", "5 x", "-5 s", "5 s 3", None, True, [], float("nan"), float("inf"), 10**400,
                                   "9" * 100, "1 ss"])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match="expected a time"):
        damo_values.time_in("us")(value)


@pytest.mark.parametrize("parse", [damo_values.size, damo_values.number, damo_values.permil, damo_values.age,
                                   damo_values.accesses])
@given(value=st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_every_value_is_within_bounds_or_refused_with_what_was_expected(parse, value):
    try:
        parsed = parse(value)
    except ValueError as error:
        fault = str(error)
    else:
        fault = ""
        count = parsed.count if isinstance(parsed, damo_values.Counted) else parsed
        assert 0 <= count <= damo_values.UNLIMITED
    assert not fault or fault.startswith("expected ")
