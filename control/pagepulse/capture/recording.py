# SPDX-License-Identifier: GPL-2.0-only
"""Recording: reads what a recorder wrote, as far as it can be trusted. A damaged file never raises but ours."""

from __future__ import annotations

import bisect
import fcntl
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from pagepulse.capture.chunks import Chunk, check_preamble, parse_json, read_header, scan
from pagepulse.capture.codec import (
    DIFF,
    DONE,
    EVENT,
    FALT,
    MAPS,
    PREAMBLE,
    PRES,
    PROC,
    SHAR,
    SNAP,
    SPAR,
    WAIT,
    Decoder,
    Undecodable,
    peeked,
)
from pagepulse.capture.details import (
    decode_delays,
    decode_faults,
    decode_names,
    decode_pid,
    decode_pressure,
    decode_shared,
)
from pagepulse.capture.packed import XZ_MAGIC, unpacked
from pagepulse.capture.recorder import KEY_EVERY_NS
from pagepulse.errors import PagepulseError, RefusedFile
from pagepulse.model.snapshot import SharedRange, Snapshot
from pagepulse.model.system import Delays, Pressure


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while recording."""

    kind: str
    at_ns: int
    """CLOCK_MONOTONIC, as the snapshots'."""
    data: dict[str, Any]


@dataclass(slots=True)
class _Process:
    """What was read of a process so far."""

    decoder: Decoder = field(default_factory=Decoder)
    mappings: tuple[str, ...] = ()
    delays: Delays | None = None
    pressure: Pressure | None = None
    shared: tuple[SharedRange, ...] = ()
    faults: bytes | None = None
    """Of its next snapshot, still coded."""
    spared: bool = False
    """In its next snapshot."""
    is_known: bool = False
    """A key snapshot of it was decoded, so that what builds on it can be."""


