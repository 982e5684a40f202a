# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse run`: what is idle goes, what is used stays, and what it says it did is what happened."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from demo.swap import temporary_swap
from live.machine import setting, wait_until
from live.recorder import line, pagepulse
from pace import lasting, patience
from pagepulse.capture import Recording
from pagepulse.kernel.numa import nodes_with_memory
from pagepulse.kernel.syscalls import MADV_COLD, MADV_PAGEOUT, move_pages, process_madvise
from pagepulse.model.memory import CHUNK, PAGE, WINDOW_PAGES
from workload import PROGRAMS, Workload, huge_bytes, major_faults, resident_bytes, status_bytes

pytestmark = pytest.mark.live

MIB = 1 << 20
KHUGEPAGED_SLEEP = Path("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs")
KHUGEPAGED_PAGES = KHUGEPAGED_SLEEP.with_name("pages_to_scan")
SCHEME = {"name": "idle", "action": "pageout", "access_pattern": {"rate": {"max": "5%"}, "age": {"min": "1 s"}},
          "apply_interval": "500 ms", "guards": {"trial": {"enabled": False}}}
"""Without a trial: what goes, goes within a test's time."""


def run(*arguments, pid: int, duration: str = "5s"):
    """Run it, and hold its account to the rules that hold for every account."""
    outcome = pagepulse("run", "--pid", str(pid), "--duration", duration, "--json", *arguments)
    assert outcome.status == 0, outcome.err
    summary = outcome.json
    assert summary.keys() >= {"rss_before_bytes", "rss_after_bytes", "cpu_percent", "schemes"}
    for scheme in summary["schemes"]:
        assert scheme.keys() >= {"name", "action", "tried_bytes", "applied_bytes", "calls", "errors"}
        assert scheme["tried_bytes"] == scheme["applied_bytes"] + sum(scheme["reasons"].values())
    return summary


def present(watch, pid: int, start: int, end: int) -> np.ndarray:
    with watch(pid) as target:
        return target.read_pages(start, end).present


