# SPDX-License-Identifier: GPL-2.0-only
"""The daemon at work: what it tells, what it is told, and what goes wrong around it."""

import json
import os
import shutil
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.swap import temporary_swap
from live.daemon import Daemon
from live.machine import wait_until
from live.recorder import assert_refused, pagepulse
from pace import patience, percent
from pagepulse.capture import Recording
from pagepulse.kernel.capabilities import KEPT
from workload import PROGRAMS, Workload

pytestmark = pytest.mark.live

MIB = 1 << 20
GROUPS = Path("/sys/fs/cgroup")
SCHEME = {"name": "idle", "action": "pageout", "access_pattern": {"rate": {"max": "5%"}, "age": {"min": "1 s"}},
          "guards": {"trial": {"enabled": False}, "psi": {"enabled": False}}}
"""Without a trial what goes, goes within a test's time; whatever else the machine is short of memory for."""


def are_watched(*pids):
    """Whether a target has had a snapshot of each of these."""
    return lambda target: {process["pid"] for process in target["processes"]} >= set(pids)


def schemes(**changes) -> str:
    return json.dumps({"schemes": [SCHEME | changes]})


def hierarchy() -> Path:
    return next(root for root in (GROUPS, GROUPS / "unified") if (root / "cgroup.controllers").exists())


@contextmanager
def control_group(name: str, *members: Workload) -> Iterator[Path]:
    """A control group of our own with these in it, removed afterwards."""
    group = hierarchy() / f"pagepulse-{name}-{os.getpid()}"
    group.mkdir()
    try:
        for member in members:
            (group / "cgroup.procs").write_text(str(member.pid))
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (hierarchy() / "cgroup.procs").write_text(pid)
        assert wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.fixture(name="pulses", scope="module")
def _pulses() -> Iterator[tuple[Workload, Workload]]:
    with Workload("pulse", "--size", "16MiB") as one, Workload("pulse", "--size", "32MiB") as other:
        yield one, other


@pytest.fixture(name="serving", scope="module")
def _serving(tmp_path_factory, pulses) -> Iterator[Daemon]:
    """A daemon that has seen both pulses; a test that changes its configuration changes it back."""
    directory = tmp_path_factory.mktemp("serving")
    recording = f'recording = "{directory}/pulses.data"\n'
    with (control_group("pulses", *pulses) as group,
          Daemon(directory, f'[targets.pulses]\ncgroup = "{group}"\nbudget = "5%"\n{recording}') as daemon):
        daemon.start()
        assert daemon.tells("pulses", are_watched(*(pulse.pid for pulse in pulses))), daemon.log
        yield daemon
        assert daemon.end() == 0
        assert not daemon.socket.exists()
        with Recording.open(directory / "pulses.data") as seen:
            assert set(seen.pids()) == {pulse.pid for pulse in pulses}
    assert "Traceback" not in daemon.log


def test_it_tells_of_each_process_and_of_all_together(serving, pulses):
    status = serving.status()
    (target,) = status["targets"]
    assert (target["state"], target["budget_percent"], status["paused"]) == ("watching", percent(5), False)
    small, large = (next(one for one in target["processes"] if one["pid"] == pulse.pid) for pulse in pulses)
    assert small["name"] == large["name"] == "pulse"
    assert 16 * MIB < small["rss_bytes"] < 24 * MIB < 32 * MIB < large["rss_bytes"]
    assert 48 * MIB < target["rss_bytes"] <= sum(one["rss_bytes"] for one in target["processes"])
    assert status["cpu_percent"] > 0


def test_what_several_map_of_one_file_counts_once_in_their_sum(tmp_path):
    area = f"a:24MiB:shared:file={tmp_path / 'mapped'}"
    with (Workload("touch", "--area", area) as one, Workload("touch", "--area", area) as other,
          control_group("mapped", one, other) as group,
          Daemon(tmp_path, f'[targets.mapped]\ncgroup = "{group}"\nbudget = "5%"\n') as daemon):
        daemon.start()
        assert daemon.tells("mapped", are_watched(one.pid, other.pid)), daemon.log
        told = daemon.target("mapped")
        each = [process["rss_bytes"] for process in told["processes"]]
        assert min(each) >= 24 * MIB
        assert told["rss_bytes"] <= sum(each) - 23 * MIB
        assert daemon.end() == 0


