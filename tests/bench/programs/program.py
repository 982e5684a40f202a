# SPDX-License-Identifier: GPL-2.0-only
"""Program: a real program under load, as Debian packages it, whose work can be counted at any time.

A program has a target, the process that is watched, and a load, which makes it work and says how much was done. Both
are bound to one processor, so that what else runs finds room on the others, and neither outlives the bench.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, NamedTuple, Self

from bench.paired import rate_between
from bench.programs.slices import percentile_us
from workload import ROOT, cpu_ns, now_ns

LOADS = ROOT / "tests" / "bench" / "programs"
PYTHON = "/usr/bin/python3"
"""Debian's own, with Debian's numpy, scikit-learn and sqlite: what users of the package run."""


class ProgramError(Exception):
    """A program could not be started, or ended before it should. The message holds the end of its log."""


class Measured(NamedTuple):
    """What a program did in some time."""

    rate: float
    """Operations a second."""
    per_cpu_s: float
    """Operations in a second of processor time, the load's included: other programs disturb it less."""
    p99_us: float | None
    """99 of 100 requests took at most so long; None: there are no requests."""


class Program:
    """Starts on entering, ends on leaving, with nothing left behind.

    Attributes:
        name: How tables and the command line call it.
        about: One line: what it is, and what its load does.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    user: ClassVar[str] = "nobody"

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.place = Path()
        """A directory of its own, while it runs."""
        self.pid = 0
        """The process to watch, from `prepare` on."""

    def start(self) -> None:
        """Start what runs all the time: server, load."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Have a target of which nothing was watched yet. A program that runs all the time has one already."""

    def measure(self, seconds: float) -> Measured:
        """What it does from now on: for so long, or until its work is done."""
        raise NotImplementedError

    def spawn(self, *command: str | Path, end_signal: str = "KILL", stdin: int = subprocess.DEVNULL,
              environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process of the program; this signal ends it, whatever ends the bench."""
        with (self.place / "log").open("ab") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", end_signal, "taskset", "-c", "0", *command], cwd=self.place,
                user=self.user, group=self.group, extra_groups=[], stdin=stdin, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.place), **(environment or {})})
        self._processes.append(process)
        self._stack.callback(_end, process, end_signal)
        return process

    @property
    def group(self) -> str:
        """Of the user."""
        return "nogroup" if self.user == "nobody" else self.user

    def running(self) -> list[int]:
        """Its processes that run now, by pid: those that were spawned, and the target."""
        return sorted({process.pid for process in self._processes if process.poll() is None} | {self.pid} - {0})

    def busy_ns(self) -> int:
        """Processor time of those processes, and of all children that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return round((ended.ru_utime + ended.ru_stime) * 1e9) + sum(cpu_ns(pid) for pid in self.running())

    def own(self, path: Path) -> Path:
        """Give a file or directory to the program's user."""
        shutil.chown(path, self.user, self.group)
        return path

    def await_(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Wait until it is true.

        Raises:
            ProgramError: It does not come true in time.
        """
        deadline_ns = now_ns() + round(seconds * 1e9)
        while not condition():
            if now_ns() > deadline_ns:
                log = (self.place / "log").read_text(errors="replace")[-600:].strip()
                raise ProgramError(f"{self.name}: {what} did not come within {seconds:g} s{log and ': '}{log}")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        try:
            self.place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pagepulse-bench-")))
            self.own(self.place)
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.close()


class Job(Program):
    """A program that does one piece of work and ends: a new process for each measurement."""

    OPERATIONS: ClassVar[int]

    def begin(self) -> subprocess.Popen[bytes]:
        """Let the target that stands ready do its work; it may still be at it."""
        raise NotImplementedError

    def start(self) -> None:
        """Nothing runs all the time."""

    def measure(self, seconds: float) -> Measured:
        """Until it is done."""
        begun_ns, before = now_ns(), resource.getrusage(resource.RUSAGE_CHILDREN)
        process = self.begin()
        if process.wait():
            raise ProgramError(f"{self.name} ended with status {process.returncode}")
        ended_ns, after = now_ns(), resource.getrusage(resource.RUSAGE_CHILDREN)
        busy_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return Measured(self.OPERATIONS * 1e9 / (ended_ns - begun_ns), self.OPERATIONS / busy_s, None)


class Service(Program):
    """A program that runs all the time, with a load of ours that writes what was done to `slices`, line by line."""

    def load(self, script: str, *arguments: str | Path, seconds: float = 120,
             environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a load of tests/bench/programs, and wait until it works."""
        # The load imports its neighbours; the checkout may lie where the program's user must not look.
        for path in LOADS.glob("*.py"):
            shutil.copy(path, self.place)
        process = self.spawn(PYTHON, script, "slices", *map(str, arguments),
                             environment={"OPENBLAS_NUM_THREADS": "1", **(environment or {})})
        self.await_(lambda: process.poll() is not None or self._has_slices(), "the first slice", seconds)
        self.await_(lambda: process.poll() is None, "a load that runs", 0)
        return process

    def _has_slices(self) -> bool:
        path = self.place / "slices"
        return path.exists() and path.stat().st_size > 0

    def measure(self, seconds: float) -> Measured:
        """What was done in so many seconds from now on."""
        begun_ns, busy_before_ns = now_ns(), self.busy_ns()
        time.sleep(seconds)
        ended_ns, busy_ns = now_ns(), self.busy_ns() - busy_before_ns
        lines = (self.place / "slices").read_text().splitlines(keepends=True)
        slices = [json.loads(line) for line in lines if line.endswith("\n")]
        inside = [part for part in slices if begun_ns <= part["start_ns"] and part["end_ns"] <= ended_ns]
        if not inside:
            raise ProgramError(f"{self.name}: its load did nothing in {seconds:g} s")
        rate = rate_between(inside, begun_ns, ended_ns)
        return Measured(rate, rate * (ended_ns - begun_ns) / busy_ns, percentile_us(inside, 0.99))


def _end(process: subprocess.Popen[bytes], end_signal: str) -> None:
    if process.poll() is None:
        process.kill() if end_signal == "KILL" else process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
