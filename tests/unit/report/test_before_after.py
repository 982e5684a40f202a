# SPDX-License-Identifier: GPL-2.0-only
"""What a run came to, in words, in JSON, and as a picture."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pagepulse.model.system import Counters
from pagepulse.report.before_after import Point, before_after_json, before_after_text, change
from pagepulse.report.picture_memory import memory_picture

MIB, SECOND = 1 << 20, 1_000_000_000
BEFORE = Counters(5 * SECOND, 1000 * MIB, 0, 400, 10, 2 * SECOND, 1_000_000, 500_000)
AFTER = Counters(15 * SECOND, 250 * MIB, 700 * MIB, 900, 22, 7 * SECOND, 1_100_000, 500_000)


def test_counters_become_what_happened_in_between():
    between = change(BEFORE, AFTER)
    assert (between.duration_s, between.rss_bytes, between.swap_bytes) == (10, -750 * MIB, 700 * MIB)
    assert (between.minor_faults, between.major_faults, between.cpu_percent) == (500, 12, 50)
    assert (between.psi_some_percent, between.psi_full_percent) == (1.0, 0.0)


def test_pressure_that_is_not_measured_is_not_nothing():
    unknown = Counters(0, 1, 0, 0, 0, 0, None, None)
    assert change(unknown, AFTER).psi_some_percent is None
    assert not any("waiting for memory" in line for line in before_after_text(unknown, AFTER))


def test_of_a_target_that_ended_too_soon_faults_and_cpu_are_not_known():
    gone = replace(AFTER, minor_faults=None, major_faults=None, cpu_ns=None)
    assert before_after_json(BEFORE, gone)["change"]["major_faults"] is None
    assert before_after_text(BEFORE, gone)[3] == "within 10 s: faults and CPU used by the target: not known"


def test_the_words_say_before_and_after():
    lines = before_after_text(BEFORE, AFTER)
    assert lines[1].split() == ["resident", "1000", "MiB", "250", "MiB"]
    assert lines[2].split() == ["swapped", "0", "B", "700", "MiB"]
    assert lines[3] == "within 10 s: 12 major and 500 minor faults, 50.0 % of a CPU used by the target"
    assert "some 1.00 % of the time" in lines[4]


def test_json_has_both_moments_and_the_change():
    document = json.loads(json.dumps(before_after_json(BEFORE, AFTER)))
    assert document["before"]["rss_bytes"] == 1000 * MIB
    assert document["after"]["swap_bytes"] == 700 * MIB
    assert document["change"]["major_faults"] == 12


@pytest.mark.parametrize(("file_format", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
@pytest.mark.parametrize("count", [1, 40])
def test_memory_over_time_is_drawn(file_format, begins, count):
    points = [Point(n * SECOND, (100 - n) * MIB, n * MIB, n * MIB) for n in range(count)]
    assert memory_picture(points, "redis $x_1$", file_format).startswith(begins)
