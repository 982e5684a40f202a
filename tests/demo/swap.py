# SPDX-License-Identifier: GPL-2.0-only
"""Swap for as long as a demo, a test or a bench needs it, and not a moment longer.

A guardian process of its own makes the zram swap and waits at a pipe. When its parent closes the pipe, or dies in
whatever way, SIGKILL included, the guardian undoes what it did. So there is one way out, and every exit takes it.

    with temporary_swap(2 << 30) as swap: ...

Run as a program, `swap.py BYTES` is the guardian.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONTROL = Path("/sys/class/zram-control")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_BUSY_TRIES = 50  # udev looks at every new device for a moment


@dataclass(frozen=True, slots=True)
class Swap:
    """What there is to swap to."""

    device: str | None
    """A device or file of /proc/swaps; None: no swap."""
    is_ours: bool
    """Made for this purpose, and removed afterwards."""
    why: str = ""
    """Without a device: the reason."""


@contextmanager
def temporary_swap(size_bytes: int) -> Iterator[Swap]:
    """The machine's own swap if it has this much free; otherwise a zram swap of this size, which is removed at the end.

    Never raises because there is no swap: `device` is None then, and `why` says the reason.
    """
    own = _active_swap(size_bytes)
    if own:
        yield Swap(own, is_ours=False)
        return
    # A session of its own: Ctrl-C in the terminal is for the demo, and must not reach the guardian.
    with subprocess.Popen([sys.executable, __file__, str(size_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, start_new_session=True) as guardian:
        assert guardian.stdout is not None  # leaving the block closes the pipe and waits
        answer = json.loads(guardian.stdout.readline() or '{"why": "the guardian ended"}')
        yield Swap(answer.get("device"), is_ours="device" in answer, why=answer.get("why", ""))


def _active_swap(free_bytes: int) -> str | None:
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        name, _, size, used, _ = line.split()
        if (int(size) - int(used)) * 1024 >= free_bytes:
            return name
    return None


class ZramSwap:
    """One zram swap device: made step by step, undone in the opposite order as far as it came."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_on = False
        self._module_loaded = False

    @property
    def device(self) -> str:
        """Its node."""
        return f"/dev/zram{self._number}"

    def make(self, size_bytes: int) -> None:
        """Add a device of its own, and swap to it.

        Raises:
            OSError: The kernel has no zram, or refuses.
            subprocess.CalledProcessError: mkswap or swapon refuses, with the reason in `stderr`.
        """
        if not CONTROL.exists():
            _run("modprobe", "zram")
            self._module_loaded = True
        self._number = int((CONTROL / "hot_add").read_text())  # reading it is what adds a device
        Path(f"/sys/block/zram{self._number}/disksize").write_text(str(size_bytes))
        _run("mkswap", self.device)
        _run("swapon", "-p", "32767", self.device)  # first: other swap may be taken away meanwhile, as ours will be
        self._is_on = True

    def undo(self) -> None:
        """Leave the machine as it was.

        Raises:
            OSError: The device stays busy.
            subprocess.CalledProcessError: swapoff refuses, for instance for want of memory.
        """
        if self._is_on:
            _run("swapoff", self.device)
            self._is_on = False
        if self._number is not None:
            _write_when_free(Path(f"/sys/block/zram{self._number}/reset"), "1")
            _write_when_free(CONTROL / "hot_remove", str(self._number))
            self._number = None
        if self._module_loaded:
            _run("modprobe", "-r", "zram")
            self._module_loaded = False


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program, path=_PATH)
    if path is None:
        raise FileNotFoundError(f"{program} is not installed")
    subprocess.run([path, *arguments], check=True, capture_output=True, text=True)


def _write_when_free(path: Path, text: str) -> None:
    for tries_left in reversed(range(_BUSY_TRIES)):
        try:
            path.write_text(text)
        except OSError:
            if not tries_left:
                raise
            time.sleep(0.1)
        else:
            return


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    return str(error.stderr).strip() if isinstance(error, subprocess.CalledProcessError) else str(error)


def guard(size_bytes: int) -> int:
    """Make the swap, say so on stdout, wait for the end of stdin, undo. The exit status: 1 if something is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    swap = ZramSwap()
    try:
        swap.make(size_bytes)
        answer = {"device": swap.device}
    except (OSError, subprocess.CalledProcessError) as error:
        answer = {"why": _reason(error)}
    try:
        print(json.dumps(answer), flush=True)
        sys.stdin.read()
    except BrokenPipeError:
        pass  # the parent has died before it could hear
    try:
        swap.undo()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"cannot remove the swap on {swap.device}: {_reason(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1])))
