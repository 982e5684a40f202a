# SPDX-License-Identifier: GPL-2.0-only
"""Events: forks and exits of processes, as the kernel tells them over its process connector (linux/cn_proc.h).

The socket is read by hand, hundreds of events with one system call: some 1 us an event, where a general netlink library
takes tens. A filter in the kernel lets through only what concerns whole processes: threads cost nothing here, and execs
and new users only where somebody asks for them. Whose life began and ended between two looks is told of only if it left
children.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.errors import Unsupported
from pagepulse.kernel.syscalls import Inbox

_NETLINK_CONNECTOR, _CN_IDX_PROC, _CN_VAL_PROC = 11, 1, 1
_LISTEN, _DONE = 1, 3  # PROC_CN_MCAST_LISTEN, NLMSG_DONE
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BUFFER_BYTES = 8 << 20  # some 10 000 events, seconds of a storm of forks
_FORK, _EXEC, _USER, _EXIT = 0x1, 0x2, 0x4, 0x80000000
_CHANGES = (_EXEC, _USER)
_REQUEST = struct.Struct("<IHHII IIIIHH I")  # struct nlmsghdr, struct cn_msg, operation
_MESSAGES, _MESSAGE_BYTES = 256, 128  # taken at once; struct nlmsghdr, struct cn_msg and struct proc_event take 76
_EVENT_AT, _TIME_AT = 36, 44  # of `what` and `timestamp_ns` in a message
_PARENT_TGID, _CHILD_PID, _CHILD_TGID, _EXIT_PID, _EXIT_TGID = 56, 60, 64, 52, 56
_WORDS = [at // 4 for at in (_EVENT_AT, _TIME_AT, _TIME_AT + 4, _EXIT_PID, _PARENT_TGID, _CHILD_PID)]

# Classic BPF (linux/filter.h) loads words in network order, so a constant of this machine's order looks turned round.
_LOAD, _TAX, _IF_EQUAL, _IF_EQUAL_X, _RETURN = 0x20, 0x07, 0x15, 0x1D, 0x06
_FILTER = (
    (_LOAD, 0, 0, _EVENT_AT), (_IF_EQUAL, 1, 0, 0x01000000), (_IF_EQUAL, 4, 9, 0x00000080),
    (_LOAD, 0, 0, _CHILD_PID), (_TAX, 0, 0, 0), (_LOAD, 0, 0, _CHILD_TGID), (_IF_EQUAL_X, 4, 5, 0),
    (_LOAD, 0, 0, _EXIT_PID), (_TAX, 0, 0, 0), (_LOAD, 0, 0, _EXIT_TGID), (_IF_EQUAL_X, 0, 1, 0),
    (_RETURN, 0, 0, 0xFFFF), (_RETURN, 0, 0, 0),
)
_FILTER_WITH_CHANGES = (  # exec and new user have their ids where an exit has them
    (_LOAD, 0, 0, _EVENT_AT), (_IF_EQUAL, 3, 0, 0x01000000), (_IF_EQUAL, 6, 0, 0x00000080),
    (_IF_EQUAL, 5, 0, 0x02000000), (_IF_EQUAL, 4, 9, 0x04000000), *_FILTER[3:],
)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint16), ("steps", ctypes.c_void_p))


class Happened(NamedTuple):
    """One fork or exit of a process, or that it changed."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    pid: int
    parent: int | None
    """Of a fork: who forked. None: the process ended, or changed."""
    changed: bool = False
    """It became another program, or another user's."""


class ProcessEvents:
    """Forks and exits on this machine, from now on.

    Args:
        changes: Execs, and processes that become another user's, too.

    Raises:
        Unsupported: The kernel refuses, or says nothing (in a container).
    """

    def __init__(self, *, changes: bool = False) -> None:
        self._filter = _FILTER_WITH_CHANGES if changes else _FILTER
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _NETLINK_CONNECTOR)
        self._inbox = Inbox(self._socket.fileno(), _MESSAGES, _MESSAGE_BYTES)
        self._pending = select.poll()
        self._pending.register(self._socket, select.POLLIN)
        self.lost = 0
        """How often events were lost because nobody took them in time."""
        try:
            self._subscribe()
        except OSError as error:
            self.close()
            raise _refused(error.strerror or str(error)) from None
        if not self._hears_us():
            self.close()
            raise _refused("the kernel accepts the request and tells nothing: is this a container?")

    def _subscribe(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        steps = b"".join(struct.pack("<HBBI", *step) for step in self._filter)
        memory = ctypes.create_string_buffer(steps)
        program = _FilterProgram(len(self._filter), ctypes.addressof(memory))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
        self._socket.bind((0, _CN_IDX_PROC))
        self._socket.send(_REQUEST.pack(_REQUEST.size, _DONE, 0, 0, 0, _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0, _LISTEN))

    def _hears_us(self) -> bool:
        """Whether a child of our own is told of: the answer to the request says nothing of that."""
        with suppress(OSError):  # a child that finds no program to become, and ends: it was born all the same
            os.posix_spawn("/", ["/"], {})
        words = self._messages().view("<u4")
        is_ours = (words[:, _EVENT_AT // 4] == _FORK) & (words[:, _PARENT_TGID // 4] == os.getpid())
        return bool(is_ours.any())

    def fileno(self) -> int:
        """To wait on."""
        return self._socket.fileno()

    def drain(self) -> list[Happened]:
        """What happened since the last drain. If `lost` grew, there was more."""
        if not self._pending.poll(0):  # most of the time there is nothing, and asking is a seventh of trying
            return []
        messages = self._messages()
        return survivors(messages) if len(messages) else []

    def _messages(self) -> npt.NDArray[np.uint8]:
        batches = [np.empty((0, _MESSAGE_BYTES), np.uint8)]
        while True:
            try:
                batches.append(self._inbox.take().copy())
            except BlockingIOError:
                return np.concatenate(batches)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def survivors(messages: npt.NDArray[np.uint8]) -> list[Happened]:
    """What these messages tell, in order, without processes that were born and ended in them and left no children.

    Args:
        messages: As they came, shape (n, bytes).
    """
    events = messages.view("<u4")[:, _WORDS].tolist()  # some dozens: lists are quicker than numpy's set operations
    parents = {parent for kind, _, _, _, parent, _ in events if kind == _FORK}
    born: dict[int, int] = {}  # who has not ended yet, and where that is told
    changed: dict[int, list[int]] = {}
    brief: set[int] = set()
    for place, (kind, _, _, exited, _, child) in enumerate(events):
        if kind == _FORK:
            born[child] = place
        elif kind in _CHANGES:
            changed.setdefault(exited, []).append(place)
        elif exited in born and exited not in parents:
            brief |= {place, born.pop(exited), *changed.pop(exited, ())}
    return [Happened(high << 32 | low, child, parent) if kind == _FORK
            else Happened(high << 32 | low, exited, None, kind in _CHANGES)
            for place, (kind, low, high, exited, parent, child) in enumerate(events) if place not in brief]


def _refused(why: str) -> Unsupported:
    return Unsupported("the kernel tells us of no forks and exits", why=why,
                       hint="run as root (CAP_NET_ADMIN) outside of containers; without, /proc is polled")
