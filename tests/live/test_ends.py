# SPDX-License-Identifier: GPL-2.0-only
"""However a recorder ends, and wherever its output goes: a recording that reads, and nothing left behind."""

import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from live.machine import small_disk, wait_until
from live.recorder import Recorder, assert_refused, line, pagepulse, snapshots
from pace import patience
from pagepulse.model.memory import PAGE
from workload import Workload, has_ended

pytestmark = pytest.mark.live


# --- ends of the recorder --------------------------------------------------------------------------------------------


def has_no_trace(recorder: Recorder, pulse: Workload) -> bool:
    """The target lives, works, and may be watched again."""
    assert Path(f"/proc/{pulse.pid}/stat").read_text().rpartition(")")[2].split()[0] in "RS"
    again = pagepulse("record", "--force", "--duration", "300ms", "-o", recorder.output.with_name("again"),
                      "--pid", str(pulse.pid))
    return again.status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_recording_in_good_order(output, pulse, number):
    with Recorder("--pid", str(pulse.pid), "--json", output=output) as recorder:
        recorder.wait_for_snapshots()
        recorder.send(number)
        outcome = recorder.end()
    assert outcome.status == 0
    assert outcome.json["snapshots"] == len(snapshots(output)) >= 3
    assert has_no_trace(recorder, pulse)


def test_a_second_interrupt_ends_it_at_once_with_a_recording_that_reads(output, pulse):
    with Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots()
        recorder.send(signal.SIGSTOP)  # both arrive before it can end in good order
        recorder.send(signal.SIGINT)
        recorder.send(signal.SIGTERM)
        recorder.send(signal.SIGCONT)
        recorder.send(signal.SIGINT)
        outcome = recorder.end()
    assert outcome.status in {0, -signal.SIGINT}  # it may have been faster
    assert len(snapshots(output)) >= 3
    assert has_no_trace(recorder, pulse)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_recorder_that_is_killed_leaves_every_finished_snapshot_and_the_target_alone(output, pulse, number):
    with Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots(5)
        recorder.send(number)
        assert recorder.end().status == -number
    assert len(snapshots(output)) >= 5
    report = pagepulse("report", "wss", output)
    assert report.status == 0
    assert "has no end" in report.err
    assert has_no_trace(recorder, pulse)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_start_up_leaves_nothing(output, pulse, number):
    with Recorder("--pid", str(pulse.pid), output=output) as recorder:
        children = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children")
        assert wait_until(lambda: children.read_text() != "")  # it compiles
        compiler = int(children.read_text().split()[0])
        recorder.send(number)
        assert recorder.end().status in {130, -number}
    assert not output.exists()
    assert wait_until(lambda: has_ended(compiler))


def test_a_second_monitor_of_one_target_is_refused_and_the_first_goes_on(output, pulse):
    with Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots(1)
        second = pagepulse("record", "--pid", str(pulse.pid), "-o", output.with_name("second"))
        assert_refused(second, 1, f"process {pulse.pid} (pulse) is watched by another pagepulse")
        assert not output.with_name("second").exists()
        count = len(snapshots(output))
        recorder.wait_for_snapshots(count + 3)
    assert has_no_trace(recorder, pulse)


# --- where the output goes -------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_recording_with_a_reason_and_every_finished_snapshot(pulse, tmp_path):
    with small_disk(tmp_path / "disk", PAGE) as disk:
        output = disk / "out.data"
        outcome = pagepulse("record", "--pid", str(pulse.pid), "--aggregate", "20ms", "--budget", "100%", "-o", output)
        assert_refused(outcome, 1, str(output), "No space left on device", "free some space")
        assert len(snapshots(output)) >= 3
        assert output.stat().st_size <= PAGE
        assert pagepulse("report", "wss", output).status == 0


def test_a_disk_that_is_full_from_the_start_leaves_no_empty_file(pulse, tmp_path):
    with small_disk(tmp_path / "disk", PAGE) as disk:
        (disk / "other").write_bytes(b"x" * PAGE)
        outcome = pagepulse("record", "--pid", str(pulse.pid), "-o", disk / "out.data")
        assert_refused(outcome, 1, "cannot write the recording", "No space left on device")
        assert sorted(path.name for path in disk.iterdir()) == ["other"]


@pytest.mark.parametrize("path", ["no/such/directory/file", "/proc/file", "/dev/full/file"])
def test_a_recording_that_cannot_be_created_is_a_failure_with_a_reason(pulse, path):
    assert_refused(pagepulse("record", "--pid", str(pulse.pid), "-o", path), 1, "cannot create the recording", path)


def test_output_that_nobody_reads_to_its_end_is_no_failure(output, pulse):
    for arguments in (("record", "--pid", str(pulse.pid), "--duration", "1s", "--json", "-o", output),
                      ("report", "regions", output)):
        done = subprocess.run(["bash", "-c", '"$@" | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}', "bash",
                               *line(*arguments)], capture_output=True, text=True, check=False, timeout=patience(60))
        assert done.returncode == 0
        assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["record", "--duration", "300ms", "--json"], ["report", "regions"]])
def test_output_to_a_full_disk_is_a_failure_with_a_reason(output, pulse, arguments):
    if arguments[0] == "report":
        assert pagepulse("record", "--pid", str(pulse.pid), "--duration", "300ms", "-o", output).status == 0
        arguments = [*arguments, str(output)]
    else:
        arguments = [*arguments, "--pid", str(pulse.pid), "-o", str(output)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                              timeout=patience(60))
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_recorder_that_was_stopped_for_a_while_goes_on_and_invents_nothing_for_the_gap(output, pulse):
    with Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots(3)
        recorder.send(signal.SIGSTOP)
        time.sleep(1)
        count = len(snapshots(output))
        recorder.send(signal.SIGCONT)
        recorder.wait_for_snapshots(count + 3)
        recorder.send(signal.SIGTERM)
        assert recorder.end().status == 0
    taken = snapshots(output)
    assert all(before.end_ns <= after.start_ns for before, after in pairwise(taken))
    # The stop may fall within an interval or between two.
    assert max(after.end_ns - before.end_ns for before, after in pairwise(taken)) >= 500_000_000


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_failure(output, pulse, closed):
    """A daemon may start us so. No file of ours takes their place, and none is written to as if it were a terminal."""
    for arguments in (("record", "--pid", str(pulse.pid), "--duration", "300ms", "-o", output),
                      ("report", "wss", output)):
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *line(*arguments)], capture_output=True, text=True,
                              check=False, timeout=patience(60))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert len(snapshots(output)) >= 1
    assert "no end" not in pagepulse("report", "wss", output).err


def test_a_limit_on_open_files_is_a_failure_with_a_reason(output, pulse):
    for limit in ("16", "26"):
        outcome = pagepulse("record", "--pid", str(pulse.pid), "--duration", "300ms", "-o", output,
                            prefix=["prlimit", f"--nofile={limit}"])
        assert outcome.status == 1
        assert "Too many open files" in outcome.err
        assert not snapshots(output)


def test_a_limit_on_file_sizes_ends_the_recording_with_a_reason(output, pulse):
    outcome = pagepulse("record", "--pid", str(pulse.pid), "--aggregate", "20ms", "--budget", "100%", "-o", output,
                        prefix=["prlimit", "--fsize=4096"])
    assert_refused(outcome, 1, "File too large", "ulimit -f")
    assert len(snapshots(output)) >= 3