def test_of_two_targets_that_mean_a_process_the_one_named_first_has_it(tmp_path):
    own = shutil.copy(PROGRAMS / "pulse", tmp_path / "own")  # no other test's program is meant
    with (Workload(own, "--size", "16MiB") as pulse, control_group("first") as group,
          Daemon(tmp_path, f'[targets.first]\ncgroup = "{group}"\nbudget = "5%"\n'
                           f'[targets.rest]\nexe = "{own}"\nbudget = "5%"\n') as daemon):
        daemon.start()
        assert daemon.tells("rest", are_watched(pulse.pid)), daemon.log
        (group / "cgroup.procs").write_text(str(pulse.pid))
        assert daemon.tells("first", are_watched(pulse.pid)), daemon.log
        assert not daemon.target("rest")["processes"]
        assert daemon.end() == 0


def test_where_other_programs_are_meant_too_those_that_were_watched_before_stay_known(tmp_path):
    one, two = (shutil.copy(PROGRAMS / "pulse", tmp_path / name) for name in ("pulse-one", "pulse-two"))
    with (Workload(one, "--size", "16MiB") as first, Workload(two, "--size", "16MiB") as second,
          Daemon(tmp_path, f'[targets.them]\nexe = "{one}"\nbudget = "5%"\n') as daemon):
        daemon.start()
        assert daemon.tells("them", are_watched(first.pid)), daemon.log
        daemon.write("conf.d/more.toml", f'[targets.them]\nexe = "{tmp_path}/pulse-*"\n')
        assert daemon.tells("them", are_watched(first.pid, second.pid)), daemon.log
        watched_s = {process["pid"]: process["watched_s"] for process in daemon.target("them")["processes"]}
        assert watched_s[first.pid] > watched_s[second.pid] + 1
        daemon.write("conf.d/more.toml", f'[targets.them]\nexe = "{two}"\n')
        assert daemon.tells("them", lambda target: [one["pid"] for one in target["processes"]] == [second.pid])
        assert "anew" not in daemon.log
        assert daemon.end() == 0


def test_status_top_and_snapshot_are_for_people_and_for_programs(serving, pulses):
    where = ("--socket", str(serving.socket))
    words = pagepulse("status", *where).out
    assert "pulses: watching; processes of the control group /" in words
    table = pagepulse("top", *where, "--sort", "wss").out.splitlines()
    rows = [row for row in table if row.endswith("pulses/pulse")]
    assert [int(row.split()[0]) for row in rows] == [pulses[1].pid, pulses[0].pid]
    assert pagepulse("status", *where, "--json").json["targets"][0]["name"] == "pulses"
    assert str(pulses[0].pid) in pagepulse("snapshot", *where, "--target", "pulses").out
    (seen,) = pagepulse("snapshot", *where, "--pid", str(pulses[0].pid), "--json").json["snapshots"]
    assert sum(region["present_bytes"] for region in seen["regions"]) <= seen["rss_bytes"]
    assert len(seen["regions"]) >= 3
    assert_refused(pagepulse("snapshot", *where, "--target", "nobody"), 2, "there is no target 'nobody'")


def test_while_it_rests_nothing_is_read_and_then_it_goes_on(serving):
    where = ("--socket", str(serving.socket))
    assert pagepulse("pause", *where, "pulses").out == "pulses: paused\n"
    before = serving.status()
    assert before["paused"]
    assert serving.sees(lambda status: status["uptime_s"] > before["uptime_s"] + 2)
    after = serving.status()
    assert after["targets"][0]["snapshots"] == before["targets"][0]["snapshots"]
    assert after["targets"][0]["state"] == "paused"
    assert pagepulse("resume", *where).out == "pulses: resumed\n"
    assert serving.tells("pulses", lambda target: target["snapshots"] > before["targets"][0]["snapshots"])
    assert_refused(pagepulse("pause", *where, "nobody"), 2, "there is no target 'nobody'")


