# SPDX-License-Identifier: GPL-2.0-only
"""Notify: what systemd wants to know of a service (sd_notify(3)), and lines for its journal (sd-daemon(3))."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from enum import IntEnum


class Priority(IntEnum):
    """As syslog(3) has them."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


def log(priority: Priority, text: str) -> None:
    """A line on standard error; with its priority in front where the journal reads it."""
    prefix = f"<{priority}>" if "JOURNAL_STREAM" in os.environ else "pagepulse: "
    with suppress(OSError):  # nobody reads it any more
        print("\n".join(f"{prefix}{line}" for line in text.splitlines()), file=sys.stderr, flush=True)


class Notifier:
    """Tells systemd how the service is; where nobody asked (no NOTIFY_SOCKET), it tells nobody."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        timeout_us, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        is_ours = timeout_us.isdecimal() and pid in {"", str(os.getpid())}
        self.watchdog_ns = int(timeout_us) * 1000 // 3 if is_ours else None
        """How often to say that all is well; None: nobody waits for it."""

    def ready(self, status: str) -> None:
        """The service is at work, again or for the first time."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self, status: str) -> None:
        """All is well."""
        self._tell("WATCHDOG=1", f"STATUS={status}")

    def stopping(self) -> None:
        """The service comes to its end."""
        self._tell("STOPPING=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A supervisor that does not listen must not stop us.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer:
            peer.sendto("\n".join(lines).encode(), address)
