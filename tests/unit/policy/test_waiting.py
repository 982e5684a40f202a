# SPDX-License-Identifier: GPL-2.0-only
"""Waiting: a target that waits for memory is left in peace."""

from __future__ import annotations

import pytest

from pagepulse.model.system import Pressure, Waits
from pagepulse.policy.guard_settings import WaitsGuard
from pagepulse.policy.waiting import harm, slowdown


@pytest.mark.parametrize(("some", "is_high"), [(0.0, False), (0.01, False), (0.0101, True), (1.0, True)])
def test_pressure_is_high_where_some_wait_a_hundredth_of_the_time(some, is_high):
    assert Pressure(0, 0, some, 0.0).is_high == is_high


def full(share):
    return Pressure(0, 0, share, share)


@pytest.mark.parametrize(("waits", "factor"), [
    (Waits(), 1), (Waits(share=0.05), 1), (Waits(share=0.1), 2), (Waits(share=3.0), 4),
    (Waits(pressure=full(0.1)), 2), (Waits(share=0.15, pressure=full(0.1)), 3)])
def test_the_more_a_target_waits_the_more_seldom_it_is_looked_at(waits, factor):
    assert slowdown(waits) == pytest.approx(factor)


@pytest.mark.parametrize(("waits", "reason"), [
    (Waits(), ""), (Waits(share=0.1), ""), (Waits(pressure=full(0.05)), ""),
    (Waits(share=0.25),
     "the target waits 25.00 % of the time for swap-in, reclaim and thrashing, above 10%"),
    (Waits(pressure=full(0.08)), "all of its control group waits for memory 8.00 % of the time, above 5%")])
def test_above_what_is_allowed_nothing_more_is_taken(waits, reason):
    assert harm(WaitsGuard(), waits) == reason