def test_a_change_of_the_directory_is_taken_on_and_what_is_unchanged_keeps_its_history(serving, pulses):
    before = serving.target("pulses")
    serving.write("conf.d/other.toml", '[targets.other]\nexe = "no-such-program"\n')
    assert serving.tells("other", lambda target: target["state"] == "waiting"), serving.log
    serving.write("conf.d/pulses.toml", '[targets.pulses]\nschemes = "count.json"\n')  # not there yet
    assert serving.sees(lambda status: "count.json" in status["reload"]["error"]), serving.log
    serving.write("count.json", schemes(action="stat"))
    os.kill(serving.pid, signal.SIGHUP)
    assert serving.tells("pulses", lambda target: bool(target["schemes"])), serving.log
    after = serving.target("pulses")
    assert after["age_s"] > before["age_s"]
    assert after["snapshots"] >= before["snapshots"]
    assert {one["pid"] for one in after["processes"]} >= {pulse.pid for pulse in pulses}
    for name in ("conf.d/other.toml", "conf.d/pulses.toml"):
        (serving.directory / name).unlink()
    assert serving.sees(lambda status: [one["name"] for one in status["targets"]] == ["pulses"]), serving.log


def test_a_bad_file_changes_nothing_and_is_told_of_until_it_is_gone(serving):
    path = serving.directory / "conf.d" / "bad.toml"
    try:
        for text, mode, words in (('[targets.pulses]\nexe = "pu', 0o600, "expected TOML"),
                                  ("[targets.pulses]\nbudgett = 1\n", 0o600, "did you mean 'budget'?"),
                                  ("", 0o666, "world-writable")):
            serving.write("conf.d/bad.toml", text).chmod(mode)
            os.kill(serving.pid, signal.SIGHUP)
            assert serving.sees(lambda status, words=words: words in status["reload"]["error"]), serving.log
            assert serving.target("pulses")["state"] == "watching"
            assert words in serving.log
        assert "world-writable" in pagepulse("status", "--socket", serving.socket).out
    finally:
        path.unlink()
    assert serving.sees(lambda status: not status["reload"]["error"])


def test_it_keeps_only_the_capabilities_that_it_needs_in_every_thread(serving):
    kept = sum(1 << number for number, _ in KEPT.values())
    for task in Path(f"/proc/{serving.pid}/task").iterdir():
        facts = dict(line.split(":\t") for line in (task / "status").read_text().splitlines() if ":\t" in line)
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(facts[name], 16) & ~kept == 0, name
        assert facts["NoNewPrivs"] == "1"


def test_a_second_one_at_the_same_socket_is_refused_and_harms_nobody(serving):
    assert_refused(pagepulse("serve", "--config", serving.directory), 1, "another pagepulse serves")
    assert serving.status()["targets"]


def test_rubbish_and_silence_at_the_socket_delay_no_snapshot(serving):
    before = serving.target("pulses")["snapshots"]
    silent = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    for number, peer in enumerate(silent):
        peer.connect(str(serving.socket))
        peer.send(b'{"verb"' if number % 2 else b"\xff" * 5000 + b"\n")
    assert serving.tells("pulses", lambda target: target["snapshots"] > before + 2)
    for peer in silent:
        peer.close()


def test_an_unprivileged_user_learns_that_he_may_not(serving):
    may_read = "+dac_read_search"  # this checkout, wherever it lies
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={may_read}",
              f"--ambient-caps={may_read}")
    for verb in ("status", "pause"):
        assert_refused(pagepulse(verb, "--socket", serving.socket, prefix=prefix), 3, "you may not ask the daemon")
    assert_refused(pagepulse("serve", prefix=prefix), 3, "pagepulse needs root")


