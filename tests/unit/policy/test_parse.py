# SPDX-License-Identifier: GPL-2.0-only
"""The scheme language: what is understood, and the words in which the rest is refused."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.errors import RefusedFile
from pagepulse.policy import fields
from pagepulse.policy.fields import Rate
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.scheme import DEFAULT_QUOTA_BYTES, Scheme

MIB = 1024 * 1024


def scheme_json(**changes: Any) -> dict[str, Any]:
    return {"name": "reclaim", "action": "pageout", "access_pattern": {"age": {"min": "5 s"}}} | changes


def parse(*schemes: Any, **top: Any) -> tuple[Scheme, ...]:
    return parse_schemes(json.dumps({"schemes": list(schemes), **top}).encode(), "file.json")


def faults(data: object) -> list[str]:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(RefusedFile) as caught:
        parse_schemes(text, "file.json")
    assert caught.value.what == "file.json is refused"
    return [line.strip() for line in caught.value.why.splitlines()]


def scheme_faults(**changes: Any) -> list[str]:
    return faults({"schemes": [scheme_json(**changes)]})


def test_a_full_scheme_arrives_in_canonical_units():
    scheme, = parse(scheme_json(
        comment="why", access_pattern={"size": {"min": "4 KiB", "max": 8192}, "rate": {"min": "1.5%", "max": "20 Hz"},
                                       "age": {"min": "5 s", "max": "1.5h"}},
        apply_interval="250 ms", quotas={"size": "1.5MiB", "time": "10ms", "reset_interval": "2s"}))
    pattern = scheme.access_pattern
    assert (pattern.size.min_bytes, pattern.size.max_bytes) == (4096, 8192)
    assert (pattern.rate.min, pattern.rate.max) == (Rate(share=0.015), Rate(hz=20.0))
    assert (pattern.age.min_ns, pattern.age.max_ns) == (5_000_000_000, 5_400_000_000_000)
    assert scheme.apply_interval_ns == 250_000_000
    assert (scheme.limit_bytes, scheme.quotas.time_ns, scheme.quotas.reset_interval_ns) == (
        1_572_864, 10_000_000, 2_000_000_000)


def test_what_is_left_out_means_no_bound_but_a_bounded_quota():
    scheme, = parse(scheme_json())
    pattern = scheme.access_pattern
    assert (pattern.size.min_bytes, pattern.size.max_bytes) == (0, None)
    assert (pattern.rate.min, pattern.rate.max) == (Rate(share=0.0), None)
    assert (pattern.age.max_ns, scheme.apply_interval_ns, scheme.quotas.time_ns) == (None, None, None)
    assert scheme.limit_bytes == DEFAULT_QUOTA_BYTES


def test_a_quota_of_time_alone_does_not_lift_the_limit_of_bytes():
    scheme, = parse(scheme_json(quotas={"time": "10 ms"}))
    assert scheme.limit_bytes == DEFAULT_QUOTA_BYTES


def test_max_lifts_the_limit_because_somebody_wrote_it():
    scheme, = parse(scheme_json(quotas={"size": "max", "time": "max"}))
    assert (scheme.limit_bytes, scheme.quotas.time_ns) == (None, None)


def test_stat_has_no_limit_and_needs_no_age():
    scheme, = parse(scheme_json(action="stat", access_pattern={}))
    assert scheme.limit_bytes is None


def test_the_schemes_keep_the_order_of_the_file():
    assert [scheme.name for scheme in parse(scheme_json(name="b"), scheme_json(name="a"), comment="two")] == ["b", "a"]


def test_a_byte_order_mark_is_no_fault():
    data = b"\xef\xbb\xbf" + json.dumps({"schemes": [scheme_json()]}).encode()
    assert len(parse_schemes(data, "file.json")) == 1


def test_a_scheme_cannot_be_changed_after_it_was_checked():
    scheme, = parse(scheme_json())
    with pytest.raises(ValueError, match="frozen"):
        scheme.access_pattern.age.min_ns = 0


PATTERN = "schemes[0].access_pattern"


@pytest.mark.parametrize(("changes", "fault"), [
    ({"access_pattern": {"age": {"min": "5 parsecs"}}},
     f"{PATTERN}.age.min: expected a time such as '5ms' or '60s', got '5 parsecs'"),
    ({"access_pattern": {"age": {"min": 5}}}, f"{PATTERN}.age.min: expected a time such as '5ms' or '60s', got 5"),
    ({"access_pattern": {"age": {"min": "5"}}}, f"{PATTERN}.age.min: expected a time such as '5ms' or '60s', got '5'"),
    ({"access_pattern": {"age": {"min": "max"}}},
     f"{PATTERN}.age.min: expected a time such as '5ms' or '60s', got 'max'"),
    ({"access_pattern": {"age": {"min": "5 s", "max": None}}},
     f"{PATTERN}.age.max: expected a time such as '5ms' or '60s', got null ('max' is no limit)"),
    ({"access_pattern": {"age": {"min": "90 s", "max": "5 s"}}},
     f"{PATTERN}.age: expected min not above max, got min 90 s and max 5 s"),
    ({"access_pattern": {"age": {"min": "1 s"}, "size": {"min": "2M", "max": "4K"}}},
     f"{PATTERN}.size: expected min not above max, got min 2 MiB and max 4 KiB"),
    ({"access_pattern": {"age": {"min": "1 s"}, "rate": {"min": "6%", "max": "5%"}}},
     f"{PATTERN}.rate: expected min not above max, got min 6% and max 5%"),
    ({"access_pattern": {"age": {"min": "1 s"}, "rate": {"min": "6 Hz", "max": "5 Hz"}}},
     f"{PATTERN}.rate: expected min not above max, got min 6 Hz and max 5 Hz"),
    ({"access_pattern": {"age": {"min": "1 s"}, "rate": {"max": "101%"}}},
     f"{PATTERN}.rate.max: expected {fields.RATE}, at most 100%, got '101%' ('max' is no limit)"),
    ({"access_pattern": {"age": {"min": "1 s"}, "rate": {"max": 0.5}}},
     f"{PATTERN}.rate.max: expected {fields.RATE}, got 0.5 ('max' is no limit)"),
    ({"access_pattern": {"age": {"min": "1 s"}, "size": {"min": -1}}},
     f"{PATTERN}.size.min: expected a size such as '4 KiB' or a number of bytes, got -1"),
    ({"access_pattern": {"age": {"min": "1 s"}, "size": {"min": True}}},
     f"{PATTERN}.size.min: expected a size such as '4 KiB' or a number of bytes, got true"),
    ({"access_pattern": {"age": {"min": "1 s"}, "size": {"min": "9999999 PiB"}}},
     f"{PATTERN}.size.min: expected a size such as '4 KiB' or a number of bytes, got '9999999 PiB'"),
    ({"access_pattern": {"age": {"min": "1 s"}, "size": {"min": "9" * 5000}}},
     f"{PATTERN}.size.min: expected a size such as '4 KiB' or a number of bytes, got '{'9' * 56}..."),
    ({"access_pattern": {"age": {"min": "9" * 400 + ".5 s"}}},
     f"{PATTERN}.age.min: expected a time such as '5ms' or '60s', got '{'9' * 56}..."),
    ({"access_pattern": {"rate": {"max": "5%"}}},
     f"{PATTERN}.age.min: expected a time, as pageout acts on what was idle that long; the key is missing"),
    ({"access_pattern": {"ages": {}}}, f"{PATTERN}: unknown key 'ages'; did you mean 'age'?"),
    ({"access_pattern": [1]}, f"{PATTERN}: expected an object, got a list"),
    ({"size": []}, ("schemes[0]: unknown key 'size'; known: name, comment, action, target_node, access_pattern, "
                   "apply_interval, quotas, watermarks, filters, guards, "
         "restore_huge_pages")),
    ({"quotas": {"ms": 10}}, ("schemes[0].quotas: unknown key 'ms'; known: size, time, reset_interval, weights, "
                            "goals, goal_tuner")),
    ({"quotas": {"size": "100 B"}},
     "schemes[0].quotas.size: expected at least 4 KiB, one page, got '100 B' ('max' is no limit)"),
    ({"quotas": {"time": "0 s"}}, "schemes[0].quotas.time: expected at least 1 ns, got '0 s' ('max' is no limit)"),
    ({"quotas": {"reset_interval": "0 s"}}, "schemes[0].quotas.reset_interval: expected at least 1 ns, got '0 s'"),
    ({"quotas": None}, "schemes[0].quotas: expected an object, got null"),
    ({"apply_interval": None}, "schemes[0].apply_interval: expected a time such as '5ms' or '60s', got null"),
    ({"action": "page_out"}, "schemes[0].action: expected an action, got 'page_out'; did you mean 'pageout'?"),
    ({"action": "explode"},
     f"schemes[0].action: expected an action, got 'explode'; known: {', '.join(fields.ACTIONS)}"),
    ({"action": ["stat"]},
     f"schemes[0].action: expected an action, got a list; known: {', '.join(fields.ACTIONS)}"),
    ({"name": ""}, "schemes[0].name: expected a name of at most 64 letters, digits, '.', '_' and '-', got ''"),
    ({"name": "\x1b[2J"},
     r"schemes[0].name: expected a name of at most 64 letters, digits, '.', '_' and '-', got '\x1b[2J'"),
    ({"comment": 3}, "schemes[0].comment: expected a string, got 3"),
    ({"action": "lru_prio"}, ("schemes[0].action: expected an action that can be done here; lru_prio has no meaning "
                              "here: no call raises the priority of another process's pages")),
    ({"action": "migrate_cold"}, ("schemes[0].target_node: expected a NUMA node, as migrate_cold moves memory to it; "
                                  "the key is missing")),
    ({"target_node": 1}, ("schemes[0].target_node: expected no node for pageout; migrate_hot and migrate_cold have "
                          "one")),
    ({"action": "migrate_hot", "target_node": True},
     "schemes[0].target_node: expected the number of a NUMA node, 0 to 1023, got true"),
    ({"quotas": {"weights": {"size": -1}}},
     "schemes[0].quotas.weights.size: expected a weight, a number from 0 on, got -1"),
    ({"quotas": {"weights": {"rates": 1}}}, "schemes[0].quotas.weights: unknown key 'rates'; did you mean 'rate'?"),
    ({"quotas": {"goals": [{"metric": "psi_some", "target": 5}]}},
     "schemes[0].quotas.goals[0].target: expected a share such as '5%', above 0%, for psi_some"),
    ({"quotas": {"goals": [{"metric": "psi_some", "target": "0%"}]}},
     "schemes[0].quotas.goals[0].target: expected a share such as '5%', above 0%, for psi_some"),
    ({"quotas": {"goals": [{"metric": "file", "path": "/x", "target": "5%"}]}},
     "schemes[0].quotas.goals[0].target: expected a number above 0 for the value of a file, got a share"),
    ({"quotas": {"goals": [{"metric": "socket", "target": 5}]}},
     "schemes[0].quotas.goals[0].path: expected the path of the socket to read; the key is missing"),
    ({"quotas": {"goals": [{"metric": "free_memory", "target": "5%", "path": "/x"}]}},
     "schemes[0].quotas.goals[0].path: expected no path for free_memory, which is measured here"),
    ({"quotas": {"goals": [{"metric": "file", "path": "x", "target": 1}]}},
     f"schemes[0].quotas.goals[0].path: expected {fields.PATH}, got 'x'"),
    ({"quotas": {"goals": [{"metric": "file", "path": "/x", "target": float("inf")}]}},
     f"schemes[0].quotas.goals[0].target: expected {fields.TARGET}, got inf"),
    ({"quotas": {"goals": [{"metric": "psi", "target": "5%"}]}},
     ("schemes[0].quotas.goals[0].metric: expected 'free_memory', 'available_memory', 'psi_some', 'psi_full', "
      "'refault_rate', 'file' or 'socket', got 'psi'")),
    ({"watermarks": {"metric": "free_memory", "high": "50%", "mid": "40%"}},
     "schemes[0].watermarks.low: expected a share of free_memory such as '20%'; the key is missing"),
    ({"watermarks": {"metric": "free_memory", "high": "50%", "mid": "60%", "low": "1%"}},
     "schemes[0].watermarks: expected high not below mid, and mid not below low, got 50%, 60%, 1%"),
    ({"watermarks": None}, "schemes[0].watermarks: expected an object, got null"),
    ({"filters": [{"type": "mapping"}]},
     "schemes[0].filters[0].glob: expected a value, as a filter of type mapping needs it; the key is missing"),
    ({"filters": [{"type": "anon", "glob": "x"}]},
     "schemes[0].filters[0].glob: expected no such key in a filter of type anon"),
    ({"filters": [{"type": "address", "start": "0x2000", "end": "0x1000"}]},
     "schemes[0].filters[0]: expected start below end, got 0x2000 and 0x1000"),
    ({"filters": [{"type": "address", "start": "2000", "end": 4096}]},
     f"schemes[0].filters[0].start: expected {fields.ADDRESS}, got '2000'"),
    ({"filters": [{"type": "anon", "allow": "yes"}]},
     "schemes[0].filters[0].allow: expected true or false, got 'yes'"),
    ({"filters": {}}, "schemes[0].filters: expected a list, got an object"),
    ({"guards": {"psi": {"max": "5%"}}},
     "schemes[0].guards.psi: unknown key 'max'; known: enabled, max_some, max_full"),
    ({"guards": {"refault": {"min_accuracy": "50%"}}},
     "schemes[0].guards.refault.stop_accuracy: expected at most min_accuracy, 50%, got 90%"),
    ({"guards": {"swap": {"min_free": "101%"}}},
     f"schemes[0].guards.swap.min_free: expected {fields.SHARE}, got '101%'"),
])
def test_a_fault_is_told_with_its_path_what_was_expected_and_what_was_found(changes, fault):
    assert scheme_faults(**changes) == [fault]


@pytest.mark.parametrize(("data", "fault"), [
    ({"schemes": []}, "schemes: expected at least one scheme, got an empty list"),
    ({"schemes": {}}, "schemes: expected a list, got an object"),
    ({"schemes": ["prcl"]}, "schemes[0]: expected an object, got 'prcl'"),
    ({"schemes": [{"action": "stat", "access_pattern": {}}]}, "schemes[0].name: expected a value, the key is missing"),
    ([], "schemes: expected at least one scheme, got an empty list"),
    ({}, "schemes: expected a value, the key is missing"),
    (b"", "expected JSON, got a fault at line 1, column 1: Expecting value"),
    (b'{"schemes":\n [1,}', "expected JSON, got a fault at line 2, column 5: Expecting value"),
    (b'{"comment": "\xff"}', "expected UTF-8, got byte 0xff at offset 13"),
    (b"[" * 200_000, "expected JSON nested a few levels deep, got far more"),
    (b'{"a":' * 200_000, "expected JSON nested a few levels deep, got far more"),
    (b"9" * 5000, "expected numbers of a few digits, got one with thousands"),
    (b'{"schemes": [], "schemes": []}', "schemes: expected a list, got the key twice"),
])
def test_a_file_that_is_not_of_the_right_shape_is_refused(data, fault):
    assert faults(data) == [fault]


def test_a_scheme_without_its_file_around_it_is_told_from_a_file_of_unknown_keys():
    told, = faults(scheme_json())
    assert told == ("expected a list of schemes, got what looks like one scheme of pagepulse's; write "
                    '{"schemes": [{...}]} around it')


def test_two_schemes_of_the_same_name_are_refused():
    assert faults({"schemes": [scheme_json(), scheme_json(name="b"), scheme_json()]}) == [
        "schemes[2].name: expected a name of its own, got 'reclaim', the name of schemes[0]"]


def test_a_key_given_twice_is_refused_even_with_the_same_value():
    data = b'{"schemes": [{"name": "a", "action": "stat", "access_pattern": {"age": {"min": "5 s", "min": "5 s"}}}]}'
    assert faults(data) == [f"{PATTERN}.age.min: expected a time such as '5ms' or '60s', got the key twice"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused_where_a_number_could_stand(number):
    data = f'{{"schemes": [{{"name": "a", "action": "stat", "access_pattern": {{"size": {{"min": {number}}}}}}}]}}'
    fault, = faults(data.encode())
    assert fault.startswith(f"{PATTERN}.size.min: expected a size")


def test_all_faults_are_told_at_once():
    assert len(scheme_faults(name="a b", action="x", apply_interval=1, quota={})) == 4


def test_a_file_full_of_faults_is_told_about_the_first_of_them():
    told = faults({"schemes": [1] * 5000})
    assert len(told) == 21
    assert told[-1] == "... and 4980 more"


def test_a_file_name_cannot_write_to_the_terminal():
    with pytest.raises(RefusedFile) as caught:
        parse_schemes(b"", "\x1b[2J.json")
    assert "\x1b" not in str(caught.value)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
WORDS = st.sampled_from(["4 KiB", "max", "5 s", "0%", "5 Hz", "stat", "pageout", "a", "", "\ud800", 0, 4096, -1, 1e9])
VALUE = WORDS | JSON
RANGE = st.dictionaries(st.sampled_from(["min", "max", "mix"]), VALUE)
PATTERNS = st.dictionaries(st.sampled_from(["size", "rate", "age", "x"]), RANGE | VALUE)
QUOTAS = st.dictionaries(st.sampled_from(["size", "time", "reset_interval", "ms"]), VALUE)
SCHEMES = st.fixed_dictionaries(
    {}, optional={"name": VALUE, "action": VALUE, "access_pattern": PATTERNS | VALUE, "quotas": QUOTAS | VALUE,
                  "apply_interval": VALUE, "comment": VALUE, "goals": VALUE})


def is_schemes_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(RefusedFile):
        assert all(isinstance(scheme, Scheme) for scheme in parse_schemes(data, "file.json"))


@given(st.fixed_dictionaries({}, optional={"schemes": st.lists(SCHEMES, max_size=3) | VALUE, "comment": VALUE}) | JSON)
def test_any_json_gives_schemes_or_a_refusal(data):
    is_schemes_or_a_refusal(json.dumps(data).encode())


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_schemes_or_a_refusal(data):
    is_schemes_or_a_refusal(data)


@pytest.mark.parametrize(("schema", "parser", "alphabet"), [
    (fields._SIZE_SCHEMA["anyOf"][1], fields.size_bytes, "09.,KMiBGb x"),
    (fields._TIME_SCHEMA, fields.time_ns, "09.,nusmhd x"),
    (fields._RATE_SCHEMA, fields.rate, "09.%Hhzx "),
])
def test_the_schema_for_editors_refuses_no_value_that_we_accept(schema, parser, alphabet):
    @given(st.text(alphabet, min_size=1, max_size=8))
    def check(text):
        try:
            parser(text)
        except ValueError:
            return
        assert re.search(schema["pattern"], text)

    check()
