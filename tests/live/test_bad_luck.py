# SPDX-License-Identifier: GPL-2.0-only
"""Bad input and bad luck: a clear message, the documented exit code, and nothing left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from demo.swap import temporary_swap
from live.machine import setting, wait_until
from live.recorder import Recorder, assert_refused, pagepulse, snapshots
from pace import lasting, patience
from pagepulse.kernel.host import NEEDED
from pagepulse.model.memory import PAGE
from workload import PROGRAMS, Workload, major_faults

pytestmark = pytest.mark.live

MIB = 1 << 20
SOURCES = Path(__file__).parent / "programs"


@pytest.fixture(name="build", scope="session")
def _build(tmp_path_factory):
    """Compile one of our programs."""
    def build(name: str) -> Path:
        program = tmp_path_factory.mktemp("programs") / name
        subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCES / f"{name}.c", "-lpthread"],
                       check=True)
        return program
    return build


# --- targets that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pid", "words"), [
    ("4194304", "there is no process 4194304"),  # PID_MAX_LIMIT: never given
    ("0", "0 is no process id"), ("-1", "-1 is no process id"), ("99999999999999999999", "is no process id"),
    ("2", "kernel thread"),
])
def test_a_target_that_cannot_be_is_refused(output, pid, words):
    assert_refused(pagepulse("record", "--pid", pid, "-o", output), 2, words)
    assert not output.exists()


@pytest.mark.parametrize("pid", ["many", "", "1.5", "0x10"])
def test_what_is_no_number_is_wrong_usage(output, pid):
    outcome = pagepulse("record", "--pid", pid, "-o", output)
    assert outcome.status == 2
    assert "--pid" in outcome.err


@pytest.mark.parametrize("arguments", [[], ["--pid", "1", "--", "true"]])
def test_none_or_two_targets_are_wrong_usage(output, arguments):
    assert_refused(pagepulse("record", "-o", output, *arguments), 2, "one target")


def test_its_own_process_is_refused(output):
    own = ["sh", "-c", 'exec "$@" --pid $$', "sh"]
    assert_refused(pagepulse("record", "-o", output, prefix=own), 2, "does not watch itself")
    schemes = Path(__file__).parents[2] / "schemes" / "observe-only.json"
    assert_refused(pagepulse("run", "--schemes", schemes, prefix=own), 2, "does not watch itself")


def test_process_1_is_refused_for_schemes(output):
    schemes = Path(__file__).parents[2] / "schemes" / "observe-only.json"
    assert_refused(pagepulse("run", "--schemes", schemes, "--pid", "1"), 2, "process 1", "whole system")


@pytest.mark.parametrize(("command", "words"), [("/nonexistent", "No such file"), ("/etc/passwd", "Permission denied"),
                                                ("/", "Permission denied")])
def test_a_command_that_cannot_be_started_is_wrong_usage(output, command, words):
    assert_refused(pagepulse("record", "-o", output, "--", command), 2, "cannot be started", words)
    assert not output.exists()


def test_a_command_that_ends_at_once_is_a_failure_with_a_reason(output):
    assert_refused(pagepulse("record", "-o", output, "--", "true"), 1, "ended before there was a snapshot")


def test_a_process_that_is_dead_already_is_a_failure_with_a_reason(output):
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert_refused(pagepulse("record", "-o", output, "--pid", str(zombie.pid)), 1, "ended before")


# --- privileges ------------------------------------------------------------------------------------------------------


def test_without_root_it_says_so_and_what_would_help(output, pulse):
    outcome = pagepulse("record", "--pid", str(pulse.pid), "-o", output,
                        prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert_refused(outcome, 3, "needs root", "sudo", *NEEDED)
    assert not output.exists()


@pytest.mark.parametrize("capability", NEEDED)
def test_a_capability_that_is_short_is_named(output, pulse, capability):
    name = capability.removeprefix("CAP_").lower()
    outcome = pagepulse("record", "--pid", str(pulse.pid), "-o", output,
                        prefix=["setpriv", f"--bounding-set=-{name}", f"--inh-caps=-{name}"])
    assert_refused(outcome, 3, capability, NEEDED[capability])
    assert not any(other in outcome.err for other in NEEDED if other != capability)
    assert not output.exists()


# --- targets that change ---------------------------------------------------------------------------------------------


def test_a_target_that_exits_ends_the_recording_in_good_order(output):
    with Workload("pulse", "--size", "16MiB") as pulse, Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots()
        pulse.finish()
        outcome = recorder.end()
    assert outcome.status == 0
    assert f"{len(snapshots(output))} snapshots in" in outcome.err
    assert "complaint" not in pagepulse("report", "wss", output).err


def test_a_target_that_is_killed_ends_the_recording_in_good_order(output):
    with Workload("pulse", "--size", "16MiB") as pulse, \
            Recorder("--pid", str(pulse.pid), "--json", output=output) as recorder:
        recorder.wait_for_snapshots()
        pulse.signal(signal.SIGKILL)
        outcome = recorder.end()
    assert outcome.status == 0
    assert outcome.json["snapshots"] == len(snapshots(output))


def test_a_target_that_becomes_another_program_is_followed_twice(output, tmp_path):
    """What was known of the old program's memory is forgotten, and the new one's is found."""
    go = tmp_path / "go"
    script = f"until [ -e {go} ]; do sleep 0.1; done; exec {PROGRAMS / 'pulse'} --size 64MiB --hot 50%"
    with Workload("touch", "--area", "a:13MiB") as touch, \
            Recorder("--pid", str(touch.pid), "--json", output=output) as recorder:
        recorder.wait_for_snapshots()
        (tmp_path / "script").write_text(script)
        touch.command(f"exec sh {tmp_path / 'script'}")
        assert wait_until(lambda: snapshots(output)[-1].rss_bytes < 8 * MIB)
        go.touch()
        assert wait_until(lambda: abs(snapshots(output)[-1].wss_bytes - 32 * MIB) < MIB)
        recorder.send(signal.SIGTERM)
        outcome = recorder.end()
    assert outcome.status == 0
    last = snapshots(output)[-1]
    assert str(PROGRAMS / "pulse") in last.mappings
    assert str(PROGRAMS / "touch") not in last.mappings


def test_a_target_that_is_stopped_is_idle_and_then_it_is_not(output):
    with Workload("pulse", "--size", "16MiB", "--hot", "50%") as pulse, \
            Recorder("--pid", str(pulse.pid), output=output) as recorder:
        assert wait_until(lambda: any(s.wss_bytes > 7 * MIB for s in snapshots(output)))
        pulse.signal(signal.SIGSTOP)
        assert wait_until(lambda: snapshots(output)[-1].wss_bytes == 0)
        pulse.signal(signal.SIGCONT)
        assert wait_until(lambda: snapshots(output)[-1].wss_bytes > 7 * MIB)
        recorder.send(signal.SIGINT)
        assert recorder.end().status == 0


@pytest.mark.parametrize("seconds", ["0", lasting(3).removesuffix("s")])
def test_a_process_whose_main_thread_has_ended_is_a_failure_with_a_reason(output, build, seconds):
    """/proc says nothing of its memory any more. It is not taken for one that has exited."""
    with subprocess.Popen([build("leader"), seconds]) as leader, \
            Recorder("--pid", str(leader.pid), "--duration", lasting(20), output=output) as recorder:
        assert_refused(recorder.end(), 1, "main thread has ended")
        leader.kill()
    assert bool(snapshots(output)) == (seconds != "0")


def test_a_target_of_100_000_areas_is_watched(output, build):
    with setting(Path("/proc/sys/vm/max_map_count"), 300_000), \
            subprocess.Popen([build("areas"), "100000"], stdout=subprocess.PIPE, text=True) as areas:
        assert areas.stdout.readline() == "100000\n"
        outcome = pagepulse("record", "--pid", str(areas.pid), "--duration", f"{patience(6)}s", "--json", "-o", output)
        areas.kill()
    assert outcome.status == 0
    last = snapshots(output)[-1]
    assert 500 <= len(last.regions) <= 1000
    assert int(last.regions["present_bytes"].sum()) == pytest.approx(100_000 * PAGE, rel=0.05)
    # In the first seconds one window in sixteen is looked at, some 63 of 1009 pages: 0.38 is three sigma.
    assert last.wss_bytes == pytest.approx(1009 * PAGE, rel=0.38)


def test_huge_pages_of_the_pool_are_neither_hot_nor_idle_but_told_to_be_unclearable(output, huge_pages):
    with Workload("touch", "--area", "a:16MiB:hugetlb") as touch:
        outcome = pagepulse("record", "--pid", str(touch.pid), "--duration", "3s", "--json", "-o", output)
    assert outcome.json["unclearable_bytes"] >= 16 * MIB
    last = snapshots(output)[-1]
    assert last.wss_bytes < MIB
    assert last.idle_bytes[0] < 2 * MIB


def test_a_target_that_turns_its_address_space_over_all_the_time_is_watched(output, build):
    """Maps, unmaps, splits huge pages, forks, and all the while 1009 pages are in use at one place.

    What a child shared when we would have cleared it cannot be known, and is said to be unclearable. There is nearly
    always a child here: how many of the 1009 pages that takes depends on who ran when.
    """
    with subprocess.Popen([build("churn")], stdout=subprocess.PIPE, text=True) as churn:
        hot = int(churn.stdout.readline())
        outcome = pagepulse("record", "--pid", str(churn.pid), "--duration", "6s", "--json", "-o", output)
        assert churn.poll() is None
        churn.kill()
    assert outcome.status == 0
    rows = snapshots(output)[-1].regions
    over_hot = rows[(rows["start"] < hot + 1009 * PAGE) & (rows["end"] > hot)]
    unclearable = float(over_hot["unclearable_bytes"].sum())
    assert unclearable <= 0.75 * 1009 * PAGE
    assert float(over_hot["touched_bytes"].sum()) >= 0.9 * (1009 * PAGE - unclearable)


def test_schemes_on_a_target_that_turns_its_address_space_over_take_nothing_that_it_uses(build, tmp_path):
    scheme = {"name": "idle", "action": "pageout", "access_pattern": {"rate": {"max": "5%"}, "age": {"min": "1 s"}},
              "guards": {"trial": {"enabled": False}}}
    schemes = tmp_path / "schemes.json"
    schemes.write_text(json.dumps({"schemes": [scheme]}))
    schemes.chmod(0o600)
    program = build("churn")
    with temporary_swap(1 << 30) as swap, subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as churn:
        assert swap.device is not None, swap.why
        hot = int(churn.stdout.readline())
        faults = major_faults(churn.pid)
        outcome = pagepulse("run", "--pid", str(churn.pid), "--schemes", schemes, "--duration", "6s", "--json")
        assert churn.poll() is None
        assert major_faults(churn.pid) - faults < 256, f"pages in use at {hot:#x} went"
        churn.kill()
    assert outcome.status == 0
    result, = outcome.json["schemes"]
    assert result["tried_bytes"] == result["applied_bytes"] + sum(result["reasons"].values())


def test_a_target_that_maps_64_tebibytes_is_watched(output):
    code = ("import mmap, time; m = mmap.mmap(-1, 64 << 40, flags=0x4022)\n"  # MAP_NORESERVE
            "m.madvise(mmap.MADV_NOHUGEPAGE)\n"
            "print('ready', flush=True)\nwhile True:\n    for n in range(61): m[(n << 40) + n * 7919 * 4096] = 1\n"
            "    time.sleep(0.01)")
    with subprocess.Popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE, text=True) as sparse:
        assert sparse.stdout.readline() == "ready\n"
        outcome = pagepulse("record", "--pid", str(sparse.pid), "--duration", "4s", "--json", "-o", output)
        sparse.kill()
    assert outcome.status == 0
    rows = snapshots(output)[-1].regions
    large = rows[rows["end"] - rows["start"] >= 1 << 36]
    assert large["present_bytes"].sum() == pytest.approx(61 * PAGE, abs=8 * PAGE)


def test_a_duration_too_short_for_anything_is_a_failure_with_a_reason(output, pulse):
    outcome = pagepulse("record", "--pid", str(pulse.pid), "--duration", "1ns", "-o", output)
    assert_refused(outcome, 1, "no time for a snapshot")


def test_in_a_pid_namespace_of_its_own_it_says_that_it_cannot_work_there(output):
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", 'sleep 60 & "$@" --pid $!', "sh"]
    assert_refused(pagepulse("record", "-o", output, prefix=inside), 3, "PID namespace", "not in a container")


def test_a_target_in_a_pid_namespace_of_its_own_is_watched_from_outside(output):
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", PROGRAMS / "pulse", "--size", "16MiB"]
    with subprocess.Popen(inside, stdout=subprocess.DEVNULL) as unshare:
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        assert wait_until(lambda: bool(children.read_text()))
        pid = children.read_text().split()[0]
        assert wait_until(lambda: "pulse" in Path(f"/proc/{pid}/comm").read_text())
        time.sleep(0.2)
        outcome = pagepulse("record", "--pid", pid, "--duration", "2s", "-o", output)
        unshare.kill()
    assert outcome.status == 0, outcome.err
    assert snapshots(output)[-1].wss_bytes == pytest.approx(16 * MIB // 10, rel=0.1)
