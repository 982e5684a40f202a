# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse record`, from the command line: what it says is true, what it costs, and that it leaves nothing behind."""

import json
import os
import pwd
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from live.machine import on_disk, wait_until
from live.recorder import Recorder, is_in_kernel, pagepulse, snapshots
from pace import lasting, patience
from pagepulse.capture import Recording, Recordings
from pagepulse.capture.parts import ended_parts
from pagepulse.model.snapshot import Snapshot
from workload import PROGRAMS, Workload, major_faults, status_bytes

pytestmark = pytest.mark.live

MIB = 1 << 20
SUMMARY = {"duration_s", "snapshots", "cpu_percent", "rss_peak_bytes", "target_tax_percent", "unclearable_bytes",
           "dropped", "probes"}


def report(kind: str, path: Path, *options: str):
    outcome = pagepulse("report", kind, path, "--json", *options)
    assert outcome.status == 0, outcome.err
    return outcome.json


def overlapping(snapshot: Snapshot, start: int, end: int, of_regions=None):
    """Rows of its regions, or what else is known of each."""
    is_there = (snapshot.regions["start"] < end) & (snapshot.regions["end"] > start)
    return (snapshot.regions if of_regions is None else of_regions)[is_there]


def open_files(pid: int) -> list[str]:
    return sorted(str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir())


def test_the_summary_says_what_was_done_and_what_it_cost(output):
    with Workload("pulse", "--size", "64MiB") as pulse:
        outcome = pagepulse("record", "--pid", str(pulse.pid), "--duration", "3s", "--json", "-o", output)
    assert outcome.status == 0
    summary = outcome.json
    assert summary.keys() >= SUMMARY
    assert 2.5 < summary["duration_s"] < 4
    assert summary["snapshots"] == len(snapshots(output)) > 5
    assert summary["dropped"] == 0
    assert summary["cpu_percent"] > 0
    assert summary["target_tax_percent"] > 0
    assert 0 < summary["rss_peak_bytes"] <= 64 * MIB
    assert all(name.startswith(("kprobe:", "raw_tracepoint:")) for name in summary["probes"])
    with Recording.open(output) as recording:
        assert recording.summary == summary


def test_major_faults_are_told_as_the_kernel_counts_them(output, tmp_path):
    """Pages of a file that is no longer in memory: each part that is read has to come from the disk."""
    with on_disk(tmp_path) as disk:
        with (disk / "file").open("wb") as file:
            file.write(b"x" * 8 * MIB)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with (Workload("touch", "--area", f"a:{8 * MIB}:lazy:file={disk / 'file'}") as touch,
              Recorder("--pid", str(touch.pid), "--json", output=output) as recorder):
            recorder.wait_for_snapshots()
            before = major_faults(touch.pid)
            touch.command("read a 0 4 512")
            caused = major_faults(touch.pid) - before
            recorder.send(signal.SIGINT)
            summary = json.loads(recorder.end().out)
    assert caused > 0
    assert caused <= summary["major_faults"] <= caused + before


@pytest.mark.parametrize("share", ["10%", "50%"])
def test_the_working_set_of_a_known_program_is_told_within_3_percent(output, share):
    with Workload("pulse", "--size", "1GiB", "--hot", share) as pulse:
        outcome = pagepulse("record", "--pid", str(pulse.pid), "--duration", "8s", "-o", output)
        hot_bytes = pulse.ready["hot_bytes"]
    assert outcome.status == 0, outcome.err
    assert report("wss", output)["wss_bytes"]["p50"] == pytest.approx(hot_bytes, rel=0.03)


def test_areas_used_one_after_the_other_are_told_one_by_one_at_a_steady_size(output):
    """... and the process that watches is small, and carries no compiler around. Half a phase fits into one interval
    where waking up is dear and the budget is 1 %, and then half of the intervals lie across two areas: so 5 %."""
    with Workload("stairs", "--areas", "10", "--bytes", "10000000", "--phase", lasting(2.5)) as stairs, \
            Recorder("--pid", str(stairs.pid), "--budget", "5%", output=output) as recorder:
        stairs.wait_for("phase", number=6, timeout_s=60)  # more than ten seconds
        maps = Path(f"/proc/{recorder.pid}/maps").read_text()
        assert status_bytes(recorder.pid, "VmRSS") <= 64 * MIB
        assert status_bytes(recorder.pid, "VmHWM") <= 64 * MIB
        stairs.wait_for("end", timeout_s=60)
        assert recorder.end().status == 0
    assert "LLVM" not in maps
    assert "libbcc" not in maps
    assert 9_700_000 <= report("wss", output)["wss_bytes"]["p50"] <= 10_600_000


