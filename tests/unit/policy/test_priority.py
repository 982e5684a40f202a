# SPDX-License-Identifier: GPL-2.0-only
"""What comes first under a quota, and that all weights count."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import BASE, MIB, SECOND, region, snapshot
from pagepulse.policy.decide import candidates
from pagepulse.policy.limits import Weights
from pagepulse.policy.match import shares
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.priority import priorities
from pagepulse.policy.quota import Usage

END = 10 * SECOND + SECOND // 10


def at(place: int, *, age_s: float = 1, share: float = 0.0, size: int = 2 * MIB) -> np.ndarray:
    return region(BASE + place * 64 * MIB, size, since_ns=END - round(age_s * SECOND), nr_accesses=20 * share)


def order(action: str, *regions: np.ndarray, **weights: float) -> list[int]:
    target = {"target_node": 0} if action.startswith("migrate") else {}
    text: dict[str, Any] = {"name": "x", "action": action, "access_pattern": {"age": {"min": "0 s"}}, **target,
                            "quotas": {"size": "max", "weights": weights}}
    of, = parse_schemes(json.dumps({"schemes": [text]}).encode(), "test")
    return [(one.start - BASE) // (64 * MIB) for one in candidates(of, snapshot(*regions), Usage(0))]


@pytest.mark.parametrize("action", ["hugepage", "collapse", "willneed", "migrate_hot"])
def test_what_acts_on_busy_memory_takes_the_hottest_first(action):
    assert order(action, at(0, share=0.1), at(1, share=0.9), at(2, share=0.5)) == [1, 2, 0]


@pytest.mark.parametrize("action", ["cold", "pageout", "nohugepage", "migrate_cold", "lru_deprio", "stat"])
def test_all_else_takes_the_coldest_first(action):
    assert order(action, at(0, share=0.1), at(1, share=0.9), at(2, share=0.5)) == [0, 2, 1]


def test_idle_memory_is_the_colder_the_older_and_busy_memory_the_hotter():
    idle = at(0, age_s=1), at(1, age_s=8)
    busy = at(2, age_s=1, share=0.5), at(3, age_s=8, share=0.5)
    assert order("pageout", *idle, *busy) == [1, 0, 2, 3]
    assert order("hugepage", *idle, *busy) == [3, 2, 0, 1]


def test_the_weight_of_the_size_counts():
    regions = at(0, age_s=9, size=2 * MIB), at(1, age_s=8, size=32 * MIB)
    assert order("pageout", *regions) == [0, 1]
    assert order("pageout", *regions, size=10) == [1, 0]
    assert order("hugepage", at(0, share=0.6), at(1, share=0.5, size=32 * MIB), size=10) == [1, 0]


def test_a_weight_alone_decides_alone():
    regions = at(0, age_s=9, share=0.2), at(1, age_s=1, share=0.5)
    assert order("pageout", *regions, rate=1, age=0) == [0, 1]
    assert order("pageout", *regions, rate=0, age=1) == [1, 0]


def test_without_any_weight_the_oldest_comes_first():
    assert order("pageout", at(0, age_s=1, share=0.1), at(1, age_s=5, share=0.9), size=0, rate=0, age=0) == [1, 0]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1), st.integers(1, 16)), min_size=1, max_size=8),
       st.tuples(*[st.floats(0, 100)] * 3), st.booleans())
def test_a_priority_lies_between_0_and_1(patterns, weights, hot):
    rows = [at(i, age_s=age, share=share, size=MIB * size) for i, (age, share, size) in enumerate(patterns)]
    snap = snapshot(*rows)
    size, rate, age = weights
    scores = priorities(snap, shares(snap), Weights(size=size, rate=rate, age=age), hot=hot)
    assert scores.shape == (len(patterns),)
    assert ((scores >= 0) & (scores <= 1 + 1e-9)).all()
