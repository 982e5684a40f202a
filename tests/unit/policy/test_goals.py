# SPDX-License-Identifier: GPL-2.0-only
"""Quotas that follow a goal; the values that other programs measure."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import MIB, SECOND, system
from pagepulse.model.memory import PAGE
from pagepulse.model.system import Evictions, Pressure
from pagepulse.policy.goal_values import read_values
from pagepulse.policy.goals import Readings, Tuning, next_quota, tuned
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.scheme import Scheme

FREE = {"metric": "free_memory", "target": "50%"}


def scheme(*goals: dict[str, Any], **quotas: Any) -> Scheme:
    text = json.dumps({"schemes": [{"name": "x", "action": "pageout", "access_pattern": {"age": {"min": "5 s"}},
                                    "quotas": {"size": "64 MiB", "goals": list(goals), **quotas}}]})
    return parse_schemes(text.encode(), "test")[0]


def readings(seconds: float, free: float = 0.25, **others: Any) -> Readings:
    return Readings(system(now_ns=round(seconds * SECOND), free_bytes=round(free * 1024 * MIB)), **others)


def steps(of: Scheme, *all_readings: Readings) -> Tuning:
    tuning = Tuning()
    for one in all_readings:
        tuning = tuned(of, tuning, one)
    return tuning


def test_without_goals_nothing_limits():
    assert steps(scheme(), readings(1)) == Tuning()


def test_below_the_goal_the_quota_grows_and_above_it_shrinks():
    grown = [steps(scheme(FREE), *(readings(i, free=0) for i in range(n))).limit_bytes for n in (1, 2, 3)]
    assert grown == [2 * PAGE, 4 * PAGE, 8 * PAGE]
    shrunk = steps(scheme(FREE), *(readings(i, free=0) for i in range(8)), readings(8, free=0.75))
    assert shrunk.limit_bytes == 128 * PAGE


def test_a_quota_never_grows_beyond_the_one_that_is_given():
    assert steps(scheme(FREE), *(readings(i, free=0) for i in range(40))).limit_bytes == 64 * MIB


def test_a_quota_is_tuned_once_in_each_reset_interval():
    first = steps(scheme(FREE), readings(1))
    assert tuned(scheme(FREE), first, readings(1.9)) is first
    assert tuned(scheme(FREE), first, readings(2)) is not first


def test_of_several_goals_the_one_nearest_to_its_target_counts():
    other = {"metric": "available_memory", "target": "1%"}  # by far exceeded
    both = steps(scheme(FREE, other), readings(1))
    assert both.scores[0] == 0.5
    assert both.limit_bytes == PAGE


@pytest.mark.parametrize(("free", "limit"), [(0.49, None), (0.5, 0), (0.6, 0)])
def test_the_temporal_tuner_gives_all_until_the_goal_is_met_and_then_nothing(free, limit):
    assert steps(scheme(FREE, goal_tuner="temporal"), readings(1, free)).limit_bytes == limit


def test_a_goal_that_cannot_be_read_stops_the_scheme_until_it_can():
    value = {"metric": "file", "path": "/run/latency", "target": 100}
    of, known = scheme(value), {"/run/latency": 0.0}
    seen = steps(of, *(readings(i, values=known) for i in range(4)))
    blind = tuned(of, seen, readings(4))
    assert (blind.limit_bytes, blind.why) == (0, "cannot be read: file /run/latency")
    assert tuned(of, blind, readings(5, values=known)).limit_bytes == 2 * (seen.limit_bytes or 0)


def test_pressure_is_that_of_the_last_reset_interval_not_the_kernels_slower_mean():
    of = scheme({"metric": "psi_some", "target": "10%"})
    before, after = (Readings(system(now_ns=at * SECOND, pressure=Pressure(some_us, 0, 0.0, 0.0)))
                     for at, some_us in ((1, 5_000), (3, 105_000)))
    assert steps(of, before, after).scores == (pytest.approx(0.5),)


def test_pressure_that_the_kernel_does_not_measure_cannot_be_read():
    of = scheme({"metric": "psi_full", "target": "10%"})
    assert steps(of, Readings(system(pressure=None))).limit_bytes == 0


def test_what_comes_back_is_held_against_what_went_in_the_last_minute_not_in_the_same_second():
    of = scheme({"metric": "refault_rate", "target": "1%"})
    tuning = steps(of, readings(1, evictions=Evictions(400 * MIB, 0)),
                   readings(2, evictions=Evictions(400 * MIB, 2 * MIB)))
    assert tuning.scores == (pytest.approx(0.5, rel=0.05),)


def test_what_went_and_came_back_long_ago_counts_no_more():
    of = scheme({"metric": "refault_rate", "target": "1%"})
    storm = steps(of, readings(1, evictions=Evictions(100 * MIB, 50 * MIB)),
                  readings(31, evictions=Evictions(200 * MIB, 50 * MIB)))
    assert storm.scores == (pytest.approx(100 * 25 / 150),)
    later = steps(of, readings(1, evictions=Evictions(100 * MIB, 50 * MIB)),
                  readings(601, evictions=Evictions(300 * MIB, 51 * MIB)))
    assert later.scores == (pytest.approx(0.5, rel=0.001),)


@given(st.integers(PAGE, 2**50), st.floats(0, 100))
def test_a_step_never_more_than_doubles_and_points_towards_the_goal(last, score):
    after = next_quota(last, score)
    assert PAGE <= after <= 2 * last
    assert (after - last) * (1 - score) >= -1e-3 * last or after == PAGE


# --- values of others ----------------------------------------------------------------------------------------------

def read(metric: str, path: Path) -> float | None:
    goal = {"metric": metric, "path": str(path), "target": 1}
    return read_values(scheme(goal).quotas.goals).get(str(path))


@contextmanager
def server(path: Path, *, says: bytes, closes: bool = True) -> Iterator[None]:
    """Answers one connection."""
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(says)
                if not closes:
                    ended.wait(5)
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        ended.set()
        thread.join()


@pytest.mark.parametrize(("text", "value"), [
    (b"42\n", 42.0), (b"0.5", 0.5), (b"", None), (b"nan", None), (b"inf", None), (b"-1", None), (b"a number", None),
    (b"1" * 100, None), (b"\xff", None)])
def test_a_file_is_a_number_or_nothing(tmp_path, text, value):
    (tmp_path / "value").write_bytes(text)
    assert read("file", tmp_path / "value") == value


def test_a_file_that_vanished_a_directory_and_a_pipe_are_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [read("file", tmp_path / name) for name in ("gone", "", "pipe")] == [None, None, None]


def test_a_socket_says_its_number(tmp_path):
    with server(tmp_path / "socket", says=b"17.5\n"):
        assert read("socket", tmp_path / "socket") == 17.5


def test_a_socket_that_does_not_come_to_an_end_is_nothing(tmp_path):
    with server(tmp_path / "socket", says=b"17.5", closes=False):
        assert read("socket", tmp_path / "socket") is None


def test_a_socket_nobody_listens_on_is_nothing(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    assert read("socket", tmp_path / "socket") is None
