# SPDX-License-Identifier: GPL-2.0-only
"""Packed recordings: xz files (`xz -d` gives the recording back), a third to two thirds of what the recorder wrote.

A recorder deflates each snapshot by itself, so that it survives the next one; a part that has ended needs that no more.
Its chunks are inflated (stored as deflate streams that compress nothing, so that the format stays as it is) and the
whole is compressed, each snapshot with the help of those before it.
"""

from __future__ import annotations

import lzma
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pagepulse.capture.chunks import scan
from pagepulse.capture.codec import DIFF, MAPS, PREAMBLE, SHAR, SNAP, Undecodable, frame, inflated
from pagepulse.capture.parts import PACKED, refuse_if_written
from pagepulse.errors import RefusedFile

XZ_MAGIC = b"\xfd7zXZ\x00"
_DEFLATED = (SNAP, DIFF, MAPS, SHAR)
_PRESET = 3
_PIECE = 1 << 20
_MOST_BYTES = 16 << 30  # of a crafted file that goes on without end


def pack(path: Path) -> Path:
    """Pack a recording that has ended; the packed file takes its place.

    A recording that is not whole in every chunk stays as it is.

    Returns:
        The packed file.

    Raises:
        OSError: It cannot be read, or the other one not be written.
        Undecodable: It is not whole.
        PagepulseError: Its recorder is still at work.
    """
    packed = path.with_name(path.name + PACKED)
    part = path.with_name(f".{packed.name}.part")
    times = path.stat()
    try:
        with path.open("rb") as plain, open(part, "wb", opener=_for_its_owner) as out:
            refuse_if_written(path, plain.fileno())
            with lzma.open(out, "wb", preset=_PRESET) as squeezed:
                for piece in _loosened(plain):
                    squeezed.write(piece)
            out.flush()
            os.fsync(out.fileno())
        os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))
        part.rename(packed)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    path.unlink()
    return packed


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _loosened(plain: BinaryIO) -> Iterator[bytes]:
    """The preamble and each chunk, its payload inflated."""
    yield plain.read(PREAMBLE.size)
    chunks, fault = scan(plain, os.fstat(plain.fileno()).st_size)
    if fault:
        raise Undecodable(fault)
    for chunk in chunks:
        payload = os.pread(plain.fileno(), chunk.length, chunk.offset)
        yield frame(chunk.kind, zlib.compress(inflated(payload), 0, -15) if chunk.kind in _DEFLATED else payload)


def unpacked(path: Path, packed: BinaryIO) -> BinaryIO:
    """A packed recording as a file of its own, which nobody else sees; of a damaged one, what is before the damage.

    Args:
        path: Its name, for messages.
        packed: It, from its beginning; stays open.

    Raises:
        RefusedFile: There is no room for it.
    """
    whole = tempfile.TemporaryFile(prefix="pagepulse-")  # noqa: SIM115 - the caller closes it
    try:
        with lzma.open(packed, "rb") as stream, suppress(lzma.LZMAError, EOFError):
            while whole.tell() < _MOST_BYTES and (piece := stream.read(_PIECE)):
                whole.write(piece)
        whole.seek(0)
    except OSError as error:
        whole.close()
        raise RefusedFile(f"cannot unpack the recording {path}", why=error.strerror or str(error),
                          hint=f"it takes room in {tempfile.gettempdir()}; TMPDIR names another place") from None
    except BaseException:
        whole.close()
        raise
    return whole
