# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots as bytes and back. Knows nothing of files.

A snapshot is coded as its difference from the one before: regions are matched by address, every new region is
predicted to equal the old region that holds its first byte, and only the rows where the prediction fails are stored,
XORed with it, byte plane by byte plane, deflated. Splits and merges of regions therefore cost only what they change.

What is rounded: `nr_accesses`, its error, `rate_hz` and `touched_bytes` are estimates and keep a relative precision of
1/256; `touched_bytes` never exceeds `present_bytes`. Everything else is exact.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.snapshot import IDLE_EDGES_NS, REGION, Cost, Snapshot

MAGIC = b"\x89pagepulse\n\x1a"
VERSION = 3
PREAMBLE = struct.Struct("<12sI")  # magic, version
FRAME = struct.Struct("<4sII")  # kind, length of the payload, CRC-32 of kind, length and payload

HEAD, MAPS, SNAP, DIFF, EVENT, DONE = b"HEAD", b"MAPS", b"SNAP", b"DIFF", b"EVNT", b"DONE"
PROC, WAIT, PRES, SHAR, FALT, SPAR = b"PROC", b"WAIT", b"PRES", b"SHAR", b"FALT", b"SPAR"
"""What follows, up to the next one, is of another process (since version 3); for how long it waited for memory, and how
much its control group does; what of its addresses others may map, too; page faults in the regions of the snapshot that
comes next; and that in this one nothing was cleared (empty)."""

SCALARS = ("pid", "start_ns", "end_ns", "sampling_ns", "rss_bytes", "wss_bytes", "unknown_bytes", "unclearable_bytes",
           "dropped", "cpu_ns", "tax_ns", *(f"idle_{edge // 1_000_000_000}s_bytes" for edge in IDLE_EDGES_NS))
LAYOUT = {"region": [list(column) for column in REGION.descr], "scalars": list(SCALARS),
          "rounded_to_1_256": ["nr_accesses", "nr_accesses_error", "rate_hz", "touched_bytes"]}
"""What the header says of the chunks; a reader refuses a recording that says otherwise."""

Words = npt.NDArray[np.uint32]
"""Shape (n, ROW_WORDS): regions as 32-bit words, the rounded columns as floats."""
Scalars = npt.NDArray[np.int64]