def test_a_target_that_sleeps_is_looked_at_less_and_seen_to_wake_up(output):
    with Workload("touch", "--area", "a:64MiB") as touch, \
            Recorder("--pid", str(touch.pid), "--budget", "10%", output=output) as recorder:
        recorder.wait_for_snapshots(1)
        touch.command("sleep 6000")
        asleep = snapshots(output)
        for _ in range(40):
            touch.command("touch a 0 1009")
            touch.command("sleep 50")
        awake = snapshots(output)[len(asleep):]
        recorder.send(signal.SIGTERM)
        assert recorder.end().status == 0
    assert max(snapshot.end_ns - snapshot.start_ns for snapshot in asleep) > 300_000_000
    assert min(snapshot.end_ns - snapshot.start_ns for snapshot in awake[1:]) < patience(150) * 1e6
    assert max(snapshot.wss_bytes for snapshot in awake) >= 0.9 * 1009 * 4096


def test_idle_memory_is_told_for_as_long_as_it_is_idle(output):
    with Workload("pulse", "--size", "128MiB", "--hot", "25%") as pulse:
        assert pagepulse("record", "--pid", str(pulse.pid), "--duration", "5s", "-o", output).status == 0
    idle = report("idle", output)["idle_bytes"]
    assert idle["1s"] == pytest.approx(96 * MIB, rel=0.03)
    assert idle["60s"] == 0
    assert all(idle[longer] <= idle[shorter] for shorter, longer in zip(list(idle), list(idle)[1:], strict=False))


def test_every_region_lies_in_a_mapping_and_has_its_name(output, tmp_path):
    with Workload("touch", "--area", f"a:{1009 * 4096}:file={tmp_path / 'mapped'}", "--area", "b:13MiB") as touch:
        assert pagepulse("record", "--pid", str(touch.pid), "--duration", "2s", "-o", output).status == 0
        start, end = touch.area("a")
    (newest,) = report("regions", output, "--last")["snapshots"]
    named = [region for region in newest["regions"] if region["mapping"] == str(tmp_path / "mapped")]
    assert named[0]["start"] == start
    assert named[-1]["end"] == end
    assert {region["pid"] for region in newest["regions"]} == {touch.pid}
    edges = [edge for region in newest["regions"] for edge in (region["start"], region["end"])]
    assert edges == sorted(edges)


def test_page_faults_are_told_for_the_region_that_they_are_in(output, tmp_path):
    """Of two mappings that cannot be one region, only one is touched."""
    pages = 1009
    size = pages * 4096
    areas = "--area", f"a:{size}:lazy:file={tmp_path / 'mapped'}", "--area", f"b:{size}:lazy"
    with Workload("touch", *areas) as touch, Recorder("--pid", str(touch.pid), output=output) as recorder:
        spans = [touch.area(name) for name in "ab"]

        def faults() -> list[int]:
            told = snapshots(output)
            return [sum(int(overlapping(one, *span, one.faults).sum()) for one in told) for span in spans]

        recorder.wait_for_snapshots()
        before = faults()
        touch.command(f"read b 64 {pages - 128}")  # a window at either edge may be another mapping's, too
        assert wait_until(lambda: faults()[1] - before[1] >= pages - 128)
        assert faults()[0] == before[0]
        touch.command("read a 500 1")
        assert wait_until(lambda: faults()[0] > before[0])
    regions = [region for one in report("regions", output)["snapshots"] for region in one["regions"]]
    assert sum(region["faults"] for region in regions if region["mapping"] == str(tmp_path / "mapped")) == faults()[0]


