# SPDX-License-Identifier: GPL-2.0-only
"""Weather: what happens to a daemon in weeks, within minutes. Processes come and go, files change, disks fill up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Self

from live.daemon import Daemon
from live.machine import undone_by
from workload import PROGRAMS, Workload

KEEPS_8_MIB = "import os, time; x = bytearray(8 << 20); time.sleep(0.7); os.execv('/bin/sleep', ['sleep', '0.7'])"
_CHURN = f"""
echo $$ > "$1/cgroup.procs"
while :; do
    /usr/bin/python3 -Sc "{KEEPS_8_MIB}" &
    for i in 1 2 3 4 5; do (:) & done
    n=$(( (n + 1) % 10 ))
    [ $n != 0 ] || gcc -O1 -c -o /dev/null "$2" &
    sleep 0.5
done
"""
_UNDO = 'echo 1 > "$1/cgroup.kill"; while [ -d "$1" ]; do rmdir "$1" 2>/dev/null || sleep 0.1; done'
_GROUPS = next(root for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
               if (root / "cgroup.controllers").exists())
_POLL_S = 0.01


@contextmanager
def group(name: str) -> Iterator[Path]:
    """A control group; at the end whoever is in it is killed, and it is removed, however we end."""
    path = _GROUPS / f"pagepulse-soak-{name}-{os.getpid()}"
    path.mkdir()
    with undone_by("/bin/sh", "-c", _UNDO, "undo", path):
        yield path


@contextmanager
def churn(place: Path) -> Iterator[None]:
    """Each half second: a program with 8 MiB that becomes another one and ends; short-lived forks; now and then gcc."""
    source = PROGRAMS.parent.parent / "tests" / "workloads" / "touch.c"
    with subprocess.Popen(["/bin/sh", "-c", _CHURN, "churn", place, source], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, start_new_session=True) as shell:
        try:
            yield
        finally:
            (place / "cgroup.kill").write_text("1")
            shell.kill()


class Visitor:
    """A control group that comes with a program in it, stays a while, and goes."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.visits = 0

    @property
    def place(self) -> Path:
        """Where it is when it is there."""
        return _GROUPS / f"pagepulse-soak-visitor-{os.getpid()}"

    def come_or_go(self) -> None:
        """Whichever it is the turn of."""
        self.visits += 1
        if self.visits % 2:
            place = self._stack.enter_context(group("visitor"))
            touch = self._stack.enter_context(Workload("touch", "--area", "a:16MiB"))
            (place / "cgroup.procs").write_text(str(touch.pid))
        else:
            self.close()

    def close(self) -> None:
        """Go."""
        self._stack.close()


class Reloads:
    """Changes of a configuration, one after the other and again from the first; every fourth one is refused.

    Args:
        daemon: Whose.
        other: The control group of a target that comes and goes: programs of our own alone.
    """

    def __init__(self, daemon: Daemon, other: Path) -> None:
        self.daemon, self._other = daemon, other
        self._extra = daemon.directory / "conf.d" / "extra.toml"
        self.done = self.refused = 0
        self._next = cycle((self._another_target, self._other_scheme, self._hang_up, self._bad_file,
                            self._no_other_target, self._first_scheme, self._hang_up, self._half_a_file))

    def change(self) -> None:
        """The next one."""
        self.done += 1
        next(self._next)()

    def take_back(self) -> None:
        """As it was at first."""
        self._extra.unlink(missing_ok=True)
        self._first_scheme()
        self._hang_up()

    def _another_target(self) -> None:
        self.daemon.write("conf.d/extra.toml", f'[targets.extra]\ncgroup = "{self._other}"\nmin_rss = "1MiB"\n')

    def _no_other_target(self) -> None:
        self._extra.unlink()

    def _other_scheme(self) -> None:
        self.daemon.write("cold.json", scheme("30 s"))

    def _first_scheme(self) -> None:
        self.daemon.write("cold.json", scheme("10 s"))

    def _hang_up(self) -> None:
        os.kill(self.daemon.pid, signal.SIGHUP)

    def _bad_file(self) -> None:
        self._refused("[targets.steady]\nbudgett = 1\n")

    def _half_a_file(self) -> None:
        self._refused('[targets.steady]\nexe = "pu')

    def _refused(self, text: str) -> None:
        bad = self.daemon.write("conf.d/bad.toml", text)
        os.kill(self.daemon.pid, signal.SIGHUP)
        self.refused += self.daemon.sees(lambda status: bool(status["reload"]["error"]))
        bad.unlink()


def scheme(age: str) -> str:
    """A scheme file that deactivates what is idle for so long: an action that needs no swap."""
    return json.dumps({"schemes": [{"name": "idle", "action": "cold", "access_pattern": {"age": {"min": age}},
                                    "guards": {"trial": {"enabled": False}}}]})


class FullDisk:
    """A file that takes all the space there is, as long as it is there, whatever others give back meanwhile."""

    def __init__(self, place: Path) -> None:
        self._path, self.is_full = place / "ballast", False

    def fill(self) -> None:
        """Take what is free now."""
        self.is_full = True
        with self._path.open("ab", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(1 << 16))
        with self._path.open("ab", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"x")

    def free(self) -> None:
        """Give it back."""
        self._path.unlink()
        self.is_full = False


class Killer:
    """Kills every child of a process as soon as it is seen, while it is told to."""

    def __init__(self, pid: int) -> None:
        self._pid, self.killed, self.is_angry, self._is_over = pid, 0, False, False
        self._thread = threading.Thread(target=self._work, name="killer", daemon=True)

    def _work(self) -> None:
        while not self._is_over:
            if self.is_angry:
                self._kill()
            time.sleep(_POLL_S)

    def _kill(self) -> None:
        for child in children_of(self._pid):
            with suppress(ProcessLookupError):  # it was faster
                os.kill(child, signal.SIGKILL)
                self.killed += 1
                time.sleep(_POLL_S)  # the daemon has to take note; a zombie cannot be killed again

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._is_over = True
        self._thread.join()


def children_of(pid: int) -> list[int]:
    """Its children that live."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return [child for child in found if _lives(child)]


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
