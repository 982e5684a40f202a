# SPDX-License-Identifier: GPL-2.0-only
"""A daemon's status for people: everything that is wrong is in it, and the table of `top` fits and is sorted."""

import pytest

from builders import MIB, SECOND
from pagepulse.report.daemon import SORTS, regions_lines, status_text, top_lines
from unit.service.test_status import NOW, as_told, process, status, target


def shown(*targets, **changes):
    return as_told(status(*targets), NOW + SECOND) | changes


def test_what_is_wrong_is_told():
    text = "\n".join(status_text(shown(
        target(process(), refused={7: "process 7 is watched by another pagepulse already"}),
        target(name="away", state="waiting", why="/sys/fs/cgroup/away is gone"),
        reload={"loaded_age_s": 90.0, "loads": 1, "error": "x.toml: expected TOML", "error_age_s": 5.0,
                "failures": 1})))
    assert "configuration: REFUSED 5 s ago: x.toml: expected TOML" in text
    assert "in force is what was loaded 1 m 30 s ago" in text
    assert "away: waiting (/sys/fs/cgroup/away is gone)" in text
    assert "process 7 is not watched: process 7 is watched by another pagepulse already" in text


def test_what_holds_only_after_a_restart_and_who_cannot_hear_is_told():
    answer = shown(target(deaf="the kernel tells us of no forks and exits: container"))
    answer["reload"]["needs_restart"] = True
    text = "\n".join(status_text(answer))
    assert "takes effect when the daemon is started again" in text
    assert "new processes are looked for now and then: the kernel tells us of no forks" in text


def test_names_of_processes_cannot_move_the_cursor():
    hostile = shown(target(process()))
    hostile["targets"][0]["processes"][0]["name"] = "\x1b[2Jx"
    assert all(line.isprintable() for line in top_lines(hostile, "rss", 120, 40))


@pytest.mark.parametrize(("width", "height"), [(20, 3), (80, 24), (120, 50)])
def test_the_table_fits_its_terminal_and_names_are_seen(width, height):
    lines = list(top_lines(shown(target(*[process(pid) for pid in range(1, 300)])), "rss", width, height))
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert width < 80 or lines[-1].endswith("redis/redis")


@pytest.mark.parametrize("by", SORTS)
def test_the_largest_comes_first_whatever_is_sorted_by(by):
    answer = shown(target(process(1), process(2)))
    large = answer["targets"][0]["processes"][1]
    large |= {"rss_bytes": 99 * MIB, "working_set_bytes": 99 * MIB, "given_back_bytes": 99 * MIB, "cpu_percent": 99.0,
              "idle": [{"at_least_s": 10.0, "size_bytes": 99 * MIB}]}
    rows = [line for line in top_lines(answer, by, 120, 50) if line.endswith("redis/redis")]
    assert [int(row.split()[0]) for row in rows] == [2, 1]


def test_without_targets_there_is_a_table_all_the_same():
    assert any("0 targets, 0 processes" in line for line in top_lines(shown(), "rss", 80, 24))


def test_regions_of_a_process_are_lines():
    region = {"start": 4096, "present_bytes": MIB, "touched_bytes": 0, "rate_hz": None, "age_us": 5_000_000,
              "mapping": "[heap]"}
    head, row = regions_lines({"regions": [region]}, 80)
    assert (head.split()[0], row.split()) == ("ADDRESS", ["1000", "1", "MiB", "0", "B", "?", "5", "s", "[heap]"])
