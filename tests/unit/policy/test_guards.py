# SPDX-License-Identifier: GPL-2.0-only
"""Guards: harm that was seen makes a scheme do less, then nothing, and says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import MIB, SECOND, system
from pagepulse.model.system import Evictions, Pressure, Waits
from pagepulse.policy.guard_settings import Guards
from pagepulse.policy.guards import GuardState, Moment, Verdict, guard_due, guarded

OFF = {name: {"enabled": False} for name in Guards.model_fields}
QUOTA = 128 * MIB


def only(name: str, **settings: Any) -> Guards:
    """All guards off but this one."""
    return Guards.model_validate(OFF | {name: settings})


def moment(seconds: float = 0, *, rss_bytes: int = 1024 * MIB, evicted: int = 0, returned: int = 0,
           waits: Waits | None = None, **facts: Any) -> Moment:
    return Moment(system(now_ns=round(seconds * SECOND), **facts), rss_bytes, Evictions(evicted, returned),
                  waits or Waits())


def after(guards: Guards, *moments: Moment, action: Any = "pageout") -> GuardState:
    state = GuardState()
    for one in moments:
        state = guarded(guards, action, QUOTA, state, one)
    return state


def verdict(guards: Guards, *moments: Moment) -> Verdict:
    """What the one guard that is on says."""
    on, = (one for one in after(guards, *moments).verdicts if one.stance != "off")
    return on


def test_guards_that_are_off_say_nothing():
    state = after(Guards.model_validate(OFF), moment(returned=MIB, rss_bytes=0, swap_free_bytes=0))
    assert {one.stance for one in state.verdicts} == {"off"}
    assert (state.limit_bytes, state.stops) == (None, "")


def test_by_default_all_are_on_and_a_calm_target_gives_an_eighth_to_begin_with():
    state = after(Guards(), moment(0), moment(1))
    assert {one.guard: one.stance for one in state.verdicts} == dict.fromkeys(Guards.model_fields, "open") | {
        "trial": "limits"}
    assert state.limit_bytes == 128 * MIB


def test_guards_look_once_a_second():
    state = after(Guards(), moment(5))
    assert guard_due(GuardState(), 0)
    assert not guard_due(state, 6 * SECOND - 1)
    assert guard_due(state, 6 * SECOND)


# --- refaults ------------------------------------------------------------------------------------------------------

def test_the_quota_halves_while_too_much_comes_back_and_grows_slowly_when_it_stays():
    guards = only("refault", window="3 s")
    bad = [moment(0), moment(1, evicted=100 * MIB, returned=2 * MIB)]
    assert verdict(guards, *bad).limit_bytes == QUOTA // 2
    assert verdict(guards, *bad, moment(2, evicted=100 * MIB, returned=2 * MIB)).limit_bytes == QUOTA // 4
    calm = [moment(2 + i, evicted=200 * MIB, returned=2 * MIB) for i in range(5)]
    state = after(guards, *bad, *calm)
    assert 1 / 4 < state.share < 1


def test_what_came_back_is_told():
    said = verdict(only("refault"), moment(0), moment(1, evicted=100 * MIB, returned=2 * MIB))
    assert (said.stance, said.reason) == ("limits", ("2.00 % of what was evicted came back: 50.00 % of the quota is "
                                                     "left"))


def test_a_scheme_that_evicts_what_is_used_stops_for_a_window_and_begins_again_small():
    guards = only("refault", window="10 s")
    bad = [moment(0), moment(1, evicted=100 * MIB, returned=20 * MIB)]
    state = after(guards, *bad)
    assert state.stops == "20.00 % of what was evicted came back, above 10%"
    still = after(guards, *bad, *(moment(i, evicted=100 * MIB, returned=20 * MIB) for i in range(2, 11)))
    assert (still.limit_bytes, still.stops) == (0, state.stops)
    again = after(guards, *bad, *(moment(i, evicted=100 * MIB, returned=20 * MIB) for i in range(2, 14)))
    assert not again.stops
    assert 0 < (again.limit_bytes or 0) < QUOTA // 500


def test_a_few_pages_that_come_back_of_little_prove_nothing():
    assert verdict(only("refault"), moment(0), moment(1, evicted=8192, returned=8192)).stance == "open"


def test_what_came_back_before_the_window_is_forgotten():
    guards = only("refault", window="5 s")
    moments = [moment(0), moment(1, evicted=100 * MIB, returned=2 * MIB),
               *(moment(i, evicted=100 * MIB, returned=2 * MIB) for i in range(2, 60))]
    assert verdict(guards, *moments).stance == "open"


# --- trials --------------------------------------------------------------------------------------------------------

def test_a_scheme_doubles_trial_by_trial_what_has_stayed_away():
    guards = only("trial", interval="5 s", first="10%")
    state, evicted, gone_by_second = GuardState(), 0, []
    for second in range(25):
        state = guarded(guards, "pageout", QUOTA, state, moment(second, rss_bytes=1000 * MIB, evicted=evicted))
        evicted += state.limit_bytes or 0
        gone_by_second.append(evicted // MIB)
    assert [gone_by_second[second] for second in (0, 5, 6, 11, 12, 18, 24)] == [100, 100, 200, 200, 400, 800, 1600]


def test_what_came_back_lets_no_more_on_trial():
    guards = only("trial", interval="2 s", first="10%")
    seen = [moment(0), moment(1, evicted=100 * MIB), moment(2, evicted=100 * MIB),
            moment(3, evicted=100 * MIB, returned=100 * MIB)]
    assert verdict(guards, *seen).limit_bytes == round(0.1 * 1024 * MIB)
    assert verdict(guards, *seen[:-1]).stance == "limits"
    assert verdict(guards, *seen[:-1]).limit_bytes == round(0.1 * 1024 * MIB) - 100 * MIB


def test_a_full_trial_stops_a_scheme_and_says_for_how_long():
    said = verdict(only("trial", first="10%", least="4 KiB"), moment(0), moment(1, rss_bytes=10 * MIB, evicted=MIB))
    assert (said.stance, said.reason) == ("stops", "what went is on trial: more may go when it stayed away for 5 s")


def test_a_small_target_gives_the_least_at_once():
    assert verdict(only("trial", least="8 MiB"), moment(rss_bytes=10 * MIB)).limit_bytes == 8 * MIB


@given(st.lists(st.tuples(st.integers(1, 15), st.floats(0, 1), st.floats(0, 0.2)), min_size=1, max_size=60))
def test_no_more_is_ever_on_trial_than_stayed_away_or_the_first_step(steps):
    guards, state, fifths, evicted, returned, past = only("trial", least="4 KiB"), GuardState(), 0, 0, 0, []
    for pause, used, back in steps:
        fifths += pause
        returned += int(back * (evicted - returned))
        state = guarded(guards, "pageout", QUOTA, state, moment(fifths / 5, evicted=evicted, returned=returned))
        past.append((fifths, evicted))
        passed = max((gone for at, gone in past if at <= fifths - 25), default=0)
        before, evicted = evicted, evicted + int(used * (state.limit_bytes or 0))
        assert evicted - passed <= max(passed - returned, 128 * MIB, before - passed)


# --- the others ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("pressure", "reason"), [
    (Pressure(0, 0, 0.1, 0.05), ""),
    (Pressure(0, 0, 0.11, 0.0), "some programs wait for memory 11.00 % of the time, above 10%"),
    (Pressure(0, 0, 0.1, 0.06), "all programs wait for memory 6.00 % of the time, above 5%")])
def test_memory_pressure_stops_a_scheme(pressure, reason):
    assert after(only("psi"), moment(pressure=pressure)).stops == reason


def test_a_kernel_that_does_not_measure_pressure_is_told():
    state = after(only("psi"), moment(pressure=None))
    assert [one.reason for one in state.verdicts if one.guard == "psi"] == ["this kernel does not measure pressure"]


def test_swap_is_left_free_to_the_byte():
    assert verdict(only("swap"), moment(swap_total_bytes=100 * MIB, swap_free_bytes=15 * MIB)).limit_bytes == 10 * MIB
    full = verdict(only("swap"), moment(swap_total_bytes=100 * MIB, swap_free_bytes=5 * MIB))
    assert (full.stance, full.reason) == ("stops", "5 MiB of swap are free, at least 5% are to stay so")


def test_a_flood_into_swap_stops_a_scheme_whoever_makes_it():
    said = verdict(only("swap", max_out="64 MiB"), moment(0), moment(0.5, swapped_out_bytes=40 * MIB))
    assert (said.stance, said.reason) == ("stops", "80 MiB a second are written to swap, above 64 MiB")
    assert verdict(only("swap", max_out="max"), moment(0), moment(1, swapped_out_bytes=2**40)).stance == "open"


def test_without_swap_its_guard_is_off_and_says_so():
    state = after(only("swap"), moment(swap_total_bytes=0, swap_free_bytes=0))
    assert [one.reason for one in state.verdicts if one.guard == "swap"] == ["there is no swap"]


def test_the_floor_stays_resident():
    assert verdict(only("rss_floor", size="10 MiB"), moment(rss_bytes=12 * MIB)).limit_bytes == 2 * MIB
    assert verdict(only("rss_floor", size="10 MiB"), moment(rss_bytes=10 * MIB)).stance == "stops"


def test_a_step_is_a_share_or_what_may_go_in_any_case():
    assert verdict(only("step_share", max="10%"), moment(rss_bytes=1000 * MIB)).limit_bytes == 100 * MIB
    assert verdict(only("step_share", max="10%", least="4 KiB"), moment(rss_bytes=10 * MIB)).limit_bytes == MIB
    assert verdict(only("step_share", max="10%"), moment(rss_bytes=10 * MIB)).limit_bytes == 64 * MIB


@pytest.mark.parametrize("action", ["cold", "hugepage", "migrate_hot", "willneed"])
def test_what_takes_no_memory_is_held_back_by_pressure_alone(action):
    assert [one.guard for one in after(Guards(), moment(), action=action).verdicts] == ["psi"]


@given(st.lists(st.tuples(st.integers(0, 2**34), st.integers(0, 2**34), st.floats(0, 1)), min_size=1, max_size=80))
def test_whatever_happens_the_least_limit_counts_and_few_moments_are_kept(steps):
    state, evicted, returned = GuardState(), 0, 0
    for number, (out, back, pressure) in enumerate(steps):
        evicted, returned = evicted + out, returned + back
        state = guarded(Guards(), "pageout", QUOTA, state, moment(
            number, evicted=evicted, returned=returned, pressure=Pressure(0, 0, pressure, 0)))
        limits = [one.limit_bytes for one in state.verdicts if one.limit_bytes is not None]
        assert state.limit_bytes == min(limits)
        assert min(limits) >= 0
        assert bool(state.stops) == (min(limits) == 0)
        assert len(state.moments) <= 40
        assert 0 < state.share <= 1


def test_a_target_that_waits_for_memory_keeps_what_it_has():
    calm = after(only("waits"), moment())
    waiting = after(only("waits"), moment(waits=Waits(share=0.5)))
    assert (calm.stops, calm.limit_bytes) == ("", None)
    assert (waiting.stops, waiting.limit_bytes) == (
        "the target waits 50.00 % of the time for swap-in, reclaim and thrashing, above 10%", 0)
