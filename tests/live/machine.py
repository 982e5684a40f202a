# SPDX-License-Identifier: GPL-2.0-only
"""Changes to the machine that a test needs, undone on every way out, SIGKILL of the test included."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.swap import CONTROL
from pace import EMULATED, patience

_GUARDIAN = "trap '' INT TERM HUP; read -r _; exec \"$@\""
_LOCK = Path("/run/pagepulse-live-tests.lock")
_held: list[int] = []


class MachineError(Exception):
    """The machine does not give what the test needs."""


@contextmanager
def alone() -> Iterator[None]:
    """No other live tests on this machine meanwhile: they would change each other's swap and settings.

    Guardians hold the lock, too: until everything is undone, whatever ended us.
    """
    fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run of the live tests to end", file=sys.__stderr__)
            fcntl.flock(fd, fcntl.LOCK_EX)
        _held.append(fd)
        yield
    finally:
        _held.clear()
        os.close(fd)


@contextmanager
def undone_by(*command: str | Path) -> Iterator[None]:
    """Run this command at the end. A process of its own waits at a pipe, which closes however we end."""
    with subprocess.Popen(["/bin/sh", "-c", _GUARDIAN, "guardian", *command], stdin=subprocess.PIPE,
                          start_new_session=True, pass_fds=_held) as guardian:
        yield  # leaving the block closes the pipe and waits
    if guardian.returncode:
        raise MachineError(f"{command} ended with status {guardian.returncode}: the machine is not as it was")


@contextmanager
def setting(path: Path, value: int | str) -> Iterator[None]:
    """Another value in a file of /proc/sys or /sys for a while; of several words, the one in brackets is the value."""
    before = path.read_text().strip()
    before = before.partition("[")[2].partition("]")[0] or before
    with undone_by("/bin/sh", "-c", 'echo "$1" > "$2"', "setting", before, path):
        path.write_text(str(value))
        yield


@contextmanager
def huge_page_pool(pages: int, size_kib: int = 2048) -> Iterator[None]:
    """So many pages in the hugetlb pool that nobody uses yet: more, unless there are enough.

    Raises:
        MachineError: The kernel could not find them.
    """
    path = Path(f"/sys/kernel/mm/hugepages/hugepages-{size_kib}kB/nr_hugepages")
    free = int(path.with_name("free_hugepages").read_text())
    wanted = int(path.read_text()) + max(0, pages - free)
    with setting(path, wanted):
        if int(path.read_text()) < wanted:
            raise MachineError(f"the kernel reserved {path.read_text().strip()} of {wanted} huge pages")
        yield


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own, of this size."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "pagepulse-test", directory], check=True)
    with undone_by("umount", directory):
        yield directory


@contextmanager
def on_disk(directory: Path) -> Iterator[Path]:
    """A directory whose files come from a disk: this one, or in a virtual machine, where it is memory, one below."""
    if not EMULATED:
        yield directory
        return
    place = directory / "disk"
    place.mkdir()
    if not CONTROL.exists():
        subprocess.run(["modprobe", "zram"], check=True)
    number = (CONTROL / "hot_add").read_text().strip()
    with undone_by("/bin/sh", "-c", f"umount {place}; echo {number} > {CONTROL}/hot_remove"):
        Path(f"/sys/block/zram{number}/disksize").write_text(str(64 << 20))
        subprocess.run(["mkfs.ext4", "-q", f"/dev/zram{number}"], check=True)
        subprocess.run(["mount", f"/dev/zram{number}", place], check=True)
        yield place


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + patience(timeout_s)
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
