# SPDX-License-Identifier: GPL-2.0-only
"""Process: one process by pidfd, and what /proc says of it."""

from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path
from typing import NamedTuple

from pagepulse.errors import PagepulseError, TargetGone, UsageError
from pagepulse.kernel.maps import printable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h
_PAGE = os.sysconf("SC_PAGESIZE")
_PF_KTHREAD = 0x00200000  # include/linux/sched.h


class Stat(NamedTuple):
    """Some of /proc/PID/stat: Documentation/filesystems/proc.rst, table 1-4."""

    state: str
    start_ticks: int
    """When it started, in clock ticks since boot: with the pid, it names a process for good."""
    minor_faults: int
    major_faults: int
    cpu_ns: int
    is_kernel_thread: bool


class Process:
    """A process that stays the same process: its pidfd keeps the pid from being reused under us.

    Args:
        pid: The process.
        root: Where /proc is; tests give another.

    Raises:
        UsageError: There is no such process, or it is a kernel thread.
    """

    def __init__(self, pid: int, root: Path = Path("/proc")) -> None:
        if not 0 < pid < 1 << 31:
            raise UsageError(f"{pid} is no process id", hint="a process id is a number above 0: see `pgrep NAME`")
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise _no_such_process(pid, error, root) from None
        self.pid = pid
        self._dir = root / str(pid)
        try:
            self.name = printable((self._dir / "comm").read_text(errors="replace").strip())
            stat = self.stat()
            self.start_ticks = stat.start_ticks
            self._statm_fd = os.open(self._dir / "statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            os.close(self.pidfd)
            raise PagepulseError(f"process {pid} cannot be examined", why=str(error),
                                 hint="run as root, with CAP_SYS_PTRACE") from None
        if stat.is_kernel_thread:
            self.close()
            raise UsageError(f"process {pid} ({self.name}) is a kernel thread", why="it has no memory of its own",
                             hint="give the id of an ordinary process")

    def command_line(self) -> list[str]:
        """Program and arguments; empty where the process hides them or has exited."""
        try:
            # A process that writes a title of its own (redis, postgres) leaves a tail of zeroes.
            words = (self._dir / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            return []
        return [word.decode(errors="replace") for word in words]

    def maps_text(self) -> str:
        """/proc/PID/maps.

        Raises:
            TargetGone: The process has exited.
        """
        try:
            return (self._dir / "maps").read_bytes().decode(errors="replace")  # as text, \r would become \n
        except OSError:
            raise TargetGone(f"process {self.pid} has exited") from None

    def rss_bytes(self) -> int:
        """Resident memory.

        Raises:
            TargetGone: The process has exited.
        """
        try:
            return int(os.pread(self._statm_fd, 256, 0).split()[1]) * _PAGE
        except (OSError, IndexError):
            raise TargetGone(f"process {self.pid} has exited") from None

    def swap_bytes(self) -> int:
        """Memory that is swapped out; 0 once the process has exited."""
        try:
            lines = (self._dir / "status").read_bytes().decode(errors="replace").split("\n")
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSwap:")), 0)

    def cgroups(self) -> tuple[str, ...]:
        """Its control group in each hierarchy that has a say on memory: version 2's, and version 1's of memory.

        Raises:
            TargetGone: The process has exited.
        """
        try:
            lines = (self._dir / "cgroup").read_bytes().decode(errors="replace").split("\n")
        except OSError:
            raise TargetGone(f"process {self.pid} has exited") from None
        fields = (line.split(":", 2) for line in lines if line.count(":") >= 2)
        return tuple(path for _, controllers, path in fields
                     if not controllers or "memory" in controllers.split(","))

    def stat(self) -> Stat:
        """State, faults and CPU time.

        Raises:
            TargetGone: The process has exited.
        """
        try:
            fields = (self._dir / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            raise TargetGone(f"process {self.pid} has exited") from None
        ticks = int(fields[11]) + int(fields[12])
        return Stat(fields[0], int(fields[19]), int(fields[7]), int(fields[9]), ticks * (1_000_000_000 // _TICKS_PER_S),
                    bool(int(fields[6]) & _PF_KTHREAD))

    def cpu_clock_ns(self) -> int:
        """CPU time of all its threads, to the nanosecond (clock_getcpuclockid(3)).

        Raises:
            TargetGone: The process has exited.
        """
        try:
            return time.clock_gettime_ns(~self.pid << 3 | _CPUCLOCK_SCHED)
        except OSError:
            raise TargetGone(f"process {self.pid} has exited") from None

    def has_exited(self) -> bool:
        """Whether the process has ended, even if nobody has waited for it yet."""
        return self.ends_within(0)

    def ends_within(self, patience_s: float) -> bool:
        """As `has_exited`, but wait so long for it."""
        poll = select.poll()  # unlike select it knows descriptors above 1023
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(patience_s * 1e3))

    def close(self) -> None:
        """Let go of the process; it goes on."""
        os.close(self.pidfd)
        if hasattr(self, "_statm_fd"):
            os.close(self._statm_fd)


def _no_such_process(pid: int, error: OSError, root: Path) -> UsageError:
    # Of a thread's id older kernels say EINVAL, newer ones ENOENT.
    if error.errno in (errno.EINVAL, errno.ENOENT) and (root / str(pid)).exists():
        return UsageError(f"{pid} is a thread, not a process", why="only whole processes can be watched",
                          hint=f"see Tgid in /proc/{pid}/status")
    return UsageError(f"there is no process {pid}", why=os.strerror(error.errno or 0), hint="see `pgrep NAME`")
