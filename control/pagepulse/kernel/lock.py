# SPDX-License-Identifier: GPL-2.0-only
"""Lock: one monitor for each target. Two would clear accessed bits under each other, and both would miss touches."""

from __future__ import annotations

import socket

from pagepulse.errors import PagepulseError
from pagepulse.kernel.process import Process


class TargetLock:
    """Held while a target is watched. An abstract socket: it goes with us, whatever ends us, and leaves no file.

    Raises:
        PagepulseError: Another pagepulse watches this target.
    """

    def __init__(self, process: Process) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(f"\0pagepulse/target/{process.pid}/{process.start_ticks}")
        except OSError:
            self._socket.close()
            raise PagepulseError(f"process {process.pid} ({process.name}) is watched by another pagepulse already",
                                 why="two monitors of one target clear accessed bits under each other",
                                 hint="wait for it or end it; `pgrep -a pagepulse` shows it") from None

    def close(self) -> None:
        """Let another one have the target."""
        self._socket.close()
