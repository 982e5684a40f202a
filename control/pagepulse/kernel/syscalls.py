# SPDX-License-Identifier: GPL-2.0-only
"""System calls that Python has no function for, each with its errno turned into an OSError."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket

import numpy as np
import numpy.typing as npt

# x86-64 numbers: arch/x86/entry/syscalls/syscall_64.tbl
_SYS_MADVISE, _SYS_MOVE_PAGES, _SYS_PERF_EVENT_OPEN, _SYS_BPF, _SYS_PROCESS_MADVISE = 28, 279, 298, 321, 440
_SYS_RECVMMSG = 299
_MPOL_MF_MOVE = 2

MADV_WILLNEED, MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT, MADV_COLLAPSE = 3, 15, 20, 21, 25
IOVECS_PER_CALL = 128
"""From Linux 6.15 on the mmap lock is held through all iovecs of a call: keep that short."""

_BPF_MAP_UPDATE_ELEM, _BPF_MAP_DELETE_ELEM, _BPF_MAP_LOOKUP_AND_DELETE_BATCH = 2, 3, 25
_BPF_PROG_TEST_RUN, _BPF_RAW_TRACEPOINT_OPEN = 10, 17

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def _call(number: int, *arguments: object) -> int:
    result: int = _syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class _TestRun(ctypes.Structure):
    _fields_ = (("prog_fd", ctypes.c_uint32), ("retval", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 64))


class ProgramRun:
    """A raw-tracepoint program that is run on demand. Prepared once: a run is a single system call, 1 to 2 us."""

    def __init__(self, program_fd: int) -> None:
        self._attributes = _TestRun(prog_fd=program_fd)
        self._arguments = (ctypes.c_long(_SYS_BPF), ctypes.c_long(_BPF_PROG_TEST_RUN),
                           ctypes.byref(self._attributes), ctypes.c_size_t(ctypes.sizeof(self._attributes)))

    def __call__(self) -> int:
        """Run the program; its return value.

        Raises:
            OSError: The kernel refused to run it.
        """
        if _syscall(*self._arguments) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return int(self._attributes.retval)


class _Batch(ctypes.Structure):
    _fields_ = (("in_batch", ctypes.c_uint64), ("out_batch", ctypes.c_uint64), ("keys", ctypes.c_uint64),
                ("values", ctypes.c_uint64), ("count", ctypes.c_uint32), ("map_fd", ctypes.c_uint32),
                ("elem_flags", ctypes.c_uint64), ("flags", ctypes.c_uint64))


class HashDrain:
    """Takes everything out of a BPF hash map of 64-bit keys and values, which nobody writes to meanwhile.

    Args:
        map_fd: The map.
        size: Its max_entries.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        self._keys, self._values = np.empty(size, np.uint64), np.empty(size, np.uint64)
        self._token = ctypes.c_uint64()
        self._size = size
        self._batch = _Batch(out_batch=ctypes.addressof(self._token), keys=self._keys.ctypes.data,
                             values=self._values.ctypes.data, map_fd=map_fd)

    def __call__(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Keys and values, shape (n,) each; they and their places in the map are free again.

        Raises:
            OSError: The kernel refused.
        """
        batch = self._batch
        batch.count = self._size
        result = _syscall(ctypes.c_long(_SYS_BPF), ctypes.c_long(_BPF_MAP_LOOKUP_AND_DELETE_BATCH), ctypes.byref(batch),
                          ctypes.c_size_t(ctypes.sizeof(batch)))
        error = ctypes.get_errno() if result < 0 else 0
        # ENOENT says that the last bucket was reached: the normal end. After other errors the count may be our own.
        if error not in {0, errno.ENOENT}:
            raise OSError(error, os.strerror(error))
        return self._keys[: batch.count].copy(), self._values[: batch.count].copy()


class _Element(ctypes.Structure):
    _fields_ = (("map_fd", ctypes.c_uint32), ("pad", ctypes.c_uint32), ("key", ctypes.c_uint64),
                ("value", ctypes.c_uint64), ("flags", ctypes.c_uint64))


class HashEntries:
    """Single entries of a BPF hash map of 64-bit keys and values.

    Args:
        map_fd: The map.
    """

    def __init__(self, map_fd: int) -> None:
        self._key, self._value = ctypes.c_uint64(), ctypes.c_uint64()
        self._element = _Element(map_fd=map_fd, key=ctypes.addressof(self._key))

    def put(self, key: int, value: int) -> None:
        """Add an entry, or change it.

        Raises:
            OSError: The map is full (E2BIG), or the kernel refused.
        """
        self._value.value = value
        self._element.value = ctypes.addressof(self._value)
        self._do(_BPF_MAP_UPDATE_ELEM, key)

    def remove(self, key: int) -> None:
        """Take an entry out.

        Raises:
            OSError: There is none (ENOENT), or the kernel refused.
        """
        self._element.value = 0  # the kernel refuses what it does not look at
        self._do(_BPF_MAP_DELETE_ELEM, key)

    def _do(self, command: int, key: int) -> None:
        self._key.value = key
        _call(_SYS_BPF, ctypes.c_long(command), ctypes.byref(self._element), ctypes.c_size_t(ctypes.sizeof(_Element)))


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("name", ctypes.c_void_p), ("name_size", ctypes.c_uint32), ("vectors", ctypes.c_void_p),
                ("vector_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t),
                ("flags", ctypes.c_int), ("pad", ctypes.c_int), ("size", ctypes.c_uint32))


class Inbox:
    """Takes many datagrams out of a socket with one system call.

    Args:
        fd: The socket.
        count: How many at once.
        size_bytes: What is kept of each.
    """

    def __init__(self, fd: int, count: int, size_bytes: int) -> None:
        self._buffer = np.zeros((count, size_bytes), np.uint8)
        start = self._buffer.ctypes.data
        self._vectors = np.array([(start + place * size_bytes, size_bytes) for place in range(count)], np.uint64)
        vectors = self._vectors.ctypes.data
        self._messages = (_Message * count)(*(_Message(vectors=vectors + place * 16, vector_count=1)
                                              for place in range(count)))
        self._arguments = (ctypes.c_long(_SYS_RECVMMSG), ctypes.c_int(fd), ctypes.byref(self._messages),
                           ctypes.c_uint(count), ctypes.c_int(socket.MSG_DONTWAIT), ctypes.c_void_p(None))

    def take(self) -> npt.NDArray[np.uint8]:
        """The next ones, shape (n, size_bytes): a view that the next call overwrites.

        Raises:
            BlockingIOError: There are none.
            OSError: The socket failed.
        """
        count = _syscall(*self._arguments)
        if count < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return self._buffer[:count]


class _RawTracepoint(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("prog_fd", ctypes.c_uint32), ("pad", ctypes.c_uint32))


def open_raw_tracepoint(name: str, program_fd: int) -> int:
    """Attach a program to a raw tracepoint; closing the descriptor detaches it."""
    attributes = _RawTracepoint(name=name.encode(), prog_fd=program_fd)
    return _call(_SYS_BPF, ctypes.c_long(_BPF_RAW_TRACEPOINT_OPEN), ctypes.byref(attributes),
                 ctypes.c_size_t(ctypes.sizeof(attributes)))


class _PerfEvent(ctypes.Structure):
    """The first 64 bytes of struct perf_event_attr (PERF_ATTR_SIZE_VER0), which is all that a kprobe needs."""

    _fields_ = (("type", ctypes.c_uint32), ("size", ctypes.c_uint32), ("config", ctypes.c_uint64),
                ("sample_period", ctypes.c_uint64), ("sample_type", ctypes.c_uint64), ("read_format", ctypes.c_uint64),
                ("flags", ctypes.c_uint64), ("wakeup_events", ctypes.c_uint32), ("bp_type", ctypes.c_uint32),
                ("config1", ctypes.c_uint64), ("config2", ctypes.c_uint64))


_PERF_EVENT_IOC_ENABLE, _PERF_EVENT_IOC_SET_BPF, _PERF_FLAG_FD_CLOEXEC = 0x2400, 0x40042408, 8


def open_kprobe(function: str, program_fd: int, pmu_type: int) -> int:
    """Attach a program to the entry of a kernel function; closing the descriptor detaches it.

    Args:
        function: Name of the kernel function.
        program_fd: A program of type kprobe.
        pmu_type: What /sys/bus/event_source/devices/kprobe/type says.
    """
    name = ctypes.create_string_buffer(function.encode())
    event = _PerfEvent(type=pmu_type, size=ctypes.sizeof(_PerfEvent), config1=ctypes.addressof(name))
    online = min(os.sched_getaffinity(0))  # the probe is everywhere, but the event wants a CPU that is there
    fd = _call(_SYS_PERF_EVENT_OPEN, ctypes.byref(event), ctypes.c_int(-1), ctypes.c_int(online), ctypes.c_int(-1),
               ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC))
    try:
        fcntl.ioctl(fd, _PERF_EVENT_IOC_SET_BPF, program_fd)
        fcntl.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def process_madvise(pidfd: int, iovecs: npt.NDArray[np.uint64], advice: int) -> int:
    """Advise on ranges of another process.

    Args:
        pidfd: The process.
        iovecs: Shape (n, 2), n <= IOVECS_PER_CALL: address and length in bytes.
        advice: MADV_*.

    Returns:
        Bytes that the kernel went through, fewer than asked where it stopped at a range that it refuses.

    Raises:
        OSError: It refused the first range already.
    """
    return _call(_SYS_PROCESS_MADVISE, ctypes.c_int(pidfd), ctypes.c_void_p(iovecs.ctypes.data),
                 ctypes.c_size_t(len(iovecs)), ctypes.c_int(advice), ctypes.c_uint(0))


def move_pages(pid: int, pages: npt.NDArray[np.uint64], node: int | None) -> npt.NDArray[np.int32]:
    """Move pages of another process to a NUMA node, or ask where they are.

    Args:
        pid: The process.
        pages: Addresses, contiguous, shape (n,).
        node: Where to; None: only ask.

    Returns:
        Shape (n,): the node that each page is on, or a negative errno.

    Raises:
        OSError: The call as a whole was refused.
    """
    nodes = None if node is None else np.full(len(pages), node, np.int32)
    status = np.full(len(pages), -1, np.int32)
    _call(_SYS_MOVE_PAGES, ctypes.c_int(pid), ctypes.c_ulong(len(pages)), ctypes.c_void_p(pages.ctypes.data),
          ctypes.c_void_p(None if nodes is None else nodes.ctypes.data), ctypes.c_void_p(status.ctypes.data),
          ctypes.c_int(_MPOL_MF_MOVE))
    return status


def madvise(address: int, size_bytes: int, advice: int) -> int:
    """Advise on our own memory."""
    return _call(_SYS_MADVISE, ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), ctypes.c_int(advice))
