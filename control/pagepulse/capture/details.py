# SPDX-License-Identifier: GPL-2.0-only
"""What stands beside a snapshot, as bytes and back: whose it is, names, waiting, page faults, shared ranges."""

from __future__ import annotations

import json
import struct
import zlib
from itertools import chain

import numpy as np

from pagepulse.capture.codec import Undecodable, inflated
from pagepulse.model.faults import Faults
from pagepulse.model.snapshot import SharedRange
from pagepulse.model.system import Delays, Pressure

_PID, _DELAYS, _PRESSURE = struct.Struct("<I"), struct.Struct("<QQQ"), struct.Struct("<QQdd")
_FAULTS = np.dtype([("region", "<u4"), ("faults", "<u8")])


def encode_pid(pid: int) -> bytes:
    """The payload of a PROC chunk."""
    return _PID.pack(pid)


def decode_pid(payload: bytes) -> int:
    """The process of a PROC chunk.

    Raises:
        Undecodable: The payload is not what `encode_pid` writes.
    """
    if len(payload) != _PID.size:
        raise Undecodable("a process is not named by its id")
    pid: int = _PID.unpack(payload)[0]
    return pid


def encode_delays(delays: Delays) -> bytes:
    """The payload of a WAIT chunk."""
    return _DELAYS.pack(delays.swapin_ns, delays.reclaim_ns, delays.thrashing_ns)


def decode_delays(payload: bytes) -> Delays:
    """The delays of a WAIT chunk.

    Raises:
        Undecodable: The payload is not what `encode_delays` writes.
    """
    if len(payload) != _DELAYS.size:
        raise Undecodable("delays are cut")
    return Delays(*_DELAYS.unpack(payload))


def encode_pressure(pressure: Pressure) -> bytes:
    """The payload of a PRES chunk."""
    return _PRESSURE.pack(pressure.some_us, pressure.full_us, pressure.some_avg10, pressure.full_avg10)


def decode_pressure(payload: bytes) -> Pressure:
    """The pressure of a PRES chunk.

    Raises:
        Undecodable: The payload is not what `encode_pressure` writes.
    """
    if len(payload) != _PRESSURE.size:
        raise Undecodable("pressure is cut")
    return Pressure(*_PRESSURE.unpack(payload))


def encode_faults(faults: Faults) -> bytes:
    """The payload of a FALT chunk: the regions that had any, by their place, and how many."""
    rows = np.zeros(np.count_nonzero(faults), _FAULTS)
    rows["region"] = np.flatnonzero(faults)
    rows["faults"] = faults[faults != 0]
    return rows.tobytes()


def decode_faults(payload: bytes, regions: int) -> Faults:
    """Of a FALT chunk: page faults in each of so many regions, shape (regions,).

    Raises:
        Undecodable: The payload is not what `encode_faults` writes.
    """
    if len(payload) % _FAULTS.itemsize:
        raise Undecodable("page faults are cut")
    rows = np.frombuffer(payload, _FAULTS)
    if (rows["region"] >= regions).any():
        raise Undecodable("page faults are in a region that is not there")
    faults = np.zeros(regions, np.uint64)
    faults[rows["region"]] = rows["faults"]
    return faults


def encode_shared(shared: tuple[SharedRange, ...]) -> bytes:
    """The payload of a SHAR chunk."""
    return zlib.compress(json.dumps(shared).encode(), 1, -15)


def decode_shared(payload: bytes) -> tuple[SharedRange, ...]:
    """The ranges of a SHAR chunk.

    Raises:
        Undecodable: The payload is not what `encode_shared` writes.
    """
    try:
        ranges = [SharedRange(int(start), int(end), str(file), int(offset))
                  for start, end, file, offset in json.loads(inflated(payload))]
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        raise Undecodable("shared ranges make no sense") from None
    if any(not 0 <= one.start < one.end < 1 << 64 for one in ranges):
        raise Undecodable("shared ranges are empty or run backwards")
    return tuple(ranges)


def encode_names(mappings: tuple[str, ...]) -> bytes:
    """The payload of a MAPS chunk: names without a character that could end one early, NUL between them."""
    return zlib.compress("".join(chain.from_iterable((name, "\0") for name in mappings))
                         .encode("utf-8", "surrogateescape"), 1, -15)


def decode_names(payload: bytes) -> tuple[str, ...]:
    """The names of a MAPS chunk.

    Raises:
        Undecodable: The payload is not what `encode_names` writes.
    """
    *names, rest = inflated(payload).decode("utf-8", "surrogateescape").split("\0")
    if rest:
        raise Undecodable("the last mapping's name is cut")
    return tuple(names)