def test_killed_and_started_again_it_watches_on_and_begins_gently(tmp_path):
    with (temporary_swap(1 << 30) as swap, Workload("touch", "--area", "a:32MiB") as touch,
          control_group("touch", touch) as group,
          Daemon(tmp_path, f'[targets.touch]\ncgroup = "{group}"\nschemes = "idle.json"\nbudget = "5%"\n') as daemon):
        assert swap.device is not None, swap.why
        daemon.write("idle.json", schemes())
        daemon.start()
        daemon.end(signal.SIGKILL)
        assert daemon.socket.exists()
        daemon.start()
        assert daemon.tells("touch", lambda target: target["given_back_bytes"] > 0)
        first = daemon.target("touch")
        assert first["given_back_bytes"] < 20 * MIB  # a quota of 128 MiB each second would have taken it all
        (guard,) = [one for one in first["schemes"][0]["guards"] if one["guard"] == "refault"]
        assert guard["stance"] == "limits"
        gone = daemon.tells("touch", lambda target: target["given_back_bytes"] > 30 * MIB, patience_s=60)
        assert gone, (daemon.target("touch")["schemes"], daemon.log)
        (process,) = [one for one in daemon.target("touch")["processes"] if one["pid"] == touch.pid]
        assert process["given_back_bytes"] > 30 * MIB
        assert daemon.end() == 0


def test_a_control_group_that_is_away_is_waited_for(tmp_path):
    group = hierarchy() / f"pagepulse-away-{os.getpid()}"
    with (Workload("pulse", "--size", "16MiB") as pulse,
          Daemon(tmp_path, f'[targets.group]\ncgroup = "{group}"\nbudget = "5%"\n') as daemon):
        daemon.start()
        assert daemon.tells("group", lambda target: "no control group" in target["why"])
        assert daemon.target("group")["state"] == "waiting"
        with control_group("away", pulse) as made:
            assert made == group
            assert daemon.tells("group", are_watched(pulse.pid)), daemon.log
            assert daemon.target("group")["processes"][0]["cgroup"] == f"/{group.name}"
        assert daemon.tells("group", lambda target: target["state"] == "waiting"), daemon.log
        assert "is gone" in daemon.target("group")["why"]


def test_metrics_are_told_where_the_configuration_says_and_a_port_in_use_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        taken.listen()
        with Daemon(tmp_path / "one", metrics=listen) as refused:
            assert_refused(pagepulse("serve", "--config", refused.directory), 1, f"metrics cannot be told at {listen}")
            assert not refused.socket.exists()
    with Daemon(tmp_path / "other", '[targets.none]\nexe = "no-such-program"\n', listen) as daemon:
        daemon.start()
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        assert 'target="none"' in text
        assert daemon.end() == 0


def test_a_supervisor_is_told_when_it_is_ready_alive_reloading_and_at_its_end(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor, Daemon(tmp_path) as daemon:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(patience(30))
        told = []

        def hears(words: str) -> bool:
            """Whether it is told so, by now or within half a minute."""
            while not any(words in message for message in told):
                told.append(supervisor.recv(4096).decode())
            told.clear()
            return True

        daemon.start({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000", "JOURNAL_STREAM": "8:1"})
        assert hears("READY=1")
        assert hears("WATCHDOG=1")
        os.kill(daemon.pid, signal.SIGHUP)
        assert hears("RELOADING=1")
        assert hears("READY=1")
        assert daemon.end() == 0
        assert hears("STOPPING=1")
        assert all(row.startswith("<") for row in daemon.log.splitlines())


@pytest.mark.parametrize(("name", "text", "words"), [
    ("pagepulse.toml", "[targets", "expected TOML"),
    ("conf.d/x.toml", '[targets.x]\nexe = "x"\nschemes = "/nowhere.json"\n', "nowhere.json is refused"),
])
def test_a_configuration_that_is_refused_starts_nothing(tmp_path, name, text, words):
    with Daemon(tmp_path) as daemon:
        daemon.write(name, text)
        assert_refused(pagepulse("serve", "--config", daemon.directory), 2, words)
        assert_refused(pagepulse("check", daemon.directory), 2, words)