def test_page_faults_where_no_region_is_yet_are_told_as_soon_as_there_is_one(output):
    """Intervals are short, and mappings are looked at more seldom."""
    with (Workload("touch") as touch,
          Recorder("--pid", str(touch.pid), "--aggregate", "20ms", "--budget", "100%", output=output) as recorder):
        recorder.wait_for_snapshots()
        area = touch.command(f"map late:{1009 * 4096}:lazy")["area"]
        touch.command("read late 64 400")  # a window at either edge may be another mapping's, too
        touch.command("sleep 40")
        touch.command("read late 464 400")
        assert wait_until(lambda: sum(int(overlapping(one, area["start"], area["end"], one.faults).sum())
                                      for one in snapshots(output)) >= 800)


def test_what_the_probes_could_not_keep_is_counted_and_reported(output):
    """Faults in more windows within an interval than there is room for."""
    windows = 2 * 16384 + 1009
    with Workload("touch", "--area", f"a:{windows * 64 * 4096}:lazy") as touch, \
            Recorder("--pid", str(touch.pid), "--aggregate", "1s", "--json", output=output) as recorder:
        recorder.wait_for_snapshots(1)
        touch.command(f"read a 0 {windows} 64")
        count = len(snapshots(output))
        recorder.wait_for_snapshots(count + 2)
        recorder.send(signal.SIGTERM)
        dropped = recorder.end().json["dropped"]
    assert dropped >= 1009
    assert sum(snapshot.dropped for snapshot in snapshots(output)) == dropped
    assert "lost" in pagepulse("report", "wss", output).out


def test_nothing_stays_in_the_kernel_and_nothing_on_the_disk_but_the_recording(output):
    with Workload("pulse", "--size", "16MiB") as pulse, Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots()
        held = recorder.bpf_ids()
        assert len(held) >= 10
        assert all(is_in_kernel(*one) for one in held)
        recorder.send(signal.SIGKILL)
        assert recorder.end().status == -signal.SIGKILL
    assert wait_until(lambda: not any(is_in_kernel(*one) for one in held))
    assert os.listdir(output.parent) == [output.name]  # noqa: PTH208


def test_a_long_recording_holds_no_more_files_than_a_short_one(output):
    with Workload("pulse", "--size", "16MiB") as pulse, Recorder("--pid", str(pulse.pid), output=output) as recorder:
        recorder.wait_for_snapshots(2)
        before = open_files(recorder.pid)
        recorder.wait_for_snapshots(12)
        assert open_files(recorder.pid) == before


def test_a_recording_in_parts_loses_nothing_between_them_and_can_be_read_meanwhile(output):
    folder = output.parent
    with (Workload("pulse", "--size", "16MiB") as pulse,
          Recorder("--pid", str(pulse.pid), "--rotate-every", "1s", "--json", output=output) as recorder):
        assert wait_until(lambda: len(list(folder.glob("*.data.xz"))) >= 3, timeout_s=60)
        meanwhile = report("wss", folder)["snapshots"]
        recorder.send(signal.SIGTERM)
        summary = recorder.end().json
    with Recordings.open([folder]) as recordings:
        all_of_them = list(recordings.snapshots())
    assert len(all_of_them) == summary["snapshots"] >= meanwhile > 3
    assert all(before.end_ns <= after.start_ns for before, after in pairwise(all_of_them))
    assert not list(folder.glob(".*"))  # what the packer was at


def test_old_parts_go_and_what_is_left_is_the_newest(output):
    with Workload("pulse", "--size", "16MiB") as pulse:
        outcome = pagepulse("record", "--pid", str(pulse.pid), "--duration", "6s", "--rotate-every", "1s",
                            "--keep", "2", "--json", "-o", output)
    assert outcome.status == 0, outcome.err
    assert 2 <= len(ended_parts(output)) <= 3  # the last one was begun when there were two
    assert {path.name for path in output.parent.iterdir()} == {output.name, *(p.name for p in ended_parts(output))}
    assert 0 < report("wss", output.parent)["snapshots"] < outcome.json["snapshots"]