class Recording:
    """A recording, open for reading. Use `Recording.open` and a `with` statement."""

    def __init__(self, path: Path, file: BinaryIO, header: dict[str, Any], chunks: list[Chunk], fault: str, *,
                 grows: bool) -> None:
        self.path = path
        self.grows = grows
        """Its recorder was at work when it was opened."""
        self.header = header
        """As given to the recorder, with `format`, `pagepulse` (the version that wrote it) and `clock`."""
        self._file = file
        self._chunks = chunks
        self._fault = fault

    @classmethod
    def open(cls, path: Path | str) -> Recording:
        """Open a recording and check every chunk of it.

        Raises:
            RefusedFile: It cannot be opened, is no recording, or one that only a newer pagepulse reads.
        """
        path = Path(path)
        try:
            file: BinaryIO = path.open("rb")
        except OSError as error:
            raise RefusedFile(f"cannot open the recording {path}", why=error.strerror or str(error)) from None
        try:
            grows = _is_locked(file)
            file = _plain(path, file)
            version = check_preamble(path, file.read(PREAMBLE.size))
            size_bytes = os.fstat(file.fileno()).st_size
            chunks, fault = scan(file, size_bytes)
            header = read_header(path, file, chunks, version)
            return cls(path, file, header, chunks, "" if grows else fault, grows=grows)
        except OSError as error:
            file.close()
            raise RefusedFile(f"cannot read the recording {path}", why=error.strerror or str(error)) from None
        except BaseException:
            file.close()
            raise

    @property
    def truncated(self) -> bool:
        """The recorder did not end it: it was killed, the disk filled up, the file was cut, or it still records."""
        return not any(chunk.kind == DONE for chunk in self._chunks)

    @property
    def complaint(self) -> str:
        """What is missing, in words for the user; empty if nothing is."""
        if self._fault:
            return f"{self.path}: {self._fault}; the {self.snapshot_count} snapshots before it are read"
        if self.grows:
            return f"{self.path} is still being written; the {self.snapshot_count} snapshots until now are read"
        if self.truncated:
            return (f"{self.path} has no end: its recorder was killed; "
                    f"the {self.snapshot_count} snapshots that it finished are read")
        return ""

    @property
    def snapshot_count(self) -> int:
        """How many snapshots can be read."""
        return sum(chunk.kind in (SNAP, DIFF) for chunk in self._chunks)

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the recorder said at its end; None if it did not get there."""
        for chunk in reversed(self._chunks):
            if chunk.kind == DONE:
                return self._json(chunk)
        return None

    def events(self) -> list[Event]:
        """What happened while recording, in order."""
        values = [self._json(chunk) for chunk in self._chunks if chunk.kind == EVENT]
        try:
            return [Event(str(value["kind"]), int(value["at_ns"]), dict(value["data"])) for value in values]
        except (KeyError, TypeError, ValueError):
            raise self._refused("an event lacks its kind, time or data") from None

    def pids(self) -> list[int]:
        """The processes in it, in the order in which they were first seen."""
        if any(chunk.kind == PROC for chunk in self._chunks):
            return list(dict.fromkeys(snapshot.pid for snapshot in self.snapshots()))
        return [snapshot.pid for snapshot in islice(self.snapshots(), 1)]

    def snapshots(self, pid: int | None = None, since_ns: int = 0) -> Iterator[Snapshot]:
        """All of them, oldest first; none if the recording is empty. Can be called again.

        Args:
            pid: Those of this process alone.
            since_ns: Those that end then or later, by CLOCK_MONOTONIC; what is before is not even decoded.

        Raises:
            RefusedFile: A snapshot came through whole and makes no sense: not written by pagepulse.
        """
        everyone = self._decode(self._chunks, self._first_needed(since_ns))
        return (snapshot for snapshot in everyone
                if snapshot.end_ns >= since_ns and (pid is None or snapshot.pid == pid))

    def last(self, pid: int | None = None) -> Snapshot:
        """The newest snapshot; of this process, if one is given.

        Raises:
            PagepulseError: There is none.
        """
        self.require_snapshots()
        if any(chunk.kind == PROC for chunk in self._chunks):
            newest = deque(self.snapshots(pid), maxlen=1)
            if not newest:
                raise PagepulseError(f"{self.path} holds no snapshot of process {pid}")
            return newest[0]
        kinds = [chunk.kind for chunk in self._chunks]
        key = max((i for i, kind in enumerate(kinds) if kind == SNAP), default=0)
        names = max((i for i, kind in enumerate(kinds[:key]) if kind == MAPS), default=0)
        return deque(self._decode([self._chunks[names], *self._chunks[key:]]), maxlen=1)[0]

    def require_snapshots(self) -> None:
        """Refuse to report on nothing.

        Raises:
            PagepulseError: The recording holds no snapshot.
        """
        if not self.snapshot_count:
            raise PagepulseError(f"{self.path} holds no snapshot", why=self._fault or
                                 "the recording ended before its first aggregation interval did",
                                 hint="record for longer than one --aggregate interval")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _first_needed(self, since_ns: int) -> int:
        """Which chunk to begin to decode at, to have all snapshots from then on.

        Key snapshots come in the order of time, and each process has one at least every KEY_EVERY_NS in which it has
        any: who begins at a key that is two of these older finds one of each before it is needed.
        """
        if not since_ns:
            return 0
        keys = [place for place, chunk in enumerate(self._chunks) if chunk.kind == SNAP]
        found = bisect.bisect_left(keys, since_ns - 2 * KEY_EVERY_NS, key=self._end_of_key)
        return keys[found - 1] if found else 0

    def _end_of_key(self, place: int) -> int:
        try:
            return peeked(self._payload(self._chunks[place])).end_ns
        except Undecodable as error:
            raise self._refused(f"at byte {self._chunks[place].offset}: {error}") from None

    def _decode(self, chunks: Iterable[Chunk], first: int = 0) -> Iterator[Snapshot]:
        processes: dict[int, _Process] = {}
        process = _Process()
        for place, chunk in enumerate(chunks):
            try:
                if chunk.kind == PROC:
                    process = processes.setdefault(decode_pid(self._payload(chunk)), _Process())
                elif chunk.kind in (SNAP, DIFF):
                    if not processes:  # the first one has no PROC chunk
                        processes[peeked(self._payload(chunk)).pid] = process
                    process.is_known = place >= first and (process.is_known or chunk.kind == SNAP)
                    if process.is_known:
                        yield self._snapshot(chunk, process)
                    process.faults, process.spared = None, False
                else:
                    self._take(chunk, process)
            except Undecodable as error:
                raise self._refused(f"at byte {chunk.offset}: {error}") from None

    def _snapshot(self, chunk: Chunk, process: _Process) -> Snapshot:
        snapshot = process.decoder.decode(self._payload(chunk), process.mappings, key=chunk.kind == SNAP)
        faults = None if process.faults is None else decode_faults(process.faults, len(snapshot.regions))
        return replace(snapshot, delays=process.delays, pressure=process.pressure, shared=process.shared, faults=faults,
                       spared=process.spared)

    def _take(self, chunk: Chunk, process: _Process) -> None:
        """What holds from here on for the snapshots of a process."""
        if chunk.kind == MAPS:
            process.mappings = decode_names(self._payload(chunk))
        elif chunk.kind == WAIT:
            process.delays = decode_delays(self._payload(chunk))
        elif chunk.kind == SHAR:
            process.shared = decode_shared(self._payload(chunk))
        elif chunk.kind == FALT:
            process.faults = self._payload(chunk)
        elif chunk.kind == SPAR:
            process.spared = True
        elif chunk.kind == PRES:
            process.pressure = decode_pressure(self._payload(chunk))

    def _payload(self, chunk: Chunk) -> bytes:
        payload = os.pread(self._file.fileno(), chunk.length, chunk.offset)
        if len(payload) != chunk.length:
            raise PagepulseError(f"{self.path} became shorter while it was read")
        return payload

    def _json(self, chunk: Chunk) -> dict[str, Any]:
        return parse_json(self.path, self._payload(chunk))

    def _refused(self, why: str) -> RefusedFile:
        return RefusedFile(f"{self.path} is not a recording that pagepulse made", why=why)


def _is_locked(file: BinaryIO) -> bool:
    """Whether its recorder is at work: it holds a lock as long as it lives."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    with suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    return False


def _plain(path: Path, file: BinaryIO) -> BinaryIO:
    """The recording, unpacked if it is packed."""
    if os.pread(file.fileno(), len(XZ_MAGIC), 0) != XZ_MAGIC:
        return file
    with file:
        return unpacked(path, file)