ROW_WORDS = REGION.itemsize // 4
_START, _TOUCHED = (REGION.fields[name][1] // 4 for name in ("start", "touched_bytes"))  # type: ignore[index]
_FLOATS = np.array([REGION.fields[name][1] // 4  # type: ignore[index]
                    for name in ("touched_bytes", "nr_accesses", "nr_accesses_error", "rate_hz")])
_SHAPE = struct.Struct("<III")  # regions, regions of the snapshot before, new starts (or SAME_STARTS)
_SAME_STARTS = 0xFFFF_FFFF
_MAX_PAYLOAD = 1 << 28  # far above a million regions: what a crafted file may make us inflate
_NO_WORDS: Words = np.zeros((0, ROW_WORDS), np.uint32)
_NO_SCALARS: Scalars = np.zeros(len(SCALARS), np.int64)


class Undecodable(ValueError):
    """A chunk that came through whole, yet makes no sense."""


def frame(kind: bytes, payload: bytes) -> bytes:
    """One chunk, ready to be appended."""
    return FRAME.pack(kind, len(payload), checksum(kind, payload)) + payload


def checksum(kind: bytes, payload: bytes) -> int:
    """CRC-32 of a chunk. It covers kind and length too, so that no flipped bit passes."""
    return zlib.crc32(payload, zlib.crc32(kind + len(payload).to_bytes(4, "little")))


def quantised(regions: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """These regions as a recording gives them back: the estimates rounded."""
    return _regions(_words(regions))


def _words(regions: npt.NDArray[np.void]) -> Words:
    words = np.ascontiguousarray(regions).view("<u4").reshape(-1, ROW_WORDS).copy()
    words[:, _TOUCHED] = regions["touched_bytes"].astype("<f4").view("<u4")
    words[:, _TOUCHED + 1] = 0
    floats = words[:, _FLOATS]
    floats += 0x8000  # round to the upper half: sign, exponent and 7 bits, bfloat16
    floats &= 0xFFFF_0000
    words[:, _FLOATS] = floats
    return words


def _regions(words: Words) -> npt.NDArray[np.void]:
    regions = words.view(REGION).reshape(-1).copy()
    touched = np.ascontiguousarray(words[:, _TOUCHED]).view("<f4").astype(np.float64)
    if not ((touched >= 0) & (touched < 2.0**63)).all():
        raise Undecodable("touched_bytes is not a size")
    regions["touched_bytes"] = np.minimum(touched.astype(np.uint64), regions["present_bytes"])
    return regions


def _scalars(snapshot: Snapshot) -> Scalars:
    return np.array((snapshot.pid, snapshot.start_ns, snapshot.end_ns, snapshot.sampling_ns, snapshot.rss_bytes,
                     snapshot.wss_bytes, snapshot.unknown_bytes, snapshot.unclearable_bytes, snapshot.dropped,
                     snapshot.cost.cpu_ns, snapshot.cost.tax_ns, *snapshot.idle_bytes), np.int64)


def _expected(scalars: Scalars) -> Scalars:
    expected = scalars.copy()
    expected[1] = scalars[2]  # a snapshot begins where the one before it ended
    return expected


def _unzigzagged(moved: Scalars) -> Scalars:
    back: Scalars = (moved >> 1) & 0x7FFF_FFFF_FFFF_FFFF ^ -(moved & 1)
    return back


def _planes(rows: npt.NDArray[np.generic], row_bytes: int) -> bytes:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(-1, row_bytes).T.tobytes()


def _starts(words: Words) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(words[:, _START:_START + 2]).view("<u8").reshape(-1)


def _predict(before: Words, old: npt.NDArray[np.uint64], new: npt.NDArray[np.uint64]) -> Words:
    """The old rows that hold these new starts."""
    if not len(before):
        predicted = np.zeros((len(new), ROW_WORDS), np.uint32)
    else:
        predicted = before[np.maximum(np.searchsorted(old, new, "right") - 1, 0)]
    predicted[:, _START:_START + 2] = new.view("<u4").reshape(-1, 2)
    return predicted


class Encoder:
    """Codes snapshots one after the other; remembers the last."""

    def __init__(self) -> None:
        self._words = _NO_WORDS
        self._scalars = _NO_SCALARS

    def encode(self, snapshot: Snapshot, *, key: bool) -> bytes:
        """The payload of a SNAP chunk (`key`) or a DIFF chunk."""
        if key:
            self._words, self._scalars = _NO_WORDS, _NO_SCALARS
        words, scalars = _words(snapshot.regions), _scalars(snapshot)
        shape, structure, predicted = self._structure(words)
        difference = words ^ predicted
        changed = difference.any(axis=1)
        moved = scalars - _expected(self._scalars)
        payload = b"".join((
            shape, _planes((moved << 1) ^ (moved >> 63), 8),  # zigzag: small either way means zeros above
            structure, np.packbits(changed).tobytes(), _planes(difference[changed], REGION.itemsize)))
        self._words, self._scalars = words, scalars
        return zlib.compress(payload, 1, -15)

    def _structure(self, words: Words) -> tuple[bytes, bytes, Words]:
        before = self._words
        if len(words) == len(before) and (words[:, _START:_START + 2] == before[:, _START:_START + 2]).all():
            return _SHAPE.pack(len(words), len(before), _SAME_STARTS), b"", before
        old, new = _starts(before), _starts(words)
        kept, added = _shared(old, new), new[~_shared(new, old)]
        return (_SHAPE.pack(len(words), len(before), len(added)), np.packbits(kept).tobytes() + _planes(added, 8),
                _predict(before, old, new))


def _shared(ours: npt.NDArray[np.uint64], theirs: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of our sorted starts are theirs too. numpy's own isin takes ten times as long on arrays this small."""
    if not len(theirs):
        return np.zeros(len(ours), np.bool_)
    shared: npt.NDArray[np.bool_] = theirs[np.minimum(np.searchsorted(theirs, ours), len(theirs) - 1)] == ours
    return shared


class _Cursor:
    """Takes a payload apart; a payload that ends early is undecodable."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, size: int) -> bytes:
        part = self._payload[self._at:self._at + size]
        if len(part) != size:
            raise Undecodable("the snapshot ends early")
        self._at += size
        return part

    def bits(self, count: int) -> npt.NDArray[np.bool_]:
        packed = np.frombuffer(self.take((count + 7) // 8), np.uint8)
        return np.unpackbits(packed, count=count).view(np.bool_)

    def rows(self, count: int, row_bytes: int) -> npt.NDArray[np.uint8]:
        planes = np.frombuffer(self.take(count * row_bytes), np.uint8)
        return np.ascontiguousarray(planes.reshape(row_bytes, count).T)

    def finish(self) -> None:
        if self._at != len(self._payload):
            raise Undecodable("the snapshot goes on too long")


class Decoder:
    """Decodes snapshots one after the other; remembers the last."""

    def __init__(self) -> None:
        self._words = _NO_WORDS
        self._scalars = _NO_SCALARS

    def decode(self, payload: bytes, mappings: tuple[str, ...], *, key: bool) -> Snapshot:
        """The snapshot of a SNAP chunk (`key`) or a DIFF chunk.

        Raises:
            Undecodable: The payload is not what an encoder writes.
        """
        if key:
            self._words, self._scalars = _NO_WORDS, _NO_SCALARS
        cursor = _Cursor(inflated(payload))
        count, before, added = _SHAPE.unpack(cursor.take(_SHAPE.size))
        if before != len(self._words):
            raise Undecodable("the snapshot builds on another one than what came before it")
        moved = cursor.rows(len(SCALARS), 8).view("<i8").reshape(-1)
        scalars = _expected(self._scalars) + _unzigzagged(moved)
        words = self._predicted(cursor, count, added)
        changed = cursor.bits(count)
        words[changed] ^= cursor.rows(int(changed.sum()), REGION.itemsize).view("<u4").reshape(-1, ROW_WORDS)
        cursor.finish()
        snapshot = _snapshot(words, scalars, mappings)
        self._words, self._scalars = words, scalars
        return snapshot

    def _predicted(self, cursor: _Cursor, count: int, added: int) -> Words:
        if added == _SAME_STARTS:
            if count != len(self._words):
                raise Undecodable("the number of regions does not fit")
            return self._words.copy()
        old = _starts(self._words)
        kept = old[cursor.bits(len(old))]
        starts = np.sort(np.concatenate((kept, cursor.rows(added, 8).view("<u8").reshape(-1))))
        if count != len(starts):
            raise Undecodable("the number of regions does not fit")
        return _predict(self._words, old, starts)


class Peeked(NamedTuple):
    """What a key snapshot says of itself before anything of it is decoded."""

    pid: int
    end_ns: int


def peeked(payload: bytes) -> Peeked:
    """Of the payload of a SNAP chunk.

    Raises:
        Undecodable: The payload is not what an encoder writes.
    """
    cursor = _Cursor(inflated(payload))
    cursor.take(_SHAPE.size)
    scalars = _unzigzagged(cursor.rows(len(SCALARS), 8).view("<i8").reshape(-1))
    return Peeked(int(scalars[SCALARS.index("pid")]), int(scalars[SCALARS.index("end_ns")]))


def inflated(payload: bytes) -> bytes:
    """What a deflated payload holds.

    Raises:
        Undecodable: It is not one, or holds more than any snapshot.
    """
    inflater = zlib.decompressobj(-15)
    try:
        content = inflater.decompress(payload, _MAX_PAYLOAD)
    except zlib.error as error:
        raise Undecodable(str(error)) from None
    if not inflater.eof or inflater.unused_data:
        raise Undecodable("the snapshot does not inflate to its end")
    return content


def _snapshot(words: Words, scalars: Scalars, mappings: tuple[str, ...]) -> Snapshot:
    regions = _regions(words)
    starts, ends = regions["start"], regions["end"]
    if (ends <= starts).any() or (starts[1:] < ends[:-1]).any() or (regions["mapping"] >= len(mappings)).any():
        raise Undecodable("its regions overlap, are empty, or belong to no mapping")
    values = dict(zip(SCALARS, scalars.tolist(), strict=True))
    if not values["start_ns"] < values["end_ns"] or values["sampling_ns"] <= 0:
        raise Undecodable("its times run backwards")
    regions.flags.writeable = False
    return Snapshot(
        pid=values["pid"], start_ns=values["start_ns"], end_ns=values["end_ns"], sampling_ns=values["sampling_ns"],
        regions=regions, mappings=mappings, rss_bytes=values["rss_bytes"], wss_bytes=values["wss_bytes"],
        idle_bytes=tuple(scalars[-len(IDLE_EDGES_NS):].tolist()), unknown_bytes=values["unknown_bytes"],
        unclearable_bytes=values["unclearable_bytes"], dropped=values["dropped"],
        cost=Cost(values["cpu_ns"], values["tax_ns"]))
