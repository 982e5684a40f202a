# SPDX-License-Identifier: GPL-2.0-only
"""Capabilities: what a daemon keeps of root once it is set up, and the promise never to get more (capabilities(7))."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

KEPT = {
    "CAP_DAC_OVERRIDE": (1, "to open the files of other users' processes under /proc"),
    "CAP_NET_ADMIN": (12, "to hear of forks and exits, and to ask for delays"),
    "CAP_SYS_PTRACE": (19, "to examine targets"),
    "CAP_SYS_ADMIN": (21, "to see page frames (/proc/PID/pagemap)"),
    "CAP_SYS_NICE": (23, "to advise on targets' memory, and to move it"),
}
"""Name -> number (include/uapi/linux/capability.h), and what it is for. Found by leaving out each in turn."""

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_VERSION_3 = 0x20080522
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_only(numbers: frozenset[int]) -> None:
    """Give up all other capabilities for good: now, in children, and through any program that is run.

    To be called while there is one thread: each has its own.

    Args:
        numbers: Of capabilities; those that we lack anyway are not gained.

    Raises:
        OSError: The kernel refuses.
    """
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in set(range(last + 1)) - numbers:
        _check(_LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _check(_LIBC.capget(ctypes.byref(header), data))
    for index in range(2):
        kept = sum(1 << number - 32 * index for number in numbers if number // 32 == index)
        data[index].effective &= kept
        data[index].permitted &= kept
        data[index].inheritable = 0
    _check(_LIBC.capset(ctypes.byref(header), data))


def _check(result: int) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
