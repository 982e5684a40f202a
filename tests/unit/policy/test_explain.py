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
])
def test_a_scheme_is_told_in_one_sentence_with_the_values_of_the_file(scheme, expected):
    parsed, = parse_schemes(json.dumps({"schemes": [{"name": "x", **scheme}]}).encode(), "test")
    assert sentence(parsed) == expected


def test_results_of_several_passes_add_up():
    first = SchemeResult("x", "pageout", tried_bytes=10, applied_bytes=7, calls=1, reasons={"shared": 2, "locked": 1})
    second = SchemeResult("x", "pageout", tried_bytes=5, applied_bytes=1, calls=2, errors=1, reasons={"shared": 4})
    assert first + second == SchemeResult("x", "pageout", 15, 8, 3, 1, {"shared": 6, "locked": 1})


def test_results_of_different_schemes_do_not_add_up():
    with pytest.raises(ValueError, match="do not add up"):
        SchemeResult("x", "pageout") + SchemeResult("y", "pageout")
