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


def fixed(*targets: Any) -> dict[str, Any]:
    """A document for fixed ranges of virtual memory, which are the regions of these targets."""
    value: dict[str, Any] = content("full")
    value["kdamonds"][0]["contexts"][0] |= {"ops": "fvaddr", "targets": list(targets)}
    return value


def target(*regions: tuple[int, int], pid: int = 1234) -> dict[str, Any]:
    return {"pid": pid, "obsolete": False, "regions": [{"start": f"{a:,}", "end": f"{b:,}"} for a, b in regions]}


@pytest.mark.parametrize(("regions", "expected"), [
    ([(4096, 8192)], [(False, 4096, 8192)]),
    ([(16384, 20480), (4096, 8192)], [(False, 4096, 20480), (True, 8192, 16384)]),
    ([(4096, 8192), (8192, 12288), (4096, 5000)], [(False, 4096, 12288)]),
])
def test_all_but_the_fixed_regions_of_a_target_is_rejected_before_all_else(regions, expected):
    only, = document(fixed(target(*regions))).schemes
    *rejecting, last = only.filters
    assert [(one.matching, one.start, one.end) for one in rejecting] == expected
    assert not any(one.allow for one in rejecting)
    assert (last.type, last.allow) == ("anon", True)


@pytest.mark.parametrize(("targets", "path", "text"), [
    ([], "targets", "expected regions, as fvaddr is for nothing else"),
    ([target()], "targets", "expected regions, as fvaddr is for nothing else"),
    ([target((1, 2)), target((1, 3), pid=5)], "targets", "expected the same regions for all targets"),
    ([target((1, 2), (9, 8))], "targets[0].regions[1]", "expected start below end, got 0x9 and 0x8"),
])
def test_fixed_regions_that_no_filter_can_say_are_refused(targets, path, text):
    fault, = faults(fixed(*targets))
    assert fault.startswith(f"kdamonds[0].contexts[0].{path}: {text}")


def test_contexts_of_different_targets_are_refused():
    value = content("ethp")
    value["kdamonds"] += content("tiering")["kdamonds"]
    value["kdamonds"][1]["contexts"][0]["targets"][0]["pid"] = 99
    fault, = faults(value)
    assert fault.startswith("kdamonds[1].contexts[0].targets: expected the targets of kdamonds[0].contexts[0]")


def test_two_schemes_of_one_name_are_refused_with_damos_paths():
    assert faults([damos(name="a"), damos(name="a")]) == [
        "[1].name: expected a name of its own, got 'a', the name of [0]"]


@pytest.mark.parametrize("key", ["sample_us", "aggr_us"])
def test_an_interval_of_nothing_is_refused(key):
    value = content("full")
    value["kdamonds"][0]["contexts"][0]["intervals"][key] = 0
    assert faults(value) == [f"kdamonds[0].contexts[0].intervals.{key}: expected at least 1 ns, got 0"]


@pytest.mark.parametrize("change", [{"dests": [{"id": 1, "weight": 1}]}, {"target_nid": 1}])
def test_a_node_to_which_nothing_is_moved_is_noted(change):
    key, = change
    assert f"[0].{key}: not used; pageout moves nothing to a node" in document([damos(**change)]).notes


def test_a_fault_names_the_filter_as_damo_numbers_it():
    filters = [{"filter_type": "anon", "matching": True},
               {"filter_type": "addr", "matching": True, "address_range": {"start": 1, "end": 2}},
               {"filter_type": "addr", "matching": True, "address_range": {"start": 8, "end": 4}},
               {"filter_type": "hugepage_size", "matching": True, "hugepage_size": [8192, 4096]}]
    assert [fault.split(": ")[0] for fault in faults([damos(filters=filters)])] == [
        "[0].filters[2]", "[0].filters[3].hugepage_size"]
    value = fixed(target((1, 2), (3, 4)))
    value["kdamonds"][0]["contexts"][0]["schemes"][0]["filters"] = filters
    assert [fault.split(": ")[0] for fault in faults(value)] == [
        f"{SCHEME}.filters[2]", f"{SCHEME}.filters[3].hugepage_size"]


def test_a_fault_of_the_translation_names_damos_own_keys():
    full = damos()
    pattern = {"sz_bytes": {"min": 9000, "max": 4096}, "nr_accesses": {"min": "90 %", "max": "5 %"},
               "age": {"min": 0, "max": "max"}}
    goals = [full["quotas"]["goals"][0] | {"target_value": 0}]
    assert [fault.split(": ")[0] for fault in faults(
        [full | {"access_pattern": pattern, "quotas": full["quotas"] | {"goals": goals}}])] == [
        "[0].access_pattern.sz_bytes", "[0].access_pattern.nr_accesses", "[0].quotas.goals[0].target_value"]


@pytest.mark.parametrize(("changes", "fault"), [
    ({"action": "hugepage", "quotas": {"sz_bytes": "1 MiB"}}, "quotas.sz_bytes: expected at least 2 MiB"),
    ({"filters": [{"filter_type": "memcg", "matching": True, "memcg_path": "/sys/fs/cgroup/a"}]},
     "filters[0].memcg_path: expected a path without the mount"),
    ({"filters": [{"filter_type": "young", "matching": True, "allow": True}]}, "filters: expected that what is not"),
    ({"watermarks": {"metric": "free_mem_rate", "interval_us": 1, "high_permil": 0, "mid_permil": 0, "low_permil": 0}},
     "watermarks.mid_permil: expected more than low"),
])
def test_what_nothing_can_ever_come_of_is_refused_with_damos_keys(changes, fault):
    told, = faults([damos(**changes)])
    assert told.startswith(f"[0].{fault}")


def test_a_tuner_that_damo_writes_in_any_case_is_no_fault_without_goals():
    assert of(quotas={"goal_tuner": "consist"}).quotas.goals == ()


def test_a_name_that_is_made_up_is_nobody_elses():
    assert [one.name for one in document([damos(name="pageout-1"), damos()]).schemes] == ["pageout-1", "pageout-1-2"]


def test_samples_longer_than_what_they_are_summed_over_are_refused():
    value = content("full")
    value["kdamonds"][0]["contexts"][0]["intervals"]["sample_us"] = "200 ms"
    told, = faults(value)
    assert told == "kdamonds[0].contexts[0].intervals.sample_us: expected at most aggr_us, 100 ms, got 200 ms"


def test_a_part_of_a_document_is_told_from_a_file_of_unknown_keys():
    kdamond, = content("full")["kdamonds"]
    for part, name, written in ((kdamond, "one of its kdamonds", '{"kdamonds": [{...}]}'),
                                (kdamond["contexts"][0], "one of its contexts",
                                 '{"kdamonds": [{"contexts": [{...}]}]}')):
        told, = faults(part)
        assert told == (f"expected damo's whole document, or a list of its schemes, got what looks like {name}; "
                        f"write {written} around it")
    assert faults(damos()) == [
        "expected a list of schemes, got what looks like one scheme of damo's; write [{...}] around it"]
    told, = faults({"schemes": [damos()]})
    assert told == ("schemes: expected schemes in pagepulse's language, got what looks like damo's; damo's are "
                    'accepted as a list alone, [{...}], or in a whole document, {"kdamonds": [...]}')


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
