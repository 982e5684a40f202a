# SPDX-License-Identifier: GPL-2.0-only
"""The workloads tell the truth about themselves: /proc is the judge. No BPF is needed."""

import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from workload import PROGRAMS, Workload, WorkloadError, now_ns, resident_bytes, status_bytes

PAGE = 4096


def smaps_of(pid: int, address: int) -> dict[str, str]:
    """The entry of /proc/PID/smaps that holds this address."""
    found: dict[str, str] = {}
    is_inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if header := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            is_inside = int(header[1], 16) <= address < int(header[2], 16)
        elif is_inside:
            key, _, value = line.partition(":")
            found[key] = value.strip()
    return found


def resident_pages(pid: int, start: int, end: int) -> int:
    """Present entries of /proc/PID/pagemap."""
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        pagemap.seek(start // PAGE * 8)
        entries = np.frombuffer(pagemap.read((end - start) // PAGE * 8), "<u8")
    return int(np.count_nonzero(entries >> np.uint64(63)))


def test_touch_populates_every_page_of_an_area_of_a_prime_number_of_pages():
    with Workload("touch", "--area", f"odd:{10007 * PAGE}") as touch:
        start, end = touch.area("odd")
        assert end - start == 10007 * PAGE
        assert resident_pages(touch.pid, start, end) == 10007


def test_touch_makes_exactly_the_pages_resident_that_it_is_told_to_touch():
    with Workload("touch", "--area", f"new:{1009 * PAGE}:lazy") as touch:
        start, end = touch.area("new")
        assert resident_pages(touch.pid, start, end) == 0
        answer = touch.command("touch new 2 101 7")
        assert answer["pages"] == 101
        assert answer["begin_ns"] <= answer["end_ns"] <= now_ns()
        assert resident_pages(touch.pid, start, end) == 101
        assert resident_pages(touch.pid, start + 2 * PAGE, start + 3 * PAGE) == 1
        assert resident_pages(touch.pid, start + 3 * PAGE, start + 9 * PAGE) == 0


def test_touch_gives_huge_pages_where_they_are_asked_for_and_nowhere_else():
    with Workload("touch", "--area", "huge:8MiB:thp", "--area", "small:8MiB") as touch:
        huge, small = touch.area("huge")[0], touch.area("small")[0]
        assert huge % (2 << 20) == 0
        assert smaps_of(touch.pid, huge)["AnonHugePages"] == "8192 kB"
        assert smaps_of(touch.pid, small)["AnonHugePages"] == "0 kB"


def test_touch_locks_shares_and_maps_files_as_asked(tmp_path):
    file = tmp_path / "backing"
    with Workload("touch", "--area", "locked:52K:locked", "--area", "shared:52K:shared",
                  "--area", f"file:52K:file={file}:shared") as touch:
        assert "lo" in smaps_of(touch.pid, touch.area("locked")[0])["VmFlags"].split()
        assert "sh" in smaps_of(touch.pid, touch.area("shared")[0])["VmFlags"].split()
        assert file.stat().st_size == 13 * PAGE
        touch.command("touch file 3 1")
    assert file.read_bytes()[3 * PAGE] == 1


def test_touch_maps_and_unmaps_while_it_runs():
    with Workload("touch") as touch:
        area = touch.command(f"map late:{13 * PAGE}")["area"]
        assert resident_pages(touch.pid, area["start"], area["end"]) == 13
        touch.command("unmap late")
        assert resident_pages(touch.pid, area["start"], area["end"]) == 0
        with pytest.raises(WorkloadError, match="no area is called late"):
            touch.command("touch late 0 1")


@pytest.mark.parametrize("line", ["touch a 13 1", "touch a 12 2", "touch a 0 7 3", "touch a 0 1 0",
                                  "read a 18446744073709551615 2", "map a:1", "map b:1:wrong", "nonsense"])
def test_touch_refuses_what_it_cannot_do_and_goes_on(line):
    with Workload("touch", "--area", f"a:{13 * PAGE}") as touch:
        with pytest.raises(WorkloadError, match=r"touch: '.*': "):
            touch.command(line)
        assert touch.command("touch a 12 1")["pages"] == 1


def test_touch_forks_a_child_that_lives_until_it_is_reaped():
    with Workload("touch", "--area", "a:52K") as touch:
        child = touch.command("fork")["pid"]
        assert resident_pages(child, *touch.area("a")) == 13
        touch.command("reap")
        assert not Path(f"/proc/{child}").exists()


def test_touch_becomes_another_program_under_the_same_pid():
    with Workload("touch") as touch:
        touch.command("exec sleep 60")
        deadline = now_ns() + 10_000_000_000
        while Path(f"/proc/{touch.pid}/comm").read_text() != "sleep\n" and now_ns() < deadline:
            pass
        assert Path(f"/proc/{touch.pid}/comm").read_text() == "sleep\n"


def test_a_workload_dies_with_whoever_started_it():
    code = "import sys, time; from workload import Workload; print(Workload('touch').pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}) as starter:
        assert starter.stdout is not None
        pidfd = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()
        try:
            deadline = now_ns() + 10_000_000_000
            while now_ns() < deadline:
                try:
                    signal.pidfd_send_signal(pidfd, 0)
                except ProcessLookupError:
                    return
            pytest.fail("it lives on")
        finally:
            os.close(pidfd)


def first_bytes(pid: int, start: int, end: int) -> npt.NDArray[np.uint8]:
    """The first byte of each page."""
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        memory.seek(start)
        return np.frombuffer(memory.read(end - start), np.uint8)[::PAGE]


def test_pulse_touches_exactly_the_hot_ranges_that_it_prints():
    with Workload("pulse", "--size", "64MiB", "--hot", "10%", "--scatter", "random", "--seed", "7",
                  "--period", "50ms") as pulse:
        hot = np.array(pulse.ready["hot"])
        start, end = pulse.ready["start"], pulse.ready["end"]
        deadline = now_ns() + 10_000_000_000
        while first_bytes(pulse.pid, hot[-1, 0], hot[-1, 1])[-1] == 1 and now_ns() < deadline:
            pass  # the first period is not over
        touches = first_bytes(pulse.pid, start, end)
        account = pulse.finish()
    is_hot = np.zeros(len(touches), bool)
    for first, last in (hot - start) // PAGE:
        is_hot[first:last] = True
    assert is_hot.sum() * PAGE == pulse.ready["hot_bytes"] == round(16384 * 0.1) * PAGE
    assert len(hot) > 1000
    assert (touches[~is_hot] == 1).all()  # from its start
    assert (touches[is_hot] > 1).all()
    assert (touches <= account["periods"] + 1).all()


@pytest.mark.parametrize(("share", "pages"), [("10%", 1638), ("50%", 8192), ("0%", 0), ("100%", 16384)])
def test_pulse_has_a_contiguous_hot_range_of_the_wanted_share(share, pages):
    with Workload("pulse", "--size", "64MiB", "--hot", share) as pulse:
        assert pulse.ready["hot_bytes"] == pages * PAGE
        assert len(pulse.ready["hot"]) == (1 if pages else 0)


def test_stairs_uses_its_areas_in_turn():
    with Workload("stairs", "--areas", "3", "--bytes", "10000000", "--phase", "50ms") as stairs:
        account = stairs.wait_for("end")
        phases = stairs.events("phase")
        assert [(phase["start"], phase["end"]) for phase in phases] \
            == [(area["start"], area["end"]) for area in stairs.ready["areas"]]
        assert all(phase["end"] - phase["start"] == 2442 * PAGE for phase in phases)
        starts = [phase["start_ns"] for phase in phases] + [account["end_ns"]]
        assert all(after - before >= 50_000_000 for before, after in pairwise(starts))


def test_throughput_works_in_as_many_threads_as_it_is_told():
    with Workload("throughput", "--size", "64MiB", "--hot", "8MiB", "--slice", "20ms", "--threads", "3") as run:
        run.wait_for("slice")
        assert len(list(Path(f"/proc/{run.pid}/task").iterdir())) == 3


def test_throughput_counts_every_operation_in_slices_without_a_gap():
    with Workload("throughput", "--size", "64MiB", "--hot", "8MiB", "--slice", "20ms", "--duration", "200ms") as run:
        account = run.wait_for("end")
        slices = run.events("slice")
        assert account["operations"] == sum(part["operations"] for part in slices) > 0
        assert all(left["end_ns"] == right["start_ns"] for left, right in pairwise(slices))
        assert run.ready["hot"][0][1] - run.ready["hot"][0][0] == 8 << 20


SMALL_OFFICE = ("--hot", "8MiB", "--warm", "8MiB", "--idle", "32MiB", "--comeback", "4MiB")


def test_office_is_resident_and_loses_nothing():
    with Workload("office", *SMALL_OFFICE) as office:
        assert resident_bytes(office.pid) >= 48 << 20
        assert [office.area(name)[1] - office.area(name)[0] for name in ("hot", "warm", "idle")] \
            == [8 << 20, 8 << 20, 32 << 20]
        office.signal(signal.SIGUSR1)
        assert office.wait_for("comeback")["bytes"] == 4 << 20
        office.wait_for("slice")
        account = office.finish()
        assert account["lost_words"] == 0
        assert account["operations"] == sum(part["operations"] for part in office.events("slice")) > 0
        assert office.process.returncode == 0


@pytest.mark.parametrize("area", ["hot", "warm", "idle"])
def test_office_notices_one_changed_byte_in_any_of_its_areas(area):
    with Workload("office", *SMALL_OFFICE) as office:
        start, end = office.area(area)
        with Path(f"/proc/{office.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(end - 5 * PAGE + 8)  # the second word of a page: no operation writes there
            before = memory.read(1)
            memory.seek(end - 5 * PAGE + 8)
            memory.write(bytes([before[0] ^ 1]))
        assert start < end - 5 * PAGE
        assert office.finish()["lost_words"] == 1
        assert office.process.returncode == 1


def test_office_keeps_its_idle_area_in_a_file_where_it_is_told_to(tmp_path):
    file = tmp_path / "idle"
    with Workload("office", *SMALL_OFFICE, "--file", str(file)) as office:
        assert file.stat().st_size == 32 << 20
        assert status_bytes(office.pid, "RssFile") >= 32 << 20
        assert office.finish()["lost_words"] == 0


@pytest.mark.parametrize(("program", "options", "message"), [
    ("touch", ["--area", "a:12X"], "expected a size"),
    ("pulse", ["--hot", "120%"], "--hot at most 100%"),
    ("pulse", ["--period", "10"], "expected a time"),
    ("stairs", ["--steps", "3"], "unknown option --steps"),
    ("throughput", ["--hot"], "--hot wants a value"),
    ("office", ["--comeback", "1GiB"], "--comeback at most --idle"),
])
def test_a_wrong_option_is_refused_with_a_reason(program, options, message):
    done = subprocess.run([PROGRAMS / program, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
