# SPDX-License-Identifier: GPL-2.0-only
"""When a scheme is on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import MIB, SECOND, system
from pagepulse.model.system import Pressure
from pagepulse.policy.limits import Watermarks
from pagepulse.policy.watermarks import WatermarkState, watched

MARKS = Watermarks.model_validate(
    {"metric": "free_memory", "interval": "5 s", "high": "50%", "mid": "40%", "low": "20%"})


def after(*free: float, marks: Watermarks = MARKS) -> WatermarkState:
    """The state after these shares of free memory, an interval apart."""
    state = WatermarkState()
    for number, share in enumerate(free):
        state = watched(marks, state, system(now_ns=number * 5 * SECOND, free_bytes=round(share * 1024 * MIB)))
    return state


@pytest.mark.parametrize(("free", "active"), [
    ((0.6,), False), ((0.45,), False), ((0.3,), True), ((0.1,), False),
    ((0.3, 0.45), True), ((0.3, 0.51), False), ((0.3, 0.51, 0.45), False), ((0.3, 0.51, 0.39), True),
    ((0.3, 0.1, 0.3), True)])
def test_a_scheme_comes_on_below_mid_and_goes_off_above_high_or_below_low(free, active):
    assert after(*free).active is active


def test_a_scheme_that_is_off_says_why():
    assert after(0.6).why == "free_memory is 60.00 %, above high, 50%"
    assert after(0.1).why == "free_memory is 10.00 %, below low, 20%"
    assert after(0.45).why == "free_memory is 45.00 %, not yet below mid, 40%"
    assert not after(0.3).why


def test_the_metric_is_looked_at_once_in_each_interval():
    first = after(0.3)
    assert watched(MARKS, first, system(now_ns=5 * SECOND - 1, free_bytes=0)) is first


def test_without_a_metric_a_scheme_is_always_on():
    assert watched(Watermarks(), WatermarkState(), system()).active


def test_where_the_metric_is_not_known_a_scheme_is_off_and_says_so():
    marks = MARKS.model_copy(update={"metric": "psi_some"})
    state = watched(marks, WatermarkState(), system(pressure=None))
    assert (state.active, state.why) == (False, "psi_some is not known on this machine")


def test_pressure_is_a_metric():
    marks = Watermarks.model_validate({"metric": "psi_some", "high": "20%", "mid": "10%", "low": "0%"})
    for share, active in ((0.05, True), (0.25, False)):
        assert watched(marks, WatermarkState(), system(pressure=Pressure(0, 0, share, 0))).active is active


@given(st.lists(st.floats(0, 1), min_size=1))
def test_whatever_came_before_outside_high_and_low_it_is_off_and_between_mid_and_low_on(free):
    last = round(free[-1] * 1024 * MIB) / (1024 * MIB)
    if last > 0.5 or last < 0.2:
        assert not after(*free).active
    elif last < 0.4:
        assert after(*free).active
