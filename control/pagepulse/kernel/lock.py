# SPDX-License-Identifier: GPL-2.0-only
"""Lock: one monitor for each target. Two would clear accessed bits under each other, and both would miss touches."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

from pagepulse.errors import PagepulseError
from pagepulse.kernel.process import Process

_ASK_TWICE_S = 0.005  # one that was bound a moment ago listens by then


class TargetLock:
    """Held while a target is watched. An abstract socket: it goes with us, whatever ends us, and leaves no file.

    Anybody can bind such a name. So one that neither root nor our own user holds counts for nothing: with it nobody
    can keep a target from being watched, only two of ours from seeing each other.

    Raises:
        PagepulseError: Another pagepulse watches this target.
        OSError: There is no descriptor left, for instance.
    """

    def __init__(self, process: Process) -> None:
        name = f"\0pagepulse/target/{process.pid}/{process.start_ticks}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(name)
            self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            if not _is_ours(name):
                return
            raise PagepulseError(f"process {process.pid} ({process.name}) is watched by another pagepulse already",
                                 why="two monitors of one target clear accessed bits under each other",
                                 hint="wait for it or end it; `pgrep -a pagepulse` shows it") from None

    def close(self) -> None:
        """Let another one have the target."""
        self._socket.close()


def _is_ours(name: str) -> bool:
    """Whether root, or our own user, listens at this name: by the kernel's word."""
    for pause_s in (0.0, _ASK_TWICE_S):
        time.sleep(pause_s)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as peer:
                peer.connect(name)
                _, uid, _ = struct.unpack("iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                return uid in {0, os.geteuid()}
        except OSError:  # nobody listens there, or more ask than it takes
            continue
    return False
