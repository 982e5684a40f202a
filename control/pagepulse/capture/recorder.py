# SPDX-License-Identifier: GPL-2.0-only
"""Recorder: appends snapshots to a new file. What it has written survives its own death."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pagepulse
from pagepulse.capture.codec import (
    DIFF,
    DONE,
    EVENT,
    FALT,
    HEAD,
    LAYOUT,
    MAGIC,
    MAPS,
    PREAMBLE,
    PRES,
    PROC,
    SHAR,
    SNAP,
    SPAR,
    VERSION,
    WAIT,
    Encoder,
    frame,
)
from pagepulse.capture.details import (
    encode_delays,
    encode_faults,
    encode_names,
    encode_pid,
    encode_pressure,
    encode_shared,
)
from pagepulse.errors import PagepulseError, UsageError
from pagepulse.model.snapshot import SharedRange, Snapshot
from pagepulse.model.system import Delays, Pressure

KEY_EVERY_NS = 10_000_000_000
"""A snapshot that needs none before it, this often: the newest one is then found without decoding an hour."""

CLOCK = "clock"
"""Kind of the event that says what the clock on the wall shows, after it went on without the other one."""
_JUMP_NS = 1_000_000_000  # the machine slept, or the clock was set; being sped up or slowed down does not part the two

_HINTS = {errno.ENOSPC: "free some space, or record to another disk with -o",
          errno.EDQUOT: "the disk quota is used up: record to another place with -o",
          errno.EFBIG: "the file size limit is reached: raise `ulimit -f`, or record for a shorter time"}


@dataclass(slots=True)
class _Process:
    """What was written of a process so far."""

    encoder: Encoder = field(default_factory=Encoder)
    mappings: tuple[str, ...] | None = None
    delays: Delays | None = None
    pressure: Pressure | None = None
    shared: tuple[SharedRange, ...] = ()
    next_key_ns: int | None = None


class Recorder:
    """A recording being written.

    Writes are not buffered: once `write` returned, only the machine's own death can lose the snapshot.

    Args:
        path: The file to create, readable by its owner alone: addresses and names of a process are nobody else's.
        header: What to remember of how it was made: command line, options, host. It must be JSON.
        force: Replace a file that is there already.

    Raises:
        UsageError: The file exists.
        PagepulseError: It cannot be created or written.
    """

    def __init__(self, path: Path | str, header: dict[str, Any], *, force: bool = False) -> None:
        self._fd = -1
        self.path = Path(path)
        self._size = 0
        self._processes: dict[int, _Process] = {}
        self._pid: int | None = None
        self._fd = _create(self.path, force=force)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # tells readers that it grows
        clock = _clock()
        self._wall_ahead_ns = clock["realtime_ns"] - clock["monotonic_ns"]
        self._append(PREAMBLE.pack(MAGIC, VERSION) + _json_chunk(HEAD, {**header, **_own_header(), "clock": clock}))

    @property
    def size_bytes(self) -> int:
        """How much was written."""
        return self._size

    def write(self, snapshot: Snapshot) -> None:
        """Append a snapshot, later than the one before it of the same process.

        Raises:
            PagepulseError: The disk is full, for instance. Every earlier snapshot stays readable.
        """
        self._tell_if_clock_jumped()
        chunks = []
        process = self._processes.setdefault(snapshot.pid, _Process())
        if self._pid not in (None, snapshot.pid):
            chunks.append(frame(PROC, encode_pid(snapshot.pid)))
        self._pid = snapshot.pid
        if snapshot.mappings != process.mappings:
            process.mappings = snapshot.mappings
            chunks.append(frame(MAPS, encode_names(snapshot.mappings)))
        if snapshot.delays is not None and snapshot.delays != process.delays:
            process.delays = snapshot.delays
            chunks.append(frame(WAIT, encode_delays(snapshot.delays)))
        if snapshot.pressure is not None and snapshot.pressure != process.pressure:
            process.pressure = snapshot.pressure
            chunks.append(frame(PRES, encode_pressure(snapshot.pressure)))
        if snapshot.shared != process.shared:
            process.shared = snapshot.shared
            chunks.append(frame(SHAR, encode_shared(snapshot.shared)))
        if snapshot.faults is not None:
            chunks.append(frame(FALT, encode_faults(snapshot.faults)))
        if snapshot.spared:
            chunks.append(frame(SPAR, b""))
        key = process.next_key_ns is None or snapshot.end_ns >= process.next_key_ns
        if key:
            process.next_key_ns = snapshot.end_ns + KEY_EVERY_NS
        chunks.append(frame(SNAP if key else DIFF, process.encoder.encode(snapshot, key=key)))
        self._append(b"".join(chunks))

    def forget(self, pid: int) -> None:
        """This process has ended: another one with its number begins anew."""
        self._processes.pop(pid, None)

    def event(self, kind: str, data: dict[str, Any], at_ns: int | None = None) -> None:
        """Append something that happened: an exec, a scheme's action, a warning.

        Args:
            kind: What it is.
            data: It must be JSON.
            at_ns: CLOCK_MONOTONIC; None: now.
        """
        self._append(_json_chunk(EVENT, {"kind": kind, "at_ns": at_ns or time.monotonic_ns(), "data": data}))

    def _tell_if_clock_jumped(self) -> None:
        clock = _clock()
        ahead_ns = clock["realtime_ns"] - clock["monotonic_ns"]
        if abs(ahead_ns - self._wall_ahead_ns) > _JUMP_NS:
            self._wall_ahead_ns = ahead_ns
            self.event(CLOCK, {"realtime_ns": clock["realtime_ns"]}, clock["monotonic_ns"])

    def close(self, summary: dict[str, Any]) -> None:
        """End the recording. After a failed write there is nothing to end, and it only lets go of the file."""
        if self._fd >= 0:
            self._append(_json_chunk(DONE, summary))
            self._release()

    def rename(self, path: Path) -> None:
        """Give the file another name; what is there by that name is replaced.

        Raises:
            OSError: It cannot be renamed.
        """
        self.path.rename(path)
        self.path = path

    def discard(self) -> None:
        """Remove the file: there is nothing in it."""
        self._release()
        self.path.unlink(missing_ok=True)

    def end_part(self) -> None:
        """End it as one part of several. A disk that is too full for that loses nothing but the mark of the end."""
        with suppress(PagepulseError):
            self.close({"continued": True})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Let go of the file. Without `close` before, the recording reads as one that was cut short."""
        self._release()

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"recording {self.path} was not closed", ResourceWarning, stacklevel=1, source=self)
            self._release()

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            raise PagepulseError(f"the recording {self.path} is closed", why="an earlier write failed, or it was ended")
        rest = memoryview(data)
        try:
            while rest:  # a disk that is nearly full takes a part, and refuses the next
                rest = rest[os.write(self._fd, rest):]
        except OSError as error:
            raise self._give_up(error) from None
        self._size += len(data)

    def _give_up(self, error: OSError) -> PagepulseError:
        """Cut off the torn tail and let go: every chunk that was finished stays readable."""
        kept = self._size
        try:
            os.ftruncate(self._fd, kept)
        except OSError:
            kept = -1  # the reader detects the torn tail by itself
        self._release()
        if kept == 0:
            self.path.unlink(missing_ok=True)
            return PagepulseError(f"cannot write the recording {self.path}", why=error.strerror or str(error),
                                  hint=_HINTS.get(error.errno or 0, ""))
        return PagepulseError(
            f"the recording {self.path} ends here: its last snapshot could not be written",
            why=error.strerror or str(error),
            hint=_HINTS.get(error.errno or 0, "") or "what was recorded until now can be read by `pagepulse report`")

    def _release(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def check_new(path: Path, *, force: bool) -> None:
    """Say now what making the recording would say later, when a command has been started for it.

    Raises:
        UsageError: The file exists.
        PagepulseError: No file can be made there.
    """
    if not force and os.path.lexists(path):
        raise _exists(path)
    try:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise _cannot_create(path, error) from None


def _create(path: Path, *, force: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC  # O_EXCL: never through a symbolic link
    try:
        if force:
            _remove_old(path)
        return os.open(path, flags, 0o600)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _cannot_create(path, error) from None


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path} exists", why="a recording never overwrites a file unasked",
                      hint="name another file with -o, or give --force")


def _cannot_create(path: Path, error: OSError) -> PagepulseError:
    return PagepulseError(f"cannot create the recording {path}", why=error.strerror or str(error),
                          hint="name another file with -o")


def _remove_old(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise UsageError(f"{path} is not a regular file", hint="name another file with -o")
    path.unlink()


def _json_chunk(kind: bytes, value: dict[str, Any]) -> bytes:
    return frame(kind, json.dumps(value).encode())  # ASCII: names that are not UTF-8 survive as escapes


def _own_header() -> dict[str, Any]:
    return {"format": {"name": "pagepulse recording", "version": VERSION, **LAYOUT},
            "pagepulse": pagepulse.__version__}


def _clock() -> dict[str, int]:
    """What both clocks say now."""
    return {"monotonic_ns": time.monotonic_ns(), "realtime_ns": time.time_ns()}
