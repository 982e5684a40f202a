# SPDX-License-Identifier: GPL-2.0-only
"""Process: what /proc says, and what it cannot say any more."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pagepulse.errors import PagepulseError, TargetGone, UsageError
from pagepulse.kernel.maps import parse_maps
from pagepulse.kernel.process import Process

PAGE = os.sysconf("SC_PAGESIZE")
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
FILES = {
    "comm": "a (strange) name\n",
    "maps": "7f0000000000-7f0000100000 rw-p 00000000 00:00 0\n",
    # Fields 3 on: state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime ...
    "stat": "1 (a (strange) name) S 0 1 1 0 -1 4194560 123 9 45 9 70 30 0 0 20 0 1 0 98765 1000 200\n",
    "statm": "1000 200 50 1 0 100 0\n",
    "status": "Name:\tx\nVmRSS:\t 800 kB\nVmSwap:\t 12 kB\n",
    "cgroup": "4:memory:/batch/a:b\n2:cpu,cpuacct:/fast\n1:name=systemd:/\n0::/batch.slice\n",
    "cmdline": "/usr/bin/x\0--flag\0\0\0",
}


@pytest.fixture(name="proc")
def _proc(tmp_path: Path) -> Path:
    """A /proc that knows of our own pid what FILES says."""
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return tmp_path


@pytest.fixture(name="process")
def _process(proc):
    process = Process(os.getpid(), proc)
    yield process
    process.close()


def file(proc: Path, name: str) -> Path:
    return proc / str(os.getpid()) / name


def test_a_process_knows_its_name_start_and_command_line(process):
    assert process.name == "a (strange) name"
    assert process.start_ticks == 98765
    assert process.command_line() == ["/usr/bin/x", "--flag"]


def test_state_faults_and_cpu_time_are_read_behind_the_name_however_it_looks(process):
    stat = process.stat()
    assert (stat.state, stat.minor_faults, stat.major_faults) == ("S", 123, 45)
    assert stat.cpu_ns == 100 * TICK_NS


def test_the_cpu_clock_of_a_process_runs_while_it_works():
    own = Process(os.getpid())
    try:
        before_ns = own.cpu_clock_ns()
        sum(range(200_000))
        assert own.cpu_clock_ns() > before_ns
    finally:
        own.close()


def test_a_name_of_any_bytes_is_shown_as_far_as_it_can_be(proc):
    file(proc, "comm").write_bytes(b"\xff\x1b[2Jx\n")
    file(proc, "stat").write_bytes(FILES["stat"].encode().replace(b"strange", b"\xff\x1b[2J\r)"))
    file(proc, "status").write_bytes(b"Name:\t\xff\x0cVmSwap: 1 kB\nVmSwap:\t12 kB\n")
    process = Process(os.getpid(), proc)
    process.close()
    assert process.swap_bytes() == 12 * 1024
    assert process.name == "\ufffd?[2Jx"
    assert process.start_ticks == 98765


def test_sizes_are_bytes(process):
    assert process.rss_bytes() == 200 * PAGE
    assert process.swap_bytes() == 12 * 1024


def test_what_is_not_there_any_more_is_no_traceback(proc, process):
    for name in FILES:
        file(proc, name).unlink()
    assert process.command_line() == []
    assert process.swap_bytes() == 0
    for ask in (process.maps_text, process.stat):
        with pytest.raises(TargetGone, match="has exited"):
            ask()


def test_memory_that_cannot_be_told_is_not_zero(proc, process):
    file(proc, "statm").write_text("")
    with pytest.raises(TargetGone):
        process.rss_bytes()


def make_kernel_thread(proc):
    stat = file(proc, "stat")
    stat.write_text(stat.read_text().replace("4194560", str(4194560 | 0x200000)))


def test_a_kernel_thread_is_refused(proc):
    make_kernel_thread(proc)
    with pytest.raises(UsageError, match="is a kernel thread"):
        Process(os.getpid(), proc)


def test_a_process_that_is_just_exiting_and_has_no_memory_any_more_is_no_kernel_thread(proc):
    file(proc, "maps").write_text("")
    process = Process(os.getpid(), proc)
    assert process.maps_text() == ""
    process.close()


def test_a_process_that_proc_does_not_show_cannot_be_examined(proc):
    file(proc, "statm").unlink()
    with pytest.raises(PagepulseError, match="cannot be examined"):
        Process(os.getpid(), proc)


@pytest.mark.parametrize("pid", [0, -1, 1 << 31, 1 << 40])
def test_a_number_that_can_be_no_process_is_wrong_usage(pid):
    with pytest.raises(UsageError, match="is no process id"):
        Process(pid)


def test_a_process_that_is_not_there_is_wrong_usage():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(UsageError, match=f"there is no process {child.pid}"):
        Process(child.pid)


def test_a_thread_is_told_from_a_process():
    go_on, ids = threading.Event(), []
    thread = threading.Thread(target=lambda: (ids.append(threading.get_native_id()), go_on.wait()))
    thread.start()
    try:
        while not ids:
            pass
        with pytest.raises(UsageError, match="is a thread, not a process"):
            Process(ids[0])
    finally:
        go_on.set()
        thread.join()


def test_no_descriptor_is_left_behind_whatever_happens(proc):
    before = len([*Path("/proc/self/fd").iterdir()])
    Process(os.getpid(), proc).close()
    make_kernel_thread(proc)
    for _ in range(3):
        with pytest.raises(UsageError):
            Process(os.getpid(), proc)
    file(proc, "comm").unlink()
    with pytest.raises(PagepulseError):
        Process(os.getpid(), proc)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_an_exit_is_seen_before_anybody_waits_for_it():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process(child.pid)
    try:
        assert not process.has_exited()
        child.communicate(b"\n")
        assert process.has_exited()
        assert process.ends_within(0)
        with pytest.raises(TargetGone):
            process.rss_bytes()
    finally:
        process.close()


@pytest.mark.parametrize("name", ["a\rb", "line\x0bfeed\x0c", "\x1b[31m\u2028x", "new\nline"])
def test_our_own_mapping_of_a_strangely_named_file_is_one_mapping(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(PAGE))
    process = Process(os.getpid())
    try:
        before = parse_maps(process.maps_text())
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), PAGE, prot=mmap.PROT_READ):
            after = parse_maps(process.maps_text())
    finally:
        process.close()
    [ours] = [m for m in after if m.name.startswith(str(tmp_path))]
    assert ours.end - ours.start == PAGE
    assert not ours.anonymous
    assert ours.name.isprintable()
    assert [m for m in after if m.start not in {b.start for b in before}] == [ours]


def test_its_control_groups_are_those_that_have_a_say_on_memory(proc):
    with closing(Process(os.getpid(), proc)) as process:
        assert process.cgroups() == ("/batch/a:b", "/batch.slice")
        (proc / str(os.getpid()) / "cgroup").unlink()
        with pytest.raises(TargetGone):
            process.cgroups()
