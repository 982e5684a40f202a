# SPDX-License-Identifier: GPL-2.0-only
"""Chunks: a recording's file taken apart, every checksum tested, before anything in it is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pagepulse.capture.codec import FRAME, HEAD, LAYOUT, MAGIC, PREAMBLE, VERSION, checksum
from pagepulse.errors import RefusedFile
from pagepulse.units import format_size


class Chunk(NamedTuple):
    """Where a sound chunk's payload lies."""

    kind: bytes
    offset: int
    length: int


def check_preamble(path: Path, preamble: bytes) -> int:
    """The version of the format.

    Raises:
        RefusedFile: It is no recording, or one that only a newer pagepulse reads.
    """
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


def scan(file: BinaryIO, size_bytes: int) -> tuple[list[Chunk], str]:
    """Where every sound chunk lies, and what is wrong after them (empty if nothing is)."""
    chunks: list[Chunk] = []
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
        chunks.append(Chunk(kind, start, length))
        offset = start + length
    return chunks, ""


def read_header(path: Path, file: BinaryIO, chunks: list[Chunk], version: int) -> dict[str, Any]:
    """What the recorder said of how it was made.

    Raises:
        RefusedFile: It lacks, or describes what this pagepulse does not know.
    """
    if not chunks or chunks[0].kind != HEAD:
        raise RefusedFile(f"{path} has no header", why="the recorder was stopped as it began, or the file is damaged")
    header = parse_json(path, os.pread(file.fileno(), chunks[0].length, chunks[0].offset))
    layout = header.get("format")
    if not isinstance(layout, dict) or any(layout.get(key) != value for key, value in LAYOUT.items()):
        raise RefusedFile(f"{path} describes snapshots that this pagepulse does not know",
                          why="its header names other columns", hint="read it with the pagepulse that recorded it")
    if layout.get("version") != version:
        raise RefusedFile(f"{path} is damaged", why="its first bytes and its header name different versions")
    return header


def parse_json(path: Path, payload: bytes) -> dict[str, Any]:
    """The object of a chunk.

    Raises:
        RefusedFile: It is none.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefusedFile(f"{path} is not a recording that pagepulse made", why="a chunk of it is not JSON")
    return value