def test_new_memory_is_seen_within_the_update_interval(output):
    with Workload("touch") as touch, Recorder("--pid", str(touch.pid), output=output) as recorder:
        recorder.wait_for_snapshots()
        area = touch.command("map late:13MiB")["area"]
        mapped_ns = time.monotonic_ns()

        def is_seen(snapshot: Snapshot) -> bool:
            return bool(overlapping(snapshot, area["start"], area["end"])["present_bytes"].sum() >= 13 * MIB)
        assert wait_until(lambda: is_seen(snapshots(output)[-1]))
        first = next(snapshot for snapshot in snapshots(output) if is_seen(snapshot))
    assert first.end_ns - mapped_ns < 3_000_000_000


def test_memory_that_goes_away_is_no_longer_told(output):
    with Workload("touch", "--area", "a:13MiB", "--area", "b:1MiB") as touch, \
            Recorder("--pid", str(touch.pid), output=output) as recorder:
        recorder.wait_for_snapshots()
        start, end = touch.area("a")
        touch.command("unmap a")
        assert wait_until(lambda: not overlapping(snapshots(output)[-1], start, end).size)
        b_start, b_end = touch.area("b")
        assert overlapping(snapshots(output)[-1], b_start, b_end)["present_bytes"].sum() >= MIB


# --- a command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_the_exit_status_of_a_command_is_passed_on(output, script, status):
    outcome = pagepulse("record", "--json", "-o", output, "--", "sh", "-c", f"sleep 1; {script}")
    assert outcome.status == status
    assert outcome.json["snapshots"] == len(snapshots(output)) > 0


def test_a_command_that_outlives_the_duration_is_ended_and_that_is_no_failure(output):
    outcome = pagepulse("record", "--duration", "1s", "-o", output, "--", PROGRAMS / "pulse", "--size", "16MiB")
    assert outcome.status == 0
    assert '"event": "end"' in outcome.out  # it heard SIGTERM, and ended in good order


def test_a_stopped_command_is_ended_too(output):
    outcome = pagepulse("record", "--duration", "1s", "-o", output, "--", "sh", "-c", "kill -STOP $$; sleep 60")
    assert outcome.status == 0


def test_what_looks_like_an_option_of_ours_belongs_to_the_command(output):
    outcome = pagepulse("record", "-o", output, "--", "sh", "-c", 'sleep 1; echo "$@"', "sh", "--json", "--pid", "1")
    assert outcome.out == "--json --pid 1\n"


def test_a_command_runs_as_the_user_who_called_sudo(output):
    """... with that user's groups and home, and the recording is still root's."""
    nobody = pwd.getpwnam("nobody")
    outcome = pagepulse("record", "-o", output, "--", "sh", "-c", 'id -u; id -g; echo "$HOME"; sleep 1',
                        environment={"SUDO_UID": str(nobody.pw_uid), "SUDO_GID": str(nobody.pw_gid)})
    assert outcome.status == 0, outcome.err
    assert outcome.out.split() == [str(nobody.pw_uid), str(nobody.pw_gid), nobody.pw_dir]
    assert output.stat().st_uid == 0
    assert output.stat().st_mode & 0o777 == 0o600


def test_without_sudo_a_command_runs_as_we_do(output):
    outcome = pagepulse("record", "-o", output, "--", "sh", "-c", "id -u; sleep 1", environment={"SUDO_UID": ""})
    assert outcome.out == "0\n"


def test_a_command_is_not_started_for_a_recording_that_cannot_be(output, tmp_path):
    """It might do something that cannot be undone."""
    trace = tmp_path / "trace"
    output.write_text("somebody's data")
    for path, status, words in ((output, 2, "exists"), (tmp_path / "no" / "x", 1, "No such file or directory")):
        outcome = pagepulse("record", "-o", path, "--", "touch", trace)
        assert outcome.status == status
        assert words in outcome.err
    assert not trace.exists()
    assert output.read_text() == "somebody's data"


def test_an_existing_recording_is_replaced_only_by_force(output):
    output.write_text("old")
    outcome = pagepulse("record", "--force", "--duration", "1s", "-o", output, "--pid", str(os.getpid()), "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["snapshots"] == len(snapshots(output))
