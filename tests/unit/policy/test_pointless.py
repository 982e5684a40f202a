# SPDX-License-Identifier: GPL-2.0-only
"""What a scheme says and could never do, or would be ignored, is refused; so is nothing that could be meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pagepulse.errors import RefusedFile
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.scheme import Scheme

GOAL = {"metric": "psi_some", "target": "1%"}
OF_A_SOCKET = {"metric": "socket", "target": 5}
MARKS = {"high": "50%", "mid": "40%", "low": "2%"}


def accepted(action: str = "pageout", **keys: Any) -> Scheme:
    age = {} if action == "stat" else {"age": {"min": "5 s"}}
    scheme = {"name": "x", "action": action, **keys, "access_pattern": {**age, **keys.get("access_pattern", {})}}
    return parse_schemes(json.dumps({"schemes": [scheme]}).encode(), "test")[0]


def fault(action: str = "pageout", **keys: Any) -> str:
    with pytest.raises(RefusedFile) as refused:
        accepted(action, **keys)
    return refused.value.why.removeprefix("schemes[0].")


def test_marks_of_nothing_would_be_ignored():
    assert fault(watermarks=MARKS) == (
        "watermarks.metric: expected what is to be within the marks, such as free_memory; the key is missing, so they "
        "would mean nothing")
    assert accepted(watermarks=MARKS | {"metric": "none"}).watermarks.metric == "none"


@pytest.mark.parametrize("marks", [("0%", "0%", "0%"), ("50%", "20%", "20%")])
def test_marks_between_which_nothing_lies_would_never_turn_a_scheme_on(marks):
    given = {"metric": "free_memory", **dict(zip(("high", "mid", "low"), marks, strict=True))}
    assert fault(watermarks=given) == (
        f"watermarks.mid: expected more than low, {marks[2]}, got the same: what comes on below mid and goes off below "
        "low would never be on")


def test_a_tuner_without_goals_has_nothing_to_tune():
    assert fault(quotas={"goal_tuner": "temporal"}) == (
        "quotas.goal_tuner: expected no tuner where there are no goals; write goals, or leave it out")
    assert accepted(quotas={"goal_tuner": "temporal", "goals": [GOAL]}).quotas.goal_tuner == "temporal"


def test_what_changes_nothing_has_no_goals():
    assert fault("stat", quotas={"goals": [GOAL]}) == (
        "quotas.goals: expected no goals for stat, which changes nothing that they could measure")


@pytest.mark.parametrize("action", ["hugepage", "collapse"])
def test_a_quota_that_no_huge_page_fits_into_would_never_make_one(action):
    assert fault(action, quotas={"size": "1 MiB"}) == (
        f"quotas.size: expected at least 2 MiB, one huge page, as {action} makes whole ones, got 1 MiB")
    assert accepted(action, quotas={"size": "2 MiB"})
    assert accepted("nohugepage", quotas={"size": "1 MiB"})


@pytest.mark.parametrize(("path", "written"), [
    ("/sys/fs/cgroup/system.slice", "/system.slice"), ("/sys/fs/cgroup", "/"), ("/sys/fs/cgroup/memory/a/b", "/a/b"),
    ("/sys/fs/cgroup/unified/a", "/a")])
def test_a_cgroup_is_named_without_the_mount(path, written):
    assert fault(filters=[{"type": "cgroup", "path": path}]) == (
        f"filters[0].path: expected a path without the mount, as the kernel names the group, got '{path}'; "
        f"write '{written}'")
    assert accepted(filters=[{"type": "cgroup", "path": written}])


def test_a_socket_has_a_path_that_the_kernel_takes():
    assert accepted(quotas={"goals": [OF_A_SOCKET | {"path": "/" + "a" * 106}]})
    for name in ("a" * 107, "é" * 54):
        assert "expected at most 107 bytes, as a socket's path has in Linux, got 10" in fault(
            quotas={"goals": [OF_A_SOCKET | {"path": f"/{name}"}]})
    assert accepted(quotas={"goals": [{"metric": "file", "target": 5, "path": "/" + "a" * 200}]})


ONLY_YOUNG = ([{"type": "young", "allow": True}], [{"type": "young", "matching": False}],
              [{"type": "mapping", "glob": "/opt/*"}, {"type": "young", "allow": True}])


@pytest.mark.parametrize("filters", ONLY_YOUNG)
def test_what_leaves_young_pages_alone_cannot_be_for_young_pages_only(filters):
    for action in ("pageout", "cold", "willneed"):
        assert fault(action, filters=filters) == (
            f"filters: expected that what is not young may pass, as {action} leaves young pages alone, got filters "
            "that reject all else")
    assert accepted("hugepage", filters=filters)
    assert accepted("nohugepage", filters=filters)


@pytest.mark.parametrize("filters", [
    [{"type": "anon"}, {"type": "file"}], [{"type": "file"}, {"type": "anon", "matching": False}, {"type": "anon"}],
    [{"type": "anon"}, {"type": "file"}, {"type": "mapping", "glob": "[heap]", "allow": True}],
    [{"type": "anon"}, {"type": "anon", "allow": True}]])
def test_filters_that_reject_all_are_refused(filters):
    for action in ("pageout", "stat"):
        assert fault(action, filters=filters) == (
            "filters: expected that some memory may pass, got filters that reject all of it")


@pytest.mark.parametrize("filters", [
    [{"type": "anon"}, {"type": "mapping", "glob": "/opt/*", "allow": True}], [{"type": "anon"}], [{"type": "young"}],
    [{"type": "mapping", "glob": "[heap]", "allow": True}, {"type": "anon"}, {"type": "file"}],
    [{"type": "young", "allow": True}, {"type": "file", "allow": True}]])
def test_filters_that_something_may_pass_are_accepted(filters):
    assert accepted(filters=filters)


@pytest.mark.parametrize(("lower", "upper"), [("90%", "0 Hz"), ("5 Hz", "0%"), ("1 samples", "0 Hz")])
def test_what_is_touched_in_one_unit_and_never_in_another_is_nothing(lower, upper):
    assert fault(access_pattern={"rate": {"min": lower, "max": upper}}) == (
        f"access_pattern.rate: expected some rate within min and max, got min {lower} and max {upper}: "
        "what is never touched")


def test_bounds_in_different_units_that_something_may_lie_in_are_accepted():
    assert accepted(access_pattern={"rate": {"min": "0 Hz", "max": "0%"}})
    assert accepted(access_pattern={"rate": {"min": "90%", "max": "5 Hz"}})


def test_no_region_is_smaller_than_a_page():
    assert fault(access_pattern={"size": {"max": "1 KiB"}}) == (
        "access_pattern.size.max: expected at least 4 KiB, one page, got 1 KiB; no region is smaller")
    assert accepted(access_pattern={"size": {"max": "4 KiB"}})


@pytest.mark.parametrize(("guard", "key"), [("step_share", "max"), ("trial", "first")])
def test_a_guard_that_would_let_nothing_go_is_refused(guard, key):
    nothing = {key: "0%", "least": "4095 B"}
    assert fault(guards={guard: nothing}) == (
        f"guards.{guard}.{key}: expected above 0% where least is 4095 B: not a page would ever go")
    assert accepted(guards={guard: nothing | {"enabled": False}})
    assert accepted(guards={guard: nothing | {"least": "4 KiB"}})


def test_what_is_done_more_seldom_than_once_a_day_has_the_wrong_unit():
    assert fault(apply_interval="100000 d") == "apply_interval: expected at most 1 d, got '100000 d'"
    assert fault(watermarks=MARKS | {"metric": "free_memory", "interval": "25h"}) == (
        "watermarks.interval: expected at most 1 d, got '25h'")
    assert accepted(apply_interval="24h").apply_interval_ns == 86_400 * 1_000_000_000
