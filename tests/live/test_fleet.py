# SPDX-License-Identifier: GPL-2.0-only
"""Several processes at once, as a user watches them: trees, control groups, short lives, exec, and their ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from live.machine import wait_until
from live.recorder import line
from pace import patience
from pagepulse.capture import Recording
from pagepulse.kernel.census import Census
from pagepulse.kernel.events import ProcessEvents
from pagepulse.kernel.taskstats import TaskDelays
from pagepulse.report.together import together
from workload import Workload

pytestmark = pytest.mark.live

MIB = 1 << 20
A_WHILE = f"{patience(2)}s"


def record(output: Path, *arguments: str) -> Recording:
    done = subprocess.run(line("record", "-o", output, *arguments),
                          capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stderr
    return Recording.open(output)


def test_forks_and_exits_of_processes_are_heard_and_those_of_threads_are_not():
    events = ProcessEvents()
    try:
        program = "import threading; threading.Thread(target=int).start(); input()"
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        heard = events.drain()
        child.communicate(b"\n")
        heard = [event for event in [*heard, *events.drain()] if child.pid in (event.pid, event.parent)]
        assert [(event.pid, event.parent) for event in heard] == [(child.pid, os.getpid()), (child.pid, None)]
    finally:
        events.close()


def test_the_kernel_tells_what_we_waited_for_and_nothing_of_who_is_gone():
    delays = TaskDelays()
    try:
        ours = delays.of(os.getpid())
        assert ours is not None
        assert min(ours.swapin_ns, ours.reclaim_ns, ours.thrashing_ns) >= 0
        gone = subprocess.Popen(["true"])
        gone.wait()
        assert delays.of(gone.pid) is None
    finally:
        delays.close()


def test_several_named_processes_each_have_snapshots_of_their_own(output):
    with Workload("pulse", "--size", "24MiB") as one, Workload("pulse", "--size", "48MiB") as other:
        pids = [one.process.pid, other.process.pid]
        with record(output, "--duration", A_WHILE, "--pid", *map(str, pids)) as recording:
            assert sorted(recording.pids()) == sorted(pids)
            assert recording.last(pids[0]).rss_bytes < 40 * MIB < recording.last(pids[1]).rss_bytes


def test_a_file_that_two_processes_map_counts_once_in_their_sum(output, tmp_path):
    area = f"a:24MiB:shared:file={tmp_path / 'common'}"
    with (Workload("touch", "--area", area) as one, Workload("touch", "--area", area) as other,
          record(output, "--duration", A_WHILE, "--pid", str(one.process.pid), str(other.process.pid)) as recording):
        each = [recording.last(pid).rss_bytes for pid in recording.pids()]
        total = list(together(recording.snapshots(), []))[-1].rss_bytes
        assert min(each) > 24 * MIB
        assert max(each) <= total < sum(each) - 24 * MIB


def test_children_are_watched_as_they_start_and_their_ends_are_told(output):
    program = ("import subprocess, sys, time\n"
               f"time.sleep({patience(1)})\n"
               f"child = [sys.executable, '-c', 'import time; x = bytearray(30 << 20); time.sleep({patience(1)})']\n"
               "print(subprocess.Popen(child).wait(), flush=True)\n"
               "[subprocess.run(['true']) for _ in range(20)]\n")
    with record(output, "--children", "--", sys.executable, "-c", program) as recording:
        watched = [event.data["pid"] for event in recording.events() if event.kind == "watched"]
        ended = [event.data["pid"] for event in recording.events() if event.kind == "ended"]
        assert 2 <= len(watched) <= 12  # of twenty that lived for a moment hardly one, even where that is a long one
        assert sorted(watched) == sorted(ended)
        assert recording.last(watched[1]).rss_bytes > 30 * MIB


def test_a_command_without_children_is_watched_alone(output):
    program = "import subprocess, sys; subprocess.run(['sleep', '1'])"
    with record(output, "--", sys.executable, "-c", program) as recording:
        assert len(recording.pids()) == 1


def test_across_exec_what_is_known_of_a_library_that_both_programs_map_is_kept(output):
    with record(output, "--", "sh", "-c", f"sleep {patience(1.5)}; exec sleep {patience(1.5)}") as recording:
        execs = [event for event in recording.events() if event.kind == "exec"]
        assert execs
        after = [s for s in recording.snapshots() if s.start_ns > execs[-1].at_ns]
        of_libc = [row for row in after[0].regions if "libc.so" in after[0].mappings[row["mapping"]]]
        assert min(row["since_ns"] for row in of_libc) < execs[-1].at_ns


def test_the_processes_of_a_control_group_and_those_below_it_are_found(output, group):
    with Workload("pulse", "--size", "16MiB") as one, Workload("pulse", "--size", "16MiB") as other:
        (group / "cgroup.procs").write_text(str(one.process.pid))
        (group / "below" / "cgroup.procs").write_text(str(other.process.pid))
        with record(output, "--duration", A_WHILE, "--cgroup", str(group)) as recording:
            assert sorted(recording.pids()) == sorted([one.process.pid, other.process.pid])
            has_pressure = (group / "memory.pressure").exists()
            assert (recording.last(one.process.pid).pressure is not None) == has_pressure


def test_a_process_that_moves_into_the_group_is_watched_from_then_on(output, group):
    with Workload("pulse", "--size", "16MiB") as pulse:
        recorder = subprocess.Popen(line("record", "-o", output, "--duration", "5s", "--cgroup", group),
                                    stderr=subprocess.DEVNULL)
        assert wait_until(output.exists)
        (group / "cgroup.procs").write_text(str(pulse.process.pid))
        assert recorder.wait(timeout=patience(30)) == 0
        with Recording.open(output) as recording:
            assert recording.pids() == [pulse.process.pid]


def test_no_descriptor_and_no_watcher_outlives_a_recording(output):
    with Workload("pulse", "--size", "16MiB") as one, Workload("pulse", "--size", "16MiB") as other:
        arguments = ("--duration", "500ms", "--force", "--pid", str(one.process.pid), str(other.process.pid))
        record(output, *arguments).close()
        record(output, *arguments).close()  # the locks are free again
        assert Census().parent(one.process.pid) == os.getpid()


@pytest.mark.parametrize(("arguments", "says"), [
    (["--cgroup", "/nowhere"], "no control group"),
    (["--cgroup", "x", "--pid", "1"], "one target"),
    (["--system", "--", "true"], "one target"),
    (["--children", "--system"], "--children belongs to"),
    (["--pid", "1", "--exe", "x"], "--exe says nothing"),
    (["--user", "nobody-of-that-name"], "there is no user"),
    (["--pid", str(os.getpid()), "4194999"], "no process 4194999"),
])
def test_a_target_that_makes_no_sense_is_refused(output, arguments, says):
    done = subprocess.run(line("record", "-o", output, *arguments),
                          capture_output=True, text=True, timeout=patience(60), check=False)
    assert (done.returncode, output.exists()) == (2, False)
    assert says in done.stderr
