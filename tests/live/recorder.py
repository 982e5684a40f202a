# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse`, started as a user starts it, and what it left behind."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from live.machine import wait_until
from pace import budgeted, patience
from pagepulse.capture import Recording
from pagepulse.errors import PagepulseError
from pagepulse.model.snapshot import Snapshot

_SYS_BPF, _BPF_PROG_GET_FD_BY_ID, _BPF_MAP_GET_FD_BY_ID = 321, 13, 14


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def line(*arguments: str | Path) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "pagepulse", *budgeted([str(argument) for argument in arguments])]


def pagepulse(*arguments: str | Path, prefix: Sequence[str] = (), timeout_s: float = 90,
              environment: Mapping[str, str] | None = None) -> Outcome:
    """Run it to its end. No traceback ever reaches a user, whatever happens."""
    done = subprocess.run([*prefix, *line(*arguments)], capture_output=True, text=True, check=False,
                          timeout=patience(timeout_s), stdin=subprocess.DEVNULL,
                          env={**os.environ, **(environment or {})})
    assert "Traceback" not in done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_refused(outcome: Outcome, status: int, *words: str) -> None:
    """With a message for people: what, and at least one of why and next."""
    assert outcome.status == status
    assert outcome.out == ""
    assert outcome.err.startswith("pagepulse: ")
    assert "\n  why:  " in outcome.err or "\n  next: " in outcome.err or status == 2
    for word in words:
        assert word in outcome.err


def snapshots(path: Path) -> list[Snapshot]:
    """The finished snapshots of a recording, also of one that is still being written; none if there is no recording."""
    try:
        with Recording.open(path) as recording:
            return list(recording.snapshots())
    except (PagepulseError, FileNotFoundError):
        return []


class Recorder:
    """A `pagepulse record` that runs. Leaving it ends it.

    Args:
        *arguments: Those of `record`, without -o.
        output: The recording.
    """

    def __init__(self, *arguments: str | Path, output: Path) -> None:
        self.output = output
        # In a group of its own, as a shell with job control does it.
        self.process = subprocess.Popen(line("record", "-o", output, *arguments), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
        self.pid = self.process.pid

    def wait_for_snapshots(self, count: int = 3) -> None:
        """Until so many are in the file."""
        assert wait_until(lambda: len(snapshots(self.output)) >= count or self.process.poll() is not None,
                          timeout_s=60)
        assert self.process.poll() is None, self.process.communicate()[1]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, timeout_s: float = 30) -> Outcome:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=patience(timeout_s))
        assert "Traceback" not in err
        return Outcome(self.process.returncode, out, err)

    def bpf_ids(self) -> list[tuple[int, int]]:
        """Of the programs and maps that it holds: the bpf(2) command that finds one by its number, and the number."""
        found = set()
        for info in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            text = info.read_text()
            for command, key in ((_BPF_PROG_GET_FD_BY_ID, "prog_id"), (_BPF_MAP_GET_FD_BY_ID, "map_id")):
                number = re.search(rf"^{key}:\s*(\d+)", text, re.MULTILINE)
                if number:
                    found.add((command, int(number[1])))
        return sorted(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()


def is_in_kernel(command: int, number: int) -> bool:
    """Whether a BPF program or map of this number exists."""
    attributes = (ctypes.c_uint32 * 3)(number)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(ctypes.c_long(_SYS_BPF), ctypes.c_long(command), ctypes.byref(attributes), ctypes.c_size_t(12))
    if fd >= 0:
        os.close(fd)
    elif ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return bool(fd >= 0)
