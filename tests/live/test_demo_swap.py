# SPDX-License-Identifier: GPL-2.0-only
"""The demo's swap is gone after every way out, also after those on which no Python code runs."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demo import swap as demo_swap
from demo.swap import temporary_swap
from live.machine import wait_until
from pagepulse.kernel.syscalls import MADV_PAGEOUT, process_madvise
from workload import Workload, has_ended, status_bytes

pytestmark = pytest.mark.live

TESTS = Path(__file__).parents[1]
SIZE = 64 << 20
HOLDER = f"""
import sys, time
from demo import swap
swap._active_swap = lambda free_bytes: None
with swap.temporary_swap({SIZE}) as made:
    print(made.device, made.why, flush=True)
    {{then}}
"""


@pytest.fixture(name="no_swap")
def _no_swap(monkeypatch):
    """As on a machine that has none of its own."""
    monkeypatch.setattr(demo_swap, "_active_swap", lambda free_bytes: None)


def is_active(device: str) -> bool:
    return any(line.split()[0] == device for line in Path("/proc/swaps").read_text().splitlines())


def is_there(device: str) -> bool:
    return Path("/sys/block", Path(device).name).exists() or is_active(device)


def wait_until_gone(device: str) -> bool:
    return wait_until(lambda: not is_there(device))


def page_out(pid: int, start: int, end: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        process_madvise(pidfd, np.array([[start, end - start]], np.uint64), MADV_PAGEOUT)
    finally:
        os.close(pidfd)


def start_holder(then: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", HOLDER.format(then=then)], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)})


def test_swap_is_there_inside_the_block_and_gone_after_it(no_swap):
    with temporary_swap(SIZE) as swap:
        assert swap.is_ours
        assert swap.device is not None
        assert is_active(swap.device)
    assert not is_there(swap.device)


def test_swap_holds_what_a_program_does_not_use_and_is_gone_while_the_program_lives_on(no_swap):
    with Workload("touch", "--area", f"a:{1009 * 4096}") as touch:
        with temporary_swap(SIZE) as swap:
            page_out(touch.pid, *touch.area("a"))
            assert status_bytes(touch.pid, "VmSwap") >= 1009 * 4096
        assert swap.device is not None
        assert not is_there(swap.device)
        assert status_bytes(touch.pid, "VmSwap") == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_swap_is_gone_after_the_holder_is_killed_by(number):
    with start_holder("time.sleep(60)") as holder:
        assert holder.stdout is not None
        device = holder.stdout.readline().split()[0]
        assert is_active(device)
        holder.send_signal(number)
    assert wait_until_gone(device)


@pytest.mark.parametrize("then", ["raise RuntimeError", "sys.exit(3)", "import os; os._exit(3)"])
def test_swap_is_gone_after_the_holder_leaves_by(then):
    with start_holder(then) as holder:
        assert holder.stdout is not None
        device = holder.stdout.readline().split()[0]
    assert device.startswith("/dev/zram")
    assert wait_until_gone(device)


def test_a_swap_that_cannot_be_made_gives_a_reason_instead(no_swap):
    with temporary_swap(-1) as swap:
        assert swap.device is None
        assert "Invalid argument" in swap.why


def test_a_demo_that_is_killed_leaves_neither_its_swap_nor_its_workload():
    with subprocess.Popen([sys.executable, "-m", "demo.demo"], stdout=subprocess.PIPE, text=True, cwd=TESTS) as demo:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if "tells us what it does" in line:
                break
        demo.kill()
    pid = re.search(r"runs as process (\d+)", said)
    device = re.search(r"made one of .* on (/dev/zram\d+)", said)
    assert pid is not None
    assert wait_until(lambda: has_ended(int(pid[1])))
    assert device is None or wait_until_gone(device[1])  # None: the machine has swap of its own