@pytest.mark.parametrize("scatter", ["contiguous", "random"])
def test_what_is_idle_goes_and_not_one_page_that_is_used(watch, schemes, swap, scatter):
    with Workload("pulse", "--size", "64MiB", "--hot", "20%", "--scatter", scatter) as pulse:
        faults = major_faults(pulse.pid)
        summary = run("--schemes", schemes(), pid=pulse.pid)
        left = present(watch, pulse.pid, pulse.ready["start"], pulse.ready["end"])
        assert major_faults(pulse.pid) - faults < 64  # its own code may have been idle, too
    hot = np.zeros(len(left), bool)
    for start, end in pulse.ready["hot"]:
        hot[(start - pulse.ready["start"]) // PAGE : (end - pulse.ready["start"]) // PAGE] = True
    assert left[hot].all()
    gone_bytes = int(np.count_nonzero(~left)) * PAGE
    assert summary["schemes"][0]["applied_bytes"] >= gone_bytes
    assert summary["rss_before_bytes"] - summary["rss_after_bytes"] >= gone_bytes
    assert summary["swap_bytes"] >= gone_bytes
    if scatter == "contiguous":  # but for the windows at the edges of what is hot
        assert np.count_nonzero(left & ~hot) <= 2 * WINDOW_PAGES


def test_a_scheme_begins_with_a_trial(schemes, swap):
    trial = {"trial": {"first": "5%", "least": "4 MiB", "interval": "60 s"}}
    with Workload("touch", "--area", "a:61MiB") as touch:
        scheme, = run("--schemes", schemes(guards=trial), pid=touch.pid, duration="6s")["schemes"]
    assert 3 * MIB <= scheme["applied_bytes"] <= 4 * MIB
    assert scheme["waits_for"] == "what went is on trial: more may go when it stayed away for 1 m 0 s"


def test_a_quota_is_renewed_in_the_middle_of_an_interval(schemes, swap):
    """4 MiB a second: at each snapshot alone it would be 4 MiB in four seconds."""
    slow = schemes(quotas={"size": "4 MiB", "reset_interval": "1 s"})
    with Workload("touch", "--area", "a:61MiB") as touch:
        scheme, = run("--schemes", slow, "--aggregate", "4s", "--update", "4s", pid=touch.pid,
                      duration="14s")["schemes"]
    assert 20 * MIB <= scheme["applied_bytes"] <= 14 * 4 * MIB


def test_what_comes_back_stays_for_longer(watch, schemes, swap):
    """Each area is used for a while, then the other: what went and came back once does not go again so soon."""
    with Workload("stairs", "--areas", "2", "--bytes", str(16 * MIB), "--phase", lasting(6)) as stairs:
        command = line("run", "--pid", str(stairs.pid), "--schemes", schemes(), "--json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            summary = json.loads(process.stdout.read())
        faults = major_faults(stairs.pid)
    assert summary["returned_bytes"] >= 8 * MIB
    assert faults <= 3 * 16 * MIB // PAGE, "each area went at most once, and one of them twice"


@pytest.mark.parametrize("restores", [True, False])
def test_huge_pages_that_went_and_came_back_are_made_huge_again(schemes, swap, restores):
    with Workload("touch", "--area", "a:16MiB:thp") as touch:
        assert huge_bytes(touch.pid) == 16 * MIB
        command = line("run", "--pid", str(touch.pid), "--schemes", schemes(restore_huge_pages=restores), "--json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert wait_until(lambda: huge_bytes(touch.pid) == 0, 15)
            touch.command("touch a 0 4096")
            assert huge_bytes(touch.pid) == 0, "what comes back is small"
            came_back = wait_until(lambda: huge_bytes(touch.pid) == 16 * MIB, 4)
            process.send_signal(signal.SIGINT)
            scheme, = json.loads(process.stdout.read())["schemes"]
    assert came_back == restores
    assert scheme["restored_bytes"] == (16 * MIB if restores else 0)


def test_busy_pages_of_an_idle_region_are_saved_and_counted_once(schemes, swap):
    with Workload("pulse", "--size", "64MiB", "--hot", "2%", "--scatter", "random") as pulse:
        summary = run("--schemes", schemes(), pid=pulse.pid, duration="6s")
        hot_bytes = sum(end - start for start, end in pulse.ready["hot"])
    assert 0.9 * hot_bytes <= summary["schemes"][0]["saved_bytes"] <= hot_bytes + 4 * MIB
    assert summary["schemes"][0]["applied_bytes"] >= 40 * MIB


@pytest.mark.parametrize("allow", [True, False])
def test_a_scheme_is_for_the_control_groups_that_it_names(schemes, swap, group, allow):
    kept = {"type": "cgroup", "path": f"/{group.name}", "allow": allow}
    with Workload("touch", "--area", "a:16MiB") as touch:
        (group / "below" / "cgroup.procs").write_text(str(touch.pid))
        summary = run("--schemes", schemes(filters=[kept]), pid=touch.pid)
    applied_bytes = summary["schemes"][0]["applied_bytes"]
    assert applied_bytes >= 16 * MIB if allow else applied_bytes == 0


def test_a_program_loses_none_of_its_data(schemes, swap):
    with Workload("office", "--hot", "8MiB", "--warm", "8MiB", "--idle", "64MiB", "--comeback", "4MiB") as office:
        summary = run("--schemes", schemes(), pid=office.pid)
        assert summary["schemes"][0]["applied_bytes"] >= 60 * MIB
        office.signal(signal.SIGUSR1)
        office.wait_for("comeback")
        assert office.finish()["lost_words"] == 0


def test_a_huge_page_with_one_page_in_use_stays_whole_and_the_idle_ones_go(watch, schemes, swap):
    # The target may not get a processor for a while: what it uses must not be idle for long enough then.
    scheme = schemes(access_pattern={"rate": {"max": "5%"}, "age": {"min": "2 s"}})
    with Workload("touch", "--area", f"a:{5 * CHUNK}:thp") as touch:
        start, end = touch.area("a")
        command = line("run", "--pid", str(touch.pid), "--schemes", scheme, "--duration", "7s", "--json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                touch.command("touch a 700 1")  # in the second huge page
                touch.command("sleep 20")
            assert json.loads(process.stdout.read())["schemes"][0]["applied_bytes"] >= 4 * CHUNK
        with watch(touch.pid) as target:
            bits = target.read_pages(start, end)
    assert np.flatnonzero(bits.present).tolist() == list(range(512, 1024))
    assert bits.huge[512:1024].all()


@pytest.mark.parametrize("kind", ["shared", "locked"])
def test_what_cannot_be_watched_is_not_touched(watch, schemes, swap, kind):
    with Workload("touch", "--area", f"a:13MiB{':locked' if kind == 'locked' else ''}") as touch:
        if kind == "shared":
            touch.command("fork")
        start, end = touch.area("a")
        run("--schemes", schemes(), pid=touch.pid, duration="3s")
        assert present(watch, touch.pid, start, end).all()


def test_memory_of_a_file_goes_without_swap(watch, schemes, tmp_path):
    """Not on tmpfs, whose memory needs swap."""
    directory = Path(__file__).parents[2] / "build"
    file = directory / f"{tmp_path.name}.mapped"
    try:
        with Workload("touch", "--area", f"a:{1009 * PAGE}:file={file}") as touch:
            summary = run("--schemes", schemes(), pid=touch.pid, duration="8s")
            assert not present(watch, touch.pid, *touch.area("a")).any()
        assert summary["schemes"][0]["applied_bytes"] >= 1009 * PAGE
    finally:
        file.unlink(missing_ok=True)


def test_without_swap_it_says_so_and_anonymous_memory_stays_and_is_left_alone(watch, schemes):
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        pytest.skip("this machine has swap of its own")
    with Workload("touch", "--area", "a:13MiB") as touch:
        outcome = pagepulse("run", "--pid", str(touch.pid), "--schemes", schemes(), "--duration", "5s", "--json")
        assert present(watch, touch.pid, *touch.area("a")).all()
    assert "no swap is active" in outcome.err
    scheme, = outcome.json["schemes"]
    assert 0 < scheme["reasons"]["no swap space"] <= 16 * MIB  # tried once, not in each interval
    assert scheme["waits_for"] == "memory without a file: there is no swap space"


def test_a_dry_run_prints_each_call_and_makes_none(watch, schemes, swap):
    with Workload("touch", "--area", "a:13MiB") as touch:
        start, end = touch.area("a")
        outcome = pagepulse("run", "--pid", str(touch.pid), "--schemes", schemes(), "--duration", "3s", "--dry-run")
        assert present(watch, touch.pid, start, end).all()
        assert status_bytes(touch.pid, "VmSwap") == 0
    calls = [text for text in outcome.out.splitlines() if text.startswith(f"process_madvise(pid {touch.pid}, [")]
    ranges = {(int(low, 16), int(high, 16)) for low, high in re.findall(r"0x([0-9a-f]+)-0x([0-9a-f]+)", "".join(calls))}
    named = sum(min(high, end) - max(low, start) for low, high in ranges if low < end and high > start)
    assert named >= 13 * MIB
    assert all("MADV_PAGEOUT" in text for text in calls)


def test_what_a_filter_rejects_stays(watch, schemes, swap):
    with Workload("touch", "--area", "a:16MiB") as touch:
        start, end = touch.area("a")
        kept = {"type": "address", "start": hex(start + 4 * MIB), "end": hex(start + 7 * MIB + PAGE)}
        run("--schemes", schemes(filters=[kept, {"type": "anon", "allow": True}]), pid=touch.pid)
        found = present(watch, touch.pid, start, end)
    inside = slice(4 * MIB // PAGE, 7 * MIB // PAGE + 1)
    assert found[inside].all()
    found[inside] = False
    assert not found.any()


@pytest.mark.parametrize(("conditions", "words"), [
    ({"watermarks": {"metric": "free_memory", "high": "0.001%", "mid": "0.001%", "low": "0%"}}, "above high, 0.001%"),
    ({"quotas": {"goals": [{"metric": "file", "path": "/run/no-such-file", "target": 5}]}}, "cannot be read: file"),
    ({"guards": {"rss_floor": {"size": "1 GiB"}}}, "and 1 GiB are to stay"),
    ({"guards": {"swap": {"min_free": "100%"}}}, "of swap are free, at least 100%"),
])
def test_a_scheme_whose_conditions_do_not_hold_does_nothing_and_says_why(schemes, swap, conditions, words):
    with Workload("touch", "--area", "a:16MiB") as touch:
        (scheme,) = run("--schemes", schemes(**conditions), pid=touch.pid, duration="3s")["schemes"]
    assert scheme["calls"] == 0
    assert words in scheme["waits_for"]


def test_a_quota_grows_while_its_goal_is_not_met(schemes, swap, tmp_path):
    (tmp_path / "latency").write_text("0")
    goal = {"metric": "file", "path": str(tmp_path / "latency"), "target": 100}
    quotas = {"size": "1 MiB", "reset_interval": "100 ms", "goals": [goal]}
    with Workload("touch", "--area", "a:16MiB") as touch:
        (scheme,) = run("--schemes", schemes(apply_interval="100 ms", quotas=quotas), pid=touch.pid)["schemes"]
    assert not scheme["waits_for"]
    assert scheme["applied_bytes"] > 4 * MIB


def test_a_goal_file_that_vanishes_stops_the_scheme_until_it_is_there_again(schemes, swap, tmp_path):
    latency, kept = tmp_path / "latency", tmp_path / "pagepulse.data"
    latency.write_text("0")
    goal = {"metric": "file", "path": str(latency), "target": 100}
    scheme = schemes(apply_interval="100 ms", guards={"trial": {"enabled": False}},
                     quotas={"size": "1 MiB", "reset_interval": "100 ms", "goals": [goal]})
    with Workload("touch", "--area", "a:64MiB") as touch, subprocess.Popen(
            line("run", "--pid", str(touch.pid), "--schemes", scheme, "--record", kept, "--json"),
            stdout=subprocess.PIPE, text=True) as process:
        assert wait_until(lambda: status_bytes(touch.pid, "VmSwap") > 0)
        latency.unlink()
        assert wait_until(lambda: last_wait(kept) == f"cannot be read: file {latency}")
        held = status_bytes(touch.pid, "VmSwap")
        latency.write_text("0")
        assert wait_until(lambda: status_bytes(touch.pid, "VmSwap") > held)
        process.send_signal(signal.SIGINT)
        summary, _ = process.communicate()
    assert json.loads(summary)["schemes"][0]["waits_for"] == ""


def last_wait(recording: Path) -> str:
    """Why the scheme waited when it was last told of."""
    with Recording.open(recording) as opened:
        told = [event.data["waits_for"] for event in opened.events() if event.kind == "scheme"]
    return told[-1] if told else ""


def test_stat_counts_what_passes_its_filters_page_by_page(schemes):
    with Workload("touch", "--area", "a:16MiB") as touch:
        start, _ = touch.area("a")
        span = {"type": "address", "start": start, "end": start + 3 * MIB, "allow": True}
        (scheme,) = run("--schemes", schemes(action="stat", filters=[span], access_pattern={}), pid=touch.pid,
                        duration="3s")["schemes"]
    assert scheme["tried_bytes"] > 0
    assert scheme["tried_bytes"] % (3 * MIB) == 0


def test_a_scheme_of_damo_is_applied_as_it_is(watch, swap, tmp_path):
    pattern = {"sz_bytes": {"min": "4.000 KiB", "max": "max"}, "nr_accesses": {"min": "0 %", "max": "0 %"},
               "age": {"min": "1 s", "max": "max"}}
    path = tmp_path / "damo.json"
    path.write_text(json.dumps([{"action": "pageout", "access_pattern": pattern}]))
    path.chmod(0o600)
    with Workload("touch", "--area", "a:16MiB") as touch:
        summary = run("--schemes", path, pid=touch.pid)
        assert not present(watch, touch.pid, *touch.area("a")).any()
    assert [scheme["name"] for scheme in summary["schemes"]] == ["pageout-0"]


@pytest.mark.parametrize("action", ["stat", "cold", "lru_deprio"])
def test_gentle_actions_take_nothing_away(watch, schemes, swap, action):
    with Workload("touch", "--area", "a:13MiB") as touch:
        summary = run("--schemes", schemes(action=action), pid=touch.pid, duration="3s")
        assert present(watch, touch.pid, *touch.area("a")).all()
    (scheme,) = summary["schemes"]
    assert (scheme["name"], scheme["action"]) == ("idle", action)
    assert scheme["applied_bytes"] >= 13 * MIB
    assert bool(scheme["calls"]) == (action != "stat")


def test_what_comes_back_is_counted(schemes, swap):
    with Workload("touch", "--area", f"a:{1009 * PAGE}") as touch:
        command = line("run", "--pid", str(touch.pid), "--schemes", schemes(), "--duration", "6s", "--json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert wait_until(lambda: status_bytes(touch.pid, "VmSwap") >= 1009 * PAGE)
            touch.command("touch a 0 503")
            summary = json.loads(process.stdout.read())
    assert 503 * PAGE <= summary["returned_bytes"] <= 503 * PAGE + MIB  # and some of its own code


def test_a_quota_holds(schemes, swap):
    quota = {"size": "1 MiB", "reset_interval": "1 s"}
    with Workload("touch", "--area", "a:64MiB") as touch:
        before = resident_bytes(touch.pid)
        summary = run("--schemes", schemes(quotas=quota), pid=touch.pid, duration="4s")
        assert before - resident_bytes(touch.pid) <= 6 * MIB
    assert 2 * MIB <= summary["schemes"][0]["tried_bytes"] <= 6 * MIB


@pytest.mark.parametrize(("text", "mode", "words"), [
    ("{", 0o600, "schemes.json"), ("[]", 0o600, "schemes.json"),
    (json.dumps({"schemes": [SCHEME | {"colour": "red"}]}), 0o600, "colour"),
    (json.dumps({"schemes": [SCHEME | {"access_pattern": {"age": {"min": "5 s", "max": "1 s"}}}]}), 0o600, "age"),
    (json.dumps({"schemes": [SCHEME | {"access_pattern": {"age": {"min": "5 parsec"}}}]}), 0o600, "parsec"),
    (json.dumps({"schemes": [SCHEME]}), 0o666, "write"),
])
def test_a_scheme_file_that_is_refused_is_refused_before_a_command_is_started(tmp_path, text, mode, words):
    path = tmp_path / "schemes.json"
    path.write_text(text)
    path.chmod(mode)
    outcome = pagepulse("run", "--schemes", path, "--", "touch", tmp_path / "trace")
    assert outcome.status == 2
    assert outcome.err.startswith("pagepulse: ")
    assert words in outcome.err
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(("changes", "words"), [
    ({"action": "migrate_hot", "target_node": 63}, "memory of node 63, which this machine has not"),
])
def test_a_scheme_that_asks_for_what_is_not_applied_is_refused_by_name(schemes, tmp_path, changes, words):
    outcome = pagepulse("run", "--schemes", schemes(**changes), "--", "touch", tmp_path / "trace")
    assert outcome.status == 2
    assert words in outcome.err
    assert not (tmp_path / "trace").exists()


def test_the_exit_status_of_a_command_is_passed_on(schemes):
    outcome = pagepulse("run", "--schemes", schemes(action="stat"), "--json", "--", "sh", "-c", "sleep 1; exit 7")
    assert outcome.status == 7
    assert outcome.json["schemes"][0]["name"] == "idle"


def test_a_signal_ends_it_with_its_account_and_the_command_with_it(schemes):
    command = line("run", "--schemes", schemes(action="stat"), "--json", "--", PROGRAMS / "pulse", "--size", "16MiB")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ready = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        said = [json.loads(text) for text in process.stdout]
    assert process.returncode == 0
    assert [account["schemes"][0]["action"] for account in said if "schemes" in account] == ["stat"]
    assert not Path(f"/proc/{ready['pid']}").exists()


def test_a_target_that_exits_while_it_is_treated_ends_the_run_in_good_order(schemes, swap):
    with Workload("pulse", "--size", "64MiB", "--duration", lasting(9)) as pulse:
        outcome = pagepulse("run", "--pid", str(pulse.pid), "--schemes", schemes(apply_interval="100 ms"), "--json")
    assert outcome.status == 0
    assert outcome.json["schemes"][0]["applied_bytes"] > 0


def huge_chunks(watch, pid: int, start: int, end: int) -> int:
    with watch(pid) as target:
        return int(np.count_nonzero(target.read_pages(start, end).huge)) * PAGE // CHUNK


def meanwhile(touch: Workload, command: list[str | Path], *words: str, until: Callable[[], bool] | None = None) -> dict:
    """Run it while the target is told to do these, over and over; end it once that is true, or after a minute."""
    deadline = time.monotonic() + patience(60)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for word in words:
                touch.command(word)
            if until is not None and (until() or time.monotonic() > deadline):
                process.send_signal(signal.SIGINT)
                break
        process.wait()
        assert process.returncode == 0
        return json.loads(process.stdout.read())["schemes"][0]


def test_memory_in_use_is_given_huge_pages(watch, schemes):
    """khugepaged, which wakes when it gets its first process, may make one or two of them before: no more."""
    scheme = schemes(action="hugepage", access_pattern={"rate": {"min": "5%"}})
    with (setting(KHUGEPAGED_SLEEP, 600_000), setting(KHUGEPAGED_PAGES, 1),
          Workload("touch", "--area", "a:33MiB") as touch):
        touch.command("huge a")  # it may have them
        start, end = touch.area("a")
        command = line("run", "--pid", str(touch.pid), "--schemes", scheme, "--duration", "4s", "--json")
        result = meanwhile(touch, command, f"touch a 0 {33 * MIB // PAGE}", "sleep 5")
        assert huge_chunks(watch, touch.pid, start, end) >= 8  # regions need not begin where chunks do
    assert result["applied_bytes"] >= 8 * CHUNK
    assert result["tried_bytes"] == result["applied_bytes"] + sum(result["reasons"].values())


def test_memory_that_may_have_no_huge_pages_is_left_as_it_is_and_told_so(watch, schemes):
    scheme = schemes(action="collapse", access_pattern={"rate": {"min": "5%"}})
    with Workload("touch", "--area", "a:6MiB") as touch:
        start, end = touch.area("a")
        command = line("run", "--pid", str(touch.pid), "--schemes", scheme, "--duration", "3s", "--json")
        result = meanwhile(touch, command, "touch a 0 1536", "sleep 5")
        assert huge_chunks(watch, touch.pid, start, end) == 0
    assert result["applied_bytes"] == 0
    assert result["reasons"].keys() == {"not one page of 2 MiB afterwards"}
    assert result["errors"] > 0


def test_a_huge_page_with_little_in_use_is_split_and_what_is_idle_of_it_goes(watch, schemes, swap):
    # In use in each interval, or its age would begin anew with each that sees it at rest.
    scheme = schemes(action="nohugepage", access_pattern={"rate": {"max": "50%"}, "age": {"min": "1 s"}})
    with Workload("touch", "--area", f"a:{3 * CHUNK}:thp") as touch:
        start, end = touch.area("a")
        command = line("run", "--pid", str(touch.pid), "--schemes", scheme, "--json")
        with watch(touch.pid) as target:
            seen = []

            def what_is_left() -> list[int]:
                """On a busy machine the three may go, too, for a moment."""
                seen.append(target.read_pages(start, end))
                return np.flatnonzero(seen[-1].present).tolist()
            result = meanwhile(touch, command, "touch a 700 3", "sleep 50",  # in the second huge page
                               until=lambda: what_is_left() == [700, 701, 702])
    assert np.flatnonzero(seen[-1].present).tolist() == [700, 701, 702], result
    assert not seen[-1].huge.any()


def test_memory_that_was_paged_out_is_read_in_again(schemes, swap):
    with Workload("touch", "--area", "a:13MiB") as touch:
        run("--schemes", schemes(), pid=touch.pid)
        assert status_bytes(touch.pid, "VmSwap") >= 12 * MIB
        summary = run("--schemes", schemes(action="willneed", access_pattern={}), pid=touch.pid, duration="3s")
        faults = major_faults(touch.pid)
        touch.command("read a 0 3328")
        assert major_faults(touch.pid) - faults < 100
    assert summary["schemes"][0]["tried_bytes"] >= 12 * MIB


def test_what_lies_on_the_wanted_node_already_is_not_moved(schemes):
    scheme = schemes(action="migrate_hot", target_node=0, access_pattern={})
    with Workload("touch", "--area", "a:2MiB") as touch:
        result = run("--schemes", scheme, pid=touch.pid, duration="2s")["schemes"][0]
    if nodes_with_memory() == (0,):
        assert (result["tried_bytes"], result["calls"]) == (0, 0)


def test_where_pages_are_can_be_asked_and_a_node_that_is_none_is_refused():
    memory = np.zeros(64 * PAGE, np.uint8)
    memory[::PAGE] = 1
    first = -(-memory.ctypes.data // PAGE) * PAGE
    pages = np.arange(first, first + 60 * PAGE, PAGE, dtype=np.uint64)
    assert set(move_pages(os.getpid(), pages, None).tolist()) <= set(nodes_with_memory())
    with pytest.raises(OSError, match="No such device"):
        move_pages(os.getpid(), pages, 63)


def test_the_account_says_before_and_after_and_draws_it(schemes, swap, tmp_path):
    picture = tmp_path / "memory.png"
    with Workload("pulse", "--size", "64MiB", "--hot", "20%") as pulse:
        summary = run("--schemes", schemes(), "-o", picture, pid=pulse.pid)
    assert summary["before"]["rss_bytes"] == summary["rss_before_bytes"] > summary["after"]["rss_bytes"]
    assert summary["change"]["swap_bytes"] >= 40 * MIB
    assert summary["change"]["cpu_percent"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_attached(schemes, tmp_path):
    outcome = pagepulse("run", "--schemes", schemes(), "-o", tmp_path / "no" / "memory.png", "--", "touch",
                        tmp_path / "trace")
    assert outcome.status == 1
    assert "cannot write" in outcome.err
    assert not (tmp_path / "trace").exists()


def test_of_a_command_that_ended_the_account_is_what_was_last_seen(schemes):
    outcome = pagepulse("run", "--schemes", schemes(action="stat"), "--json", "--", PROGRAMS / "pulse",
                        "--size", "16MiB", "--duration", "3s")
    account = json.loads(outcome.out.splitlines()[-1])
    assert account["after"]["rss_bytes"] >= 16 * MIB
    assert account["change"]["cpu_percent"] > 0
    assert account["change"]["minor_faults"] is not None


def test_a_picture_of_no_known_kind_is_refused_before_anything_is_attached(schemes, tmp_path):
    outcome = pagepulse("run", "--schemes", schemes(), "-o", "memory.bmp", "--", "touch", tmp_path / "trace")
    assert outcome.status == 2
    assert "neither in .png nor in .svg" in outcome.err
    assert not (tmp_path / "trace").exists()


def test_a_recording_tells_what_schemes_did_and_what_their_guards_said(schemes, swap, tmp_path):
    floor = {"trial": {"enabled": False}, "rss_floor": {"size": "16 MiB"}}
    with Workload("touch", "--area", "a:61MiB") as touch:
        summary = run("--schemes", schemes(guards=floor), "--record", tmp_path / "run.data", pid=touch.pid)
    with Recording.open(tmp_path / "run.data") as recording:
        assert not recording.complaint
        assert recording.snapshot_count >= 5
        states = [event.data for event in recording.events() if event.kind == "scheme"]
    stances = [{guard["guard"]: guard["stance"] for guard in state["guards"]}.get("rss_floor") for state in states]
    assert stances[-1] == "stops"
    assert set(stances[:-1]) - {"stops"}
    assert states[-1]["applied_bytes"] == summary["schemes"][0]["applied_bytes"] > 0
    told = pagepulse("report", "schemes", tmp_path / "run.data")
    *_, held_back, others = told.out.splitlines()
    assert held_back.lstrip().startswith("rss_floor stops: ")
    assert others.lstrip().startswith("open: ")
    assert len(pagepulse("report", "schemes", "--json", tmp_path / "run.data").json["states"]) == len(states)


def test_the_live_view_says_what_schemes_do(schemes):
    with Workload("touch", "--area", "a:13MiB") as touch:
        shown = pagepulse("run", "--live", "--pid", str(touch.pid), "--schemes", schemes(), "--duration", "3s").out
    assert re.search(r"^ +[0-9.]+ s +rss .*\nidle: pageout done on 0 B; ", shown, re.MULTILINE)


@pytest.mark.parametrize(("options", "words"), [
    (["--live", "--json"], "contradict"), (["--live", "--dry-run"], "contradict"),
    (["--record", __file__], "exists"), (["--record", "/no/such/place"], "cannot create"),
])
def test_what_cannot_be_shown_or_recorded_is_refused_first(schemes, options, words):
    outcome = pagepulse("run", "--schemes", schemes(), *options, "--pid", str(os.getpid()))
    assert outcome.status in {1, 2}
    assert words in outcome.err


def test_another_tool_that_acts_on_the_same_target_is_no_matter(watch, schemes, swap):
    """It ages and pages out all the time what we watch: our account stays sound, and the program has its data."""
    with Workload("office", "--hot", "8MiB", "--idle", "64MiB", "--comeback", "4MiB") as office:
        pidfd = os.pidfd_open(office.pid)
        command = line("run", "--pid", str(office.pid), "--schemes", schemes(), "--duration", "6s", "--json")
        with watch(office.pid) as target, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            areas = [(one.start, min(one.end - one.start, 16 * MIB)) for one in target.mappings() if one.anonymous]
            for turn in range(10_000):
                if process.poll() is not None:
                    break
                process_madvise(pidfd, np.array([areas[turn % len(areas)]], np.uint64),
                                MADV_PAGEOUT if turn % 4 == 0 else MADV_COLD)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            summary = json.loads(process.stdout.read())
        os.close(pidfd)
        assert office.finish()["lost_words"] == 0
    scheme, = summary["schemes"]
    assert scheme["tried_bytes"] == scheme["applied_bytes"] + sum(scheme["reasons"].values())
    assert summary["returned_bytes"] <= scheme["applied_bytes"], "what the other one took is not counted as ours"


def test_when_swap_fills_up_it_stops_there_and_the_target_lives_on(schemes):
    """It is smaller than what is idle."""
    open_handed = {"trial": {"enabled": False}, "step_share": {"enabled": False}}
    with temporary_swap(32 << 20) as swap, Workload("touch", "--area", "a:97MiB") as touch:
        assert swap.device is not None, swap.why
        if not swap.is_ours or len(Path("/proc/swaps").read_text().splitlines()) > 2:
            pytest.skip("this machine has swap of its own")
        kept, = run("--schemes", schemes(guards=open_handed | {"swap": {"min_free": "50%"}}), pid=touch.pid)["schemes"]
        assert 12 * MIB <= kept["applied_bytes"] <= 17 * MIB
        full, = run("--schemes", schemes(guards=open_handed | {"swap": {"enabled": False}}), pid=touch.pid)["schemes"]
        assert full["reasons"]["no swap space"] > 0
        assert full["waits_for"] == "memory without a file: there is no swap space"
        assert kept["applied_bytes"] + full["applied_bytes"] <= 34 * MIB
        touch.command(f"touch a 0 {97 * MIB // PAGE}")
