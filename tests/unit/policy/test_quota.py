# SPDX-License-Identifier: GPL-2.0-only
"""Budgets of bytes and time for each reset interval."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagepulse.model.memory import CHUNK
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.quota import Usage, charged, remaining_bytes, renewed
from pagepulse.policy.scheme import Scheme

MIB = 1024 * 1024
MS = 1_000_000
START = 5_000 * MS


def scheme(**quotas: Any) -> Scheme:
    text = json.dumps({"schemes": [{"name": "test", "action": "pageout", "quotas": quotas,
                                    "access_pattern": {"age": {"min": "5 s"}}}]})
    return parse_schemes(text.encode(), "test")[0]


def fresh() -> Usage:
    return Usage(interval_start_ns=START)


def test_a_fresh_scheme_may_use_its_whole_quota():
    assert remaining_bytes(scheme(size="10 MiB"), fresh(), START) == 10 * MIB


def test_what_was_charged_is_gone_until_the_interval_is_over():
    limited = scheme(size="10 MiB", reset_interval="1 s")
    usage = charged(limited, fresh(), START, size_bytes=4 * MIB, time_ns=MS)
    assert remaining_bytes(limited, usage, START + 999 * MS) == 6 * MIB
    assert remaining_bytes(limited, usage, START + 1000 * MS) == 10 * MIB


def test_a_charge_belongs_to_the_interval_in_which_it_was_made():
    limited = scheme(size="10 MiB", reset_interval="1 s")
    usage = charged(limited, fresh(), START + 2500 * MS, size_bytes=4 * MIB, time_ns=MS)
    assert usage.interval_start_ns == START + 2000 * MS
    assert remaining_bytes(limited, usage, START + 2999 * MS) == 6 * MIB
    assert remaining_bytes(limited, usage, START + 3000 * MS) == 10 * MIB


def test_unused_quota_is_not_saved_up():
    assert remaining_bytes(scheme(size="10 MiB"), fresh(), START + 3_600_000 * MS) == 10 * MIB


def test_more_than_the_quota_leaves_nothing_and_not_less():
    limited = scheme(size="10 MiB")
    assert remaining_bytes(limited, charged(limited, fresh(), START, size_bytes=11 * MIB, time_ns=MS), START) == 0


def test_no_quota_is_no_limit():
    assert remaining_bytes(scheme(size="max"), fresh(), START) is None


def test_time_becomes_bytes_by_the_pace_of_the_work_so_far():
    limited = scheme(size="max", time="10 ms")
    usage = charged(limited, fresh(), START, size_bytes=4 * MIB, time_ns=4 * MS)
    assert remaining_bytes(limited, usage, START) == 6 * MIB


def test_before_the_pace_is_known_a_quota_of_time_allows_one_huge_page():
    assert remaining_bytes(scheme(size="max", time="1 ms"), fresh(), START) == CHUNK


def test_the_tighter_of_both_quotas_holds():
    limited = scheme(size="5 MiB", time="10 ms")
    usage = charged(limited, fresh(), START, size_bytes=MIB, time_ns=MS)
    assert remaining_bytes(limited, usage, START) == 4 * MIB
    slow = charged(limited, fresh(), START, size_bytes=MIB, time_ns=8 * MS)
    assert remaining_bytes(limited, slow, START) == MIB // 4


def test_time_that_was_overdrawn_is_paid_by_the_intervals_that_follow():
    limited = scheme(size="max", time="10 ms", reset_interval="1 s")
    usage = charged(limited, fresh(), START, size_bytes=35 * MIB, time_ns=35 * MS)
    left = [remaining_bytes(limited, usage, START + second * 1000 * MS) for second in range(5)]
    assert left == [0, 0, 0, 5 * MIB, 10 * MIB]


def test_a_slow_disk_is_forgotten_after_some_intervals():
    limited = scheme(size="max", time="10 ms", reset_interval="1 s")
    usage = charged(limited, fresh(), START, size_bytes=MIB, time_ns=10 * MS)
    for second in range(1, 12):
        usage = charged(limited, usage, START + second * 1000 * MS, size_bytes=10 * MIB, time_ns=MS)
    assert remaining_bytes(limited, usage, START + 12_000 * MS) > 95 * MIB


def test_a_pace_below_one_huge_page_still_lets_one_through_in_a_fresh_interval():
    limited = scheme(size="max", time="1 ms", reset_interval="1 s")
    usage = charged(limited, fresh(), START, size_bytes=4096, time_ns=MS)
    assert remaining_bytes(limited, usage, START + 1000 * MS) == CHUNK


def test_a_clock_that_did_not_move_changes_nothing():
    usage = Usage(START, used_bytes=3)
    assert renewed(scheme(), usage, START) == usage


@given(st.lists(st.tuples(st.integers(0, 800 * MS), st.integers(0, 20 * MIB), st.integers(0, 5 * MS)), max_size=40),
       st.integers(4096, 16 * MIB))
def test_the_bytes_of_no_reset_interval_exceed_the_quota(steps, quota):
    limited = scheme(size=quota, reset_interval="1 s")
    usage, now, used = fresh(), START, {}
    for wait_ns, wanted, time_ns in steps:
        now += wait_ns
        size = min(wanted, remaining_bytes(limited, usage, now))
        usage = charged(limited, usage, now, size_bytes=size, time_ns=time_ns)
        interval = (now - START) // (1000 * MS)
        used[interval] = used.get(interval, 0) + size
    assert all(size <= quota for size in used.values())


@pytest.mark.parametrize("time_ns", [3 * MS, 40 * MS])
def test_in_the_long_run_the_time_stays_within_its_quota_however_long_one_step_takes(time_ns):
    limited = scheme(size="max", time="10 ms", reset_interval="1 s")
    usage, spent = fresh(), 0
    for second in range(100):
        now = START + second * 1000 * MS
        if remaining_bytes(limited, usage, now):
            usage = charged(limited, usage, now, size_bytes=CHUNK, time_ns=time_ns)
            spent += time_ns
    assert spent <= 100 * 10 * MS + time_ns
