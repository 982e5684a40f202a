# SPDX-License-Identifier: GPL-2.0-only
"""A scheme in one sentence, and what became of it."""

from __future__ import annotations

import json

import pytest

from pagepulse.policy.explain import sentence
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.result import SchemeResult

AGE = {"min": "5 s"}


@pytest.mark.parametrize(("scheme", "expected"), [
    ({"action": "pageout", "access_pattern": {"size": {"min": "4 KiB"}, "age": AGE}, "apply_interval": "1 s"},
     ("x: pages out memory that was not touched for at least 5 s, in regions of 4 KiB or more, looking each second; "
      "at most 128 MiB each second.")),
    ({"action": "pageout", "access_pattern": {"age": AGE}, "quotas": {"size": "max"}},
     "x: pages out memory that was not touched for at least 5 s; without a limit."),
    ({"action": "pageout", "access_pattern": {"age": {"min": "0 s"}}, "quotas": {"time": "10 ms"}},
     "x: pages out memory that is not in use right now; at most 128 MiB and 10 ms of work each second."),
    ({"action": "cold", "access_pattern": {"rate": {"max": "0%"}, "age": {"min": "90 s", "max": "2h"}},
      "quotas": {"size": "1.5G", "reset_interval": "500 ms"}},
     ("x: lets the kernel reclaim first the memory that was not touched for at least 90 s, in regions that are not "
      "touched and whose pattern has held for 90 s to 7200 s; at most 1536 MiB each 500 ms.")),
    ({"action": "stat", "access_pattern": {}}, "x: counts memory; changes nothing."),
    ({"action": "stat", "access_pattern": {"size": {"max": "2M"}, "rate": {"min": "5%", "max": "20 Hz"}, "age": AGE}},
     ("x: counts memory in regions of 0 B to 2 MiB that are touched in at least 5% of sampling intervals and at most "
      "20 times a second and whose pattern has held for 5 s or more; changes nothing.")),
    ({"action": "migrate_hot", "target_node": 1, "access_pattern": {"rate": {"min": "3 samples"}},
      "quotas": {"weights": {"size": 0.5, "rate": 0, "age": 0}}},
     ("x: moves to NUMA node 1 memory in regions that are touched in at least 3 sampling intervals of an aggregation; "
      "at most 128 MiB each second, hottest first by size 0.5.")),
    ({"action": "nohugepage", "access_pattern": {"size": {"min": "2M"}, "age": {"min": "7 s"}},
      "quotas": {"weights": {"size": 0, "rate": 0, "age": 0}}},
     ("x: splits huge pages and pages out what is idle of the memory that was not touched for at least 7 s, in regions "
      "of 2 MiB or more; at most 128 MiB each second, oldest first.")),
    ({"action": "collapse", "access_pattern": {"rate": {"min": "20%"}, "age": AGE},
      "filters": [{"type": "mapping", "glob": "/opt/*"}, {"type": "anon", "allow": True}]},
     ("x: gives huge pages to memory in regions that are touched in at least 20% of sampling intervals and whose "
      "pattern has held for 5 s or more, rejecting what is in a mapping named '/opt/*', then allowing what is "
      "anonymous, and rejecting the rest; at most 32 MiB each second.")),
    ({"action": "lru_deprio", "access_pattern": {"age": AGE}, "filters": [
        {"type": "address", "start": 4096, "end": "0x2000", "matching": False},
        {"type": "hugepage_size", "size": {"min": "2M", "max": "1G"}}, {"type": "young"},
        {"type": "cgroup", "path": "/a"}, {"type": "file"}]},
     ("x: lets the kernel reclaim first the memory that was not touched for at least 5 s, rejecting what is not in "
      "0x1000-0x2000, then rejecting what is in a page of 2 MiB to 1 GiB, then rejecting what is young, then rejecting "
      "what is of a process in the cgroup '/a', then rejecting what is of a file, and allowing the rest; at most "
      "128 MiB each second.")),
    ({"action": "pageout", "access_pattern": {"age": AGE}, "quotas": {"goal_tuner": "temporal", "goals": [
        {"metric": "psi_full", "target": "1%"}, {"metric": "file", "path": "/run/p99", "target": 250}]},
      "watermarks": {"metric": "available_memory", "high": "50%", "mid": "40%", "low": "5%"},
      "guards": {"refault": {"enabled": False}, "step_share": {"enabled": False}}},
     ("x: pages out memory that was not touched for at least 5 s; at most 128 MiB each second; all of that until "
      "memory pressure (full) is 1% or the number in the file '/run/p99' is 250, then nothing; only while "
      "available memory is within 5% and 50%, beginning below 40%, asked each 5 s; without the guards "
      "refault and step_share.")),
    ({"action": "pageout", "access_pattern": {"age": AGE}, "guards": {
        "psi": {"max_some": "100%", "max_full": "5%"}, "waits": {"enabled": False}, "swap": {"max_out": "max"},
        "step_share": {"max": "1%", "least": "4 KiB"}}},
     ("x: pages out memory that was not touched for at least 5 s; at most 128 MiB each second; with the guards psi "
      "(max_some 100%), swap (max_out max) and step_share (max 1%, least 4 KiB), without the guard waits.")),
    ({"action": "cold", "access_pattern": {"age": AGE}, "guards": {
        "refault": {"enabled": False}, "swap": {"min_free": "50%"}, "psi": {"max_full": "1%"}}},
     ("x: lets the kernel reclaim first the memory that was not touched for at least 5 s; at most 128 MiB each second; "
      "with the guard psi (max_full 1%).")),
    ({"action": "stat", "access_pattern": {}, "guards": {"psi": {"max_some": "1%"}}},
     "x: counts memory; changes nothing."),
    ({"action": "willneed", "access_pattern": {}, "quotas": {"goals": [{"metric": "refault_rate", "target": "1%"}]}},
     ("x: reads in memory; at most 128 MiB each second; tuned until the share of evicted memory that comes back is "
      "1%.")),
])
def test_a_scheme_is_told_in_one_sentence_with_the_values_of_the_file(scheme, expected):
    parsed, = parse_schemes(json.dumps({"schemes": [{"name": "x", **scheme}]}).encode(), "test")
    assert sentence(parsed) == expected


def test_results_of_several_passes_add_up():
    first = SchemeResult("x", "pageout", tried_bytes=10, applied_bytes=7, calls=1, reasons={"shared": 2, "locked": 1},
                         saved_bytes=3)
    second = SchemeResult("x", "pageout", tried_bytes=5, applied_bytes=1, calls=2, errors=1, reasons={"shared": 4},
                          saved_bytes=4)
    assert first + second == SchemeResult("x", "pageout", 15, 8, 3, 1, {"shared": 6, "locked": 1}, 7)


def test_results_of_different_schemes_do_not_add_up():
    with pytest.raises(ValueError, match="do not add up"):
        SchemeResult("x", "pageout") + SchemeResult("y", "pageout")
