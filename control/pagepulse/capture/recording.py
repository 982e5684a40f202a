# SPDX-License-Identifier: GPL-2.0-only
"""Recording: reads what a recorder wrote, as far as it can be trusted. A damaged file never raises but ours."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from pagepulse.capture.codec import (
    DIFF,
    DONE,
    EVENT,
    FRAME,
    HEAD,
    LAYOUT,
    MAGIC,
    MAPS,
    PREAMBLE,
    PRES,
    PROC,
    SHAR,
    SNAP,
    VERSION,
    WAIT,
    Decoder,
    Undecodable,
    checksum,
    decode_delays,
    decode_names,
    decode_pid,
    decode_pressure,
    decode_shared,
)
from pagepulse.errors import PagepulseError, RefusedFile
from pagepulse.model.snapshot import SharedRange, Snapshot
from pagepulse.model.system import Delays, Pressure
from pagepulse.units import format_size


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while recording."""

    kind: str
    at_ns: int
    """CLOCK_MONOTONIC, as the snapshots'."""
    data: dict[str, Any]


class _Chunk(NamedTuple):
    kind: bytes
    offset: int
    length: int


@dataclass(slots=True)
class _Process:
    """What was read of a process so far."""

    decoder: Decoder = field(default_factory=Decoder)
    mappings: tuple[str, ...] = ()
    delays: Delays | None = None
    pressure: Pressure | None = None
    shared: tuple[SharedRange, ...] = ()


class Recording:
    """A recording, open for reading. Use `Recording.open` and a `with` statement."""

    def __init__(self, path: Path, file: BinaryIO, header: dict[str, Any], chunks: list[_Chunk], fault: str) -> None:
        self.path = path
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
            file = path.open("rb")
        except OSError as error:
            raise RefusedFile(f"cannot open the recording {path}", why=error.strerror or str(error)) from None
        try:
            version = _check_preamble(path, file.read(PREAMBLE.size))
            size_bytes = os.fstat(file.fileno()).st_size
            chunks, fault = _scan(file, size_bytes)
            return cls(path, file, _read_header(path, file, chunks, version), chunks, fault)
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
        if self.truncated:
            return (f"{self.path} has no end: its recorder was killed, or is still at work; "
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

    def snapshots(self, pid: int | None = None) -> Iterator[Snapshot]:
        """All of them, oldest first; none if the recording is empty. Can be called again.

        Args:
            pid: Those of this process alone.

        Raises:
            RefusedFile: A snapshot came through whole and makes no sense: not written by pagepulse.
        """
        everyone = self._decode(self._chunks)
        return everyone if pid is None else (snapshot for snapshot in everyone if snapshot.pid == pid)

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

    def _decode(self, chunks: Iterable[_Chunk]) -> Iterator[Snapshot]:
        processes: dict[int, _Process] = {}
        process = _Process()
        for chunk in chunks:
            try:
                if chunk.kind == PROC:
                    process = processes.setdefault(decode_pid(self._payload(chunk)), _Process())
                elif chunk.kind == MAPS:
                    process.mappings = decode_names(self._payload(chunk))
                elif chunk.kind == WAIT:
                    process.delays = decode_delays(self._payload(chunk))
                elif chunk.kind == SHAR:
                    process.shared = decode_shared(self._payload(chunk))
                elif chunk.kind == PRES:
                    process.pressure = decode_pressure(self._payload(chunk))
                elif chunk.kind in (SNAP, DIFF):
                    snapshot = process.decoder.decode(self._payload(chunk), process.mappings, key=chunk.kind == SNAP)
                    processes[snapshot.pid] = process  # the first one has no PROC chunk
                    yield replace(snapshot, delays=process.delays, pressure=process.pressure, shared=process.shared)
            except Undecodable as error:
                raise self._refused(f"at byte {chunk.offset}: {error}") from None

    def _payload(self, chunk: _Chunk) -> bytes:
        payload = os.pread(self._file.fileno(), chunk.length, chunk.offset)
        if len(payload) != chunk.length:
            raise PagepulseError(f"{self.path} became shorter while it was read")
        return payload

    def _json(self, chunk: _Chunk) -> dict[str, Any]:
        return _parse_json(self.path, self._payload(chunk))

    def _refused(self, why: str) -> RefusedFile:
        return RefusedFile(f"{self.path} is not a recording that pagepulse made", why=why)


def _check_preamble(path: Path, preamble: bytes) -> int:
    """The version of the format."""
    if not preamble:
        raise RefusedFile(f"{path} is empty", hint="`pagepulse record` makes recordings")
    if not preamble.startswith(MAGIC[:len(preamble)]):
        raise RefusedFile(f"{path} is not a pagepulse recording", why="it does not begin like one",
                          hint="`pagepulse record` makes recordings")
    if len(preamble) < PREAMBLE.size:
        raise RefusedFile(f"{path} ends within its first bytes", why="the recorder was stopped as it began")
    version = PREAMBLE.unpack(preamble)[1]
    if version > VERSION:
        raise RefusedFile(f"{path} has version {version} of the recording format",
                          why=f"this pagepulse reads version {VERSION}",
                          hint="read it with the pagepulse that recorded it, or a newer one")
    if version < 1:
        raise RefusedFile(f"{path} is damaged", why=f"there is no version {version} of the recording format")
    return int(version)


def _scan(file: BinaryIO, size_bytes: int) -> tuple[list[_Chunk], str]:
    """Where every sound chunk lies, and what is wrong after them (empty if nothing is)."""
    chunks: list[_Chunk] = []
    offset = PREAMBLE.size
    while head := file.read(FRAME.size):
        lost = f"({format_size(size_bytes - offset)} of {format_size(size_bytes)}) is lost"
        if len(head) < FRAME.size:
            return chunks, f"it was cut at byte {offset + len(head)}, within a chunk"
        kind, length, expected = FRAME.unpack(head)
        start = offset + FRAME.size
        if start + length > size_bytes:
            return chunks, f"it is cut or damaged at byte {offset}: what follows {lost}"
        payload = file.read(length)
        if len(payload) != length or checksum(kind, payload) != expected:
            return chunks, f"it is damaged at byte {offset} (wrong checksum): what follows {lost}"
        chunks.append(_Chunk(kind, start, length))
        offset = start + length
    return chunks, ""


def _read_header(path: Path, file: BinaryIO, chunks: list[_Chunk], version: int) -> dict[str, Any]:
    if not chunks or chunks[0].kind != HEAD:
        raise RefusedFile(f"{path} has no header", why="the recorder was stopped as it began, or the file is damaged")
    header = _parse_json(path, os.pread(file.fileno(), chunks[0].length, chunks[0].offset))
    layout = header.get("format")
    if not isinstance(layout, dict) or any(layout.get(key) != value for key, value in LAYOUT.items()):
        raise RefusedFile(f"{path} describes snapshots that this pagepulse does not know",
                          why="its header names other columns", hint="read it with the pagepulse that recorded it")
    if layout.get("version") != version:
        raise RefusedFile(f"{path} is damaged", why="its first bytes and its header name different versions")
    return header


def _parse_json(path: Path, payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefusedFile(f"{path} is not a recording that pagepulse made", why="a chunk of it is not JSON")
    return value
