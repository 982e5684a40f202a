# SPDX-License-Identifier: GPL-2.0-only
"""Values of goals that other programs measure: a number in a file, or what a Unix socket says. Nothing is run.

A file is written anew by its program; a socket is connected to, says its number and closes. Whatever fails, the value
is not known, and a scheme whose goal is not known waits.
"""

from __future__ import annotations

import math
import os
import socket
import stat
import time
from collections.abc import Iterable

from pagepulse.policy.limits import Goal

_MOST_BYTES = 64
_PATIENCE_S = 0.05
"""For a socket, in all: the interval waits for it."""


def read_values(goals: Iterable[Goal]) -> dict[str, float]:
    """Path -> number, of the goals with a file or socket that can be read now."""
    values: dict[str, float] = {}
    for goal in goals:
        if goal.path is not None:
            try:
                text = _from_socket(goal.path) if goal.metric == "socket" else _from_file(goal.path)
                number = float(text)
            except (OSError, ValueError):
                continue
            if math.isfinite(number) and number >= 0:
                values[goal.path] = number
    return values


def _from_file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO would wait for its writer
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("no regular file")
        return _complete(os.read(descriptor, _MOST_BYTES + 1))
    finally:
        os.close(descriptor)


def _from_socket(path: str) -> bytes:
    ends = time.monotonic() + _PATIENCE_S
    data = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE_S)
        client.connect(path)
        while len(data) <= _MOST_BYTES:
            client.settimeout(max(ends - time.monotonic(), 0.001))
            received = client.recv(_MOST_BYTES + 1)
            if not received:
                break
            data += received
    return _complete(data)


def _complete(data: bytes) -> bytes:
    if len(data) > _MOST_BYTES:
        raise ValueError("no number")
    return data
