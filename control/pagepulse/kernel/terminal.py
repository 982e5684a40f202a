# SPDX-License-Identifier: GPL-2.0-only
"""Terminal: single keys, without waiting for them, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Self


class Keys:
    """Keys of the controlling terminal, if standard input is one; else there are none.

    A context manager: on every way out the terminal's settings are what they were.
    """

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin is not None and not sys.stdin.closed else -1
        self._saved = termios.tcgetattr(self._fd) if self._fd >= 0 and os.isatty(self._fd) else None

    def __enter__(self) -> Self:
        if self._saved is not None:
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._saved is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def pressed(self) -> str:
        """What was typed since the last call; does not wait."""
        if self._saved is None or not select.select([self._fd], [], [], 0)[0]:
            return ""
        return os.read(self._fd, 64).decode(errors="replace")

    def wait(self, patience_s: float) -> str:
        """What was typed, as soon as something is, or nothing after so long."""
        if self._saved is None:
            time.sleep(patience_s)
            return ""
        select.select([self._fd], [], [], patience_s)
        return self.pressed()
