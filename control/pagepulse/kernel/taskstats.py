# SPDX-License-Identifier: GPL-2.0-only
"""Taskstats: for how long a process waited for memory (Documentation/accounting/delay-accounting.rst).

Asked over generic netlink by hand: some 20 us a process where a general library takes 400, and with the two delays that
such libraries leave out, reclaim and thrashing.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from pagepulse.errors import Unsupported
from pagepulse.model.system import Delays

_SYSCTL = Path("/proc/sys/kernel/task_delayacct")
_GENERIC, _CONTROL, _REQUEST, _ERROR = 16, 0x10, 1, 2  # NETLINK_GENERIC, GENL_ID_CTRL, NLM_F_REQUEST, NLMSG_ERROR
_GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 3, 1, 2  # linux/genetlink.h
_GET, _OF_PROCESS, _AGGREGATE, _STATS = 1, 2, 5, 3  # linux/taskstats.h
_HEAD, _ATTRIBUTE = struct.Struct("<IHHIIBBH"), struct.Struct("<HH")
_SWAPIN, _FREEPAGES, _THRASHING = 56, 320, 336  # offsets in struct taskstats, *_delay_total
_OLDEST, _MOVED = 9, 15  # versions: the first with thrashing; the only one in which the columns moved


class TaskDelays:
    """Asks the kernel for delays.

    Raises:
        Unsupported: The kernel has no taskstats, or our privileges do not reach.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC)
        self._socket.settimeout(1.0)
        try:
            answer = self._ask(_CONTROL, _GET_FAMILY, _FAMILY_NAME, b"TASKSTATS\0")
            self._family = struct.unpack("<H", _attributes(answer)[_FAMILY_ID])[0]
        except (OSError, KeyError) as error:
            self._socket.close()
            raise Unsupported("the kernel does not tell for how long processes wait",
                              why=f"no taskstats: {error}", hint="it needs CONFIG_TASKSTATS") from None

    @staticmethod
    def hint() -> str:
        """What to tell the user where the kernel does not count delays now; empty where it does."""
        try:
            enabled = _SYSCTL.read_text().strip() != "0"
        except OSError:
            return "this kernel has no switch for delay accounting"
        return "" if enabled else "waits for memory are not counted: `sysctl kernel.task_delayacct=1` starts it"

    def of(self, pid: int) -> Delays | None:
        """Delays of all threads of a process since they began; None once it has exited, or of an unknown layout."""
        try:
            answer = self._ask(self._family, _GET, _OF_PROCESS, struct.pack("<I", pid))
            stats = _attributes(_attributes(answer)[_AGGREGATE])[_STATS]
            version = struct.unpack_from("<H", stats)[0]
            if version < _OLDEST or version == _MOVED:
                return None
            return Delays(*(struct.unpack_from("<Q", stats, at)[0] for at in (_SWAPIN, _FREEPAGES, _THRASHING)))
        except (OSError, KeyError, struct.error):
            return None

    def _ask(self, family: int, command: int, attribute: int, value: bytes) -> bytes:
        """The attributes of the answer."""
        body = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), attribute) + value
        body += bytes(-len(body) % 4)
        self._socket.send(_HEAD.pack(_HEAD.size + len(body), family, _REQUEST, 0, 0, command, 1, 0) + body)
        answer = self._socket.recv(16384)
        size, kind = struct.unpack_from("<IH", answer)
        if kind == _ERROR:
            code = -struct.unpack_from("<i", answer, 16)[0]
            raise OSError(code, "refused")
        return answer[_HEAD.size:size]

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()


def _attributes(data: bytes) -> dict[int, bytes]:
    """The netlink attributes in this, by kind."""
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) // 4 * 4
    return found
