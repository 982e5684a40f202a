# SPDX-License-Identifier: GPL-2.0-only
"""Workload: starts a program of tests/workloads, hears what it says about itself, and ends it.

with Workload("touch", "--area", "a:13MiB") as touch:
    touch.command("touch a 0 7")
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pace import patience

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "build" / "workloads"

Event = dict[str, Any]


class WorkloadError(Exception):
    """The program could not be started, refused a command, or ended before it should."""


class Workload:
    """A running workload. Entering it waits until its memory is populated; leaving it ends it.

    Args:
        program: Name of a file in tests/workloads, without `.c`.
        *options: Its command line.
        ready_s: How long it may take to populate its memory.

    Raises:
        WorkloadError: It is not compiled, or does not start.
    """

    def __init__(self, program: str, *options: str, ready_s: float = 120) -> None:
        path = PROGRAMS / program
        if not path.exists():
            raise WorkloadError(f"{path} is not there: run `make workloads`")
        self.name = program
        self.process = subprocess.Popen([path, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self._events: list[Event] = []
        self._arrived = threading.Condition()
        self._is_silent = False
        self._listener = threading.Thread(target=self._listen, name=f"{program}-listener", daemon=True)
        self._listener.start()
        try:
            self.ready = self.wait_for("ready", timeout_s=ready_s)
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        """Its pipe must never fill up, or the workload would stand still."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._arrived:
                self._events.append(json.loads(line))
                self._arrived.notify_all()
        with self._arrived:
            self._is_silent = True
            self._arrived.notify_all()

    def events(self, kind: str) -> list[Event]:
        """What it said so far, of one kind."""
        with self._arrived:
            return [event for event in self._events if event["event"] == kind]

    def wait_for(self, kind: str, *, number: int = 1, timeout_s: float = 30) -> Event:
        """The first event of this kind, or the `number`th, as soon as it is there.

        Raises:
            WorkloadError: It ended, or said nothing of the kind in time.
        """
        def found() -> Event | None:
            of_kind = (event for event in self._events if event["event"] == kind)
            return next(islice(of_kind, number - 1, None), None)
        return self._wait(found, kind, timeout_s)

    def _wait(self, found: Callable[[], Event | None], words: str, timeout_s: float) -> Event:
        with self._arrived:
            self._arrived.wait_for(lambda: found() is not None or self._is_silent, patience(timeout_s))
            event = found()
        if event is None:
            raise WorkloadError(f"{self.name} {'ended' if self._is_silent else 'was silent'}; awaited: {words}")
        return event

    def command(self, line: str, *, timeout_s: float = 30) -> Event:
        """Send one command, and return the answer.

        Raises:
            WorkloadError: It refused, with its reason, or is gone.
        """
        assert self.process.stdin is not None
        with self._arrived:
            said = len(self._events)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkloadError(f"{self.name} ended before {line!r}") from None
        answer = self._wait(lambda: next(iter(self._events[said:]), None), line, timeout_s)
        if answer["event"] == "error":
            raise WorkloadError(f"{self.name}: {line!r}: {answer['message']}")
        return answer

    def area(self, name: str) -> tuple[int, int]:
        """Start and end of an area that it mapped at its start.

        Raises:
            KeyError: There is none of that name.
        """
        spans: dict[str, tuple[int, int]] = {area["name"]: (area["start"], area["end"])
                                             for area in self.ready["areas"]}
        return spans[name]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def finish(self, *, timeout_s: float = 60) -> Event:
        """Ask it to end in good order, and return its closing account.

        Raises:
            WorkloadError: It does not end, or without an account.
        """
        self.process.send_signal(signal.SIGTERM)
        account = self.wait_for("end", timeout_s=timeout_s)
        self.process.wait(patience(timeout_s))
        return account

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def huge_bytes(pid: int) -> int:
    """Of its memory without a file, what lies in huge pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return int(dict(line.split(":") for line in lines)["AnonHugePages"].split()[0]) * 1024


def resident_bytes(pid: int) -> int:
    """VmRSS of a process. Anonymous, file and shared memory together, as the kernel counts them."""
    return status_bytes(pid, "VmRSS")


def status_bytes(pid: int, key: str) -> int:
    """A size in /proc/PID/status, such as VmHWM or VmSwap.

    Raises:
        KeyError: It has no such line.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise KeyError(key)


def major_faults(pid: int) -> int:
    """Pages that a process had to wait for: they came back from swap, or from a file."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[9])


def cpu_ns(pid: int) -> int:
    """User and system time of all threads of a process, to the nanosecond; not of its children."""
    return time.clock_gettime_ns(~pid << 3 | 2)  # as clock_getcpuclockid(3) makes it


def has_ended(pid: int) -> bool:
    """Also if nobody waits for it: not every machine's first process does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def now_ns() -> int:
    """CLOCK_MONOTONIC, as the workloads and the recordings use it."""
    return time.monotonic_ns()
