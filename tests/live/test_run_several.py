# SPDX-License-Identifier: GPL-2.0-only
"""Schemes on several processes: each by its own heat, all within one quota, and nobody who was not meant."""

import sys

import pytest

from live.recorder import assert_refused, pagepulse
from pace import patience
from pagepulse.capture import Recording
from pagepulse.model.memory import PAGE
from workload import PROGRAMS, Workload, major_faults, resident_bytes

pytestmark = pytest.mark.live

MIB = 1 << 20
SCHEME = {"name": "idle", "action": "pageout", "access_pattern": {"rate": {"max": "5%"}, "age": {"min": "1 s"}},
          "guards": {"trial": {"enabled": False}, "psi": {"enabled": False}}}
"""Without a trial what goes, goes within a test's time; whatever else the machine is short of memory for."""


def run(*arguments, duration="6s"):
    outcome = pagepulse("run", "--duration", duration, "--json", *arguments)
    assert outcome.status == 0, outcome.err
    summary = outcome.json
    for scheme in summary["schemes"]:
        assert scheme["tried_bytes"] == scheme["applied_bytes"] + sum(scheme["reasons"].values())
    return summary


def test_what_is_idle_goes_from_each_and_what_is_used_stays(schemes, swap):
    with (Workload("pulse", "--size", "48MiB", "--hot", "20%") as one,
          Workload("pulse", "--size", "32MiB", "--hot", "20%") as other):
        faults = {pulse.pid: major_faults(pulse.pid) for pulse in (one, other)}
        summary = run("--schemes", schemes(), "--pid", str(one.pid), str(other.pid), duration="7s")
        for pulse, size in ((one, 48 * MIB), (other, 32 * MIB)):
            assert resident_bytes(pulse.pid) < 0.5 * size
            assert major_faults(pulse.pid) - faults[pulse.pid] < 64  # its own code may have been idle, too
    given = {process["pid"]: process["given_back_bytes"] for process in summary["treated"]}
    assert given[one.pid] > 0.6 * 48 * MIB
    assert given[other.pid] > 0.6 * 32 * MIB
    assert summary["schemes"][0]["applied_bytes"] == sum(given.values()) == summary["given_back_bytes"]


def test_one_quota_holds_for_all_of_them_and_sleepers_get_their_turn(schemes, swap):
    """Twelve seconds would do for all without a quota; the sleepers' own visits come once a minute."""
    quotas = {"size": "4 MiB", "reset_interval": "1 s"}
    with Workload("touch", "--area", "a:24MiB") as one, Workload("touch", "--area", "a:24MiB") as other:
        summary = run("--schemes", schemes(quotas=quotas), "--pid", str(one.pid), str(other.pid), duration="8s")
        scheme = summary["schemes"][0]
    assert scheme["tried_bytes"] <= (summary["duration_s"] + 1) * 4 * MIB
    assert scheme["applied_bytes"] >= 12 * MIB  # of 24 MiB that 6 s of idleness allow


def test_a_child_is_treated_as_it_joins(schemes, swap):
    program = ("import subprocess, sys, time\n"
               f"child = [{str(PROGRAMS / 'touch')!r}, '--area', 'a:16MiB']\n"
               "child = subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
               f"time.sleep({patience(8)})\nchild.kill()\n")
    summary = run("--schemes", schemes(), "--children", "--", sys.executable, "-c", program,
                  duration=f"{patience(7)}s")
    by_name = {process["name"]: process for process in summary["treated"]}
    assert by_name["touch"]["given_back_bytes"] >= 4 * MIB  # of 16 MiB, in whatever time it got


def test_a_dry_run_says_what_it_would_do_to_each_and_does_nothing(schemes):
    with Workload("touch", "--area", "a:5MiB") as one, Workload("touch", "--area", "a:7MiB") as other:
        before = [resident_bytes(touch.pid) for touch in (one, other)]
        outcome = pagepulse("run", "--schemes", schemes(), "--dry-run", "--duration", "4s", "--pid", str(one.pid),
                            str(other.pid))
        after = [resident_bytes(touch.pid) for touch in (one, other)]
    assert outcome.status == 0, outcome.err
    for touch in (one, other):
        assert f"process_madvise(pid {touch.pid}, [" in outcome.out
    assert all(abs(b - a) < 64 * PAGE for b, a in zip(before, after, strict=True))


def test_it_is_shown_recorded_and_drawn_as_one_process_is(schemes, swap, tmp_path):
    kept, picture = tmp_path / "pagepulse.data", tmp_path / "memory.svg"
    with Workload("touch", "--area", "a:16MiB") as one, Workload("touch", "--area", "a:24MiB") as other:
        outcome = pagepulse("run", "--schemes", schemes(), "--duration", "6s", "--live", "--record", kept,
                            "-o", picture, "--pid", str(one.pid), str(other.pid))
    assert outcome.status == 0, outcome.err
    shown = [text for text in outcome.out.splitlines() if " s  2 processes  rss " in text]
    assert len(shown) >= 3
    assert "idle: pageout" in outcome.out
    assert picture.read_text().startswith("<?xml")
    with Recording.open(kept) as recording:
        events = list(recording.events())
        assert {snapshot.pid for snapshot in recording.snapshots()} == {one.pid, other.pid}
    assert {event.data["pid"] for event in events if event.kind == "watched"} == {one.pid, other.pid}
    assert [event.data["name"] for event in events if event.kind == "scheme"][-1] == "idle"
    states = pagepulse("report", "schemes", kept, "--json").json["states"]
    assert states[-1]["applied_bytes"] >= 30 * MIB


@pytest.mark.parametrize(("arguments", "words"), [
    (["--pid", "1", "2"], "not applied to process 1"),
    (["--system", "-o", "memory.txt"], "no name of a picture"),
    (["--system", "--live", "--json"], "contradict"),
])
def test_what_makes_no_sense_is_refused(schemes, arguments, words):
    assert_refused(pagepulse("run", "--schemes", schemes(), *arguments), 2, words)
