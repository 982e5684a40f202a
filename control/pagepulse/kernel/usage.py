# SPDX-License-Identifier: GPL-2.0-only
"""Usage: what we ourselves cost, and waiting without missing what happens."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from types import FrameType


def cpu_ns() -> int:
    """CPU time of this process, user and system. The BPF programs run in our system calls: it is all there."""
    return time.process_time_ns()


def rss_peak_bytes() -> int:
    """Largest resident size of this process so far. Not ru_maxrss, which remembers who forked us."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def end_at_interrupt() -> None:
    """Let SIGINT end this process at once, as SIGTERM does, until a Waiter takes over.

    The exception that Python raises instead is lost where it meets a destructor, and we would run on.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Waiter:
    """Sleeps until a time, a signal (SIGINT, SIGTERM, SIGHUP), or the target's end, whichever comes first.

    A second SIGINT ends the process at once, as if nobody handled it.

    Args:
        pidfd: The target; None where there are many, and the end of one is not the end.
    """

    def __init__(self, pidfd: int | None) -> None:
        self._pidfd = pidfd
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.signal: int | None = None
        self.target_ended = False
        self._old = {number: signal.signal(number, self._on_signal)
                     for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self.signal = number
        os.write(self._write_fd, b"!")

    @property
    def is_over(self) -> bool:
        """Whether a signal came or the target ended."""
        return self.signal is not None or self.target_ended

    def wait_until(self, deadline_ns: int, wake_fd: int | None = None) -> bool:
        """Sleep until CLOCK_MONOTONIC reaches the deadline.

        Args:
            deadline_ns: When.
            wake_fd: Wake up as soon as this can be read, too.

        Returns:
            Whether to go on: neither a signal came nor the target ended.
        """
        remaining_s = (deadline_ns - time.monotonic_ns()) / 1e9
        poll = select.poll()  # unlike select it knows descriptors above 1023
        for fd in (self._pidfd, self._read_fd, wake_fd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(max(remaining_s, 0) * 1e3)]
        if self._pidfd in ready:
            self.target_ended = True
        return not self.is_over

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._read_fd)
        os.close(self._write_fd)
