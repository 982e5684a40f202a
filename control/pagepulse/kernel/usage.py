# SPDX-License-Identifier: GPL-2.0-only
"""Usage: what we ourselves cost, and waiting without missing what happens."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, Self


def cpu_ns() -> int:
    """CPU time of this process, user and system. The BPF programs run in our system calls: it is all there."""
    return time.process_time_ns()


def thread_cpu_ns() -> int:
    """CPU time of this thread, user and system."""
    return time.thread_time_ns()


def rss_bytes() -> int:
    """Resident size of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def rss_peak_bytes() -> int:
    """Largest resident size of this process so far. Not ru_maxrss, which remembers who forked us."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def end_at_interrupt() -> None:
    """Let SIGINT end this process at once, as SIGTERM does, until a Waiter takes over.

    The exception that Python raises instead is lost where it meets a destructor, and we would run on.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Sleeper(Protocol):
    """What a loop sleeps on."""

    @property
    def is_over(self) -> bool:
        """Whether it is to end."""

    def wait_until(self, deadline_ns: int) -> bool:
        """Sleep until CLOCK_MONOTONIC reaches the deadline; whether to go on."""


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


class Wakeups:
    """Sleeps as a Waiter does, for a daemon: SIGHUP asks for something, and other threads may wake it.

    SIGTERM and SIGINT end the work; a second SIGINT ends the process at once.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_over = False
        self._hung_up = False
        self._old = {number: signal.signal(number, self._on_signal)
                     for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            if self.is_over and number == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGINT)
            self.is_over = True
        self.wake()

    def wake(self) -> None:
        """End the sleep, or the next one. Any thread may."""
        with suppress(BlockingIOError):  # it is awake as it is
            os.write(self._write_fd, b"!")

    def take_hangup(self) -> bool:
        """Whether SIGHUP came since this was last asked."""
        hung_up, self._hung_up = self._hung_up, False
        return hung_up

    def wait_until(self, deadline_ns: int, fds: Iterable[int]) -> frozenset[int]:
        """Sleep until CLOCK_MONOTONIC reaches the deadline, somebody wakes us, or one of these can be read.

        Returns:
            Those that can be read.
        """
        poll = select.poll()
        for fd in (self._read_fd, *fds):
            poll.register(fd, select.POLLIN)
        remaining_ms = (deadline_ns - time.monotonic_ns()) / 1e6
        ready = frozenset(fd for fd, _ in poll.poll(max(remaining_ms, 0)))
        if self._read_fd in ready:
            with suppress(BlockingIOError):
                os.read(self._read_fd, 4096)
        return ready - {self._read_fd}

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._read_fd)
        os.close(self._write_fd)


class OwnTime:
    """CPU time of this thread while a piece of work goes on, and what else is put on its account.

    A context manager that can be entered again and again.
    """

    def __init__(self) -> None:
        self._booked_ns = 0
        self._entered_ns: int | None = None

    def __enter__(self) -> Self:
        self._entered_ns = time.thread_time_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._booked_ns, self._entered_ns = self(), None

    def __call__(self) -> int:
        """Nanoseconds so far."""
        running_ns = 0 if self._entered_ns is None else time.thread_time_ns() - self._entered_ns
        return self._booked_ns + running_ns

    def add(self, spent_ns: int) -> None:
        """Book CPU time that was spent elsewhere for this work, too."""
        self._booked_ns += spent_ns
