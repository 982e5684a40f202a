# SPDX-License-Identifier: GPL-2.0-only
"""Reader: accessed bits of any process, read in place by the BPF programs. It knows processes only by pidfd."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.errors import PagepulseError, TargetGone, Unsupported
from pagepulse.kernel import layout
from pagepulse.kernel.program import Programs
from pagepulse.kernel.syscalls import MADV_NOHUGEPAGE, ProgramRun, madvise
from pagepulse.model.memory import CHUNK, PAGE, Addresses, WindowRead

_GIB = 1 << 30
_PFN_MASK = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst
_FRAME_MASK = (1 << 40) - 1  # of an entry shifted by a page: above are protection keys and NX
_CALIBRATION_PAGES = 16
_TRIES = 3  # of finding the direct map: a page of ours may be migrated between two looks at where it is
_DIRECT_MAP_SPAN_GIB = 64 * 1024  # the direct map is at most 64 TiB wide with 4-level page tables


class Identity(NamedTuple):
    """What a target is. Another mm or exec_id under the same pidfd is another program."""

    tgid: int
    mm: int
    exec_id: int


class TableCopy(NamedTuple):
    """Page tables as they stood; views into memory that the next copy overwrites."""

    start: int
    """Address that the first table maps."""
    entries: npt.NDArray[np.uint64]
    """Shape (n, 512). Meaningful where the parent leads to a table."""
    parents: npt.NDArray[np.uint64]
    """Shape (n,): the entries that lead to the tables; a leaf where a huge page maps all of it."""


class Reader:
    """Reads page tables through the loaded programs.

    Args:
        programs: The loaded programs; the caller closes them.

    Raises:
        Unsupported: The direct map cannot be found, or does not agree with /proc/self/pagemap.
    """

    def __init__(self, programs: Programs) -> None:
        request = programs.arrays["request"]
        self._base, self._start, self._pidfd, self._count, self._mm, self._exec_id, self._pgd, self._tgid = (
            request[name] for name in ("base", "start", "pidfd", "count", "mm", "exec_id", "pgd", "tgid"))
        self._windows = programs.arrays["windows"]
        self._tables = programs.arrays["tables"].reshape(-1, layout.TABLE_ENTRIES)
        self._parents = programs.arrays["parents"]
        self._read_windows = programs.runner("read_windows")
        self._copy_page_tables = programs.runner("copy_page_tables")
        self._copy_middle_tables = programs.runner("copy_middle_tables")
        self.direct_map = self._find_direct_map()

    def identity(self, pidfd: int) -> Identity:
        """Who is behind this pidfd now.

        Raises:
            TargetGone: It has no memory: it exited, or is a kernel thread.
        """
        self._pidfd[0], self._count[0] = pidfd, 0
        self._check(self._read_windows())
        return Identity(int(self._tgid[0]), int(self._mm[0]), int(self._exec_id[0]))

    def windows(self, pidfd: int, addresses: Addresses, expected: Identity) -> WindowRead:
        """Read windows of 64 pages: which pages are resident, which are young.

        Args:
            pidfd: The target.
            addresses: Shape (n,), multiples of WINDOW; any n.
            expected: Who it must be.

        Raises:
            TargetGone: It exited or became another program.
        """
        n = len(addresses)
        young, present, level = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint8)
        self._pidfd[0] = pidfd
        for first in range(0, n, layout.WINDOWS_PER_RUN):
            last = min(first + layout.WINDOWS_PER_RUN, n)
            rows = self._windows[: last - first]
            rows["address"] = addresses[first:last]
            self._count[0] = last - first
            self._check(self._read_windows(), expected)
            young[first:last], present[first:last], level[first:last] = rows["young"], rows["present"], rows["level"]
        return WindowRead(young, present, level, time.monotonic_ns())

    def page_tables(self, pidfd: int, start: int, end: int, expected: Identity) -> Iterator[TableCopy]:
        """Copy the page tables of a range, 512 MiB at a time: 1 to 2 ns a page.

        Args:
            pidfd: The target.
            start: First address, a multiple of CHUNK.
            end: One past the last address.
            expected: Who it must be.

        Raises:
            TargetGone: It exited or became another program.
        """
        return self._copy(self._copy_page_tables, pidfd, (start, end, CHUNK), expected)

    def middle_tables(self, pidfd: int, start: int, end: int, expected: Identity) -> Iterator[TableCopy]:
        """Copy the page middle directories of a range, one a GiB: as `page_tables`, start a multiple of 1 GiB."""
        return self._copy(self._copy_middle_tables, pidfd, (start, end, _GIB), expected)

    def _copy(self, run: ProgramRun, pidfd: int, span: tuple[int, int, int], expected: Identity) -> Iterator[TableCopy]:
        start, end, step = span
        while start < end:
            count = min(-(-(end - start) // step), layout.TABLES_PER_RUN)
            self._pidfd[0], self._start[0], self._count[0] = pidfd, start, count
            self._check(run(), expected)
            yield TableCopy(start, self._tables[:count], self._parents[:count])
            start += count * step

    def _check(self, status: int, expected: Identity | None = None) -> None:
        if status == layout.GONE:
            raise TargetGone("the target has exited")
        found = Identity(int(self._tgid[0]), int(self._mm[0]), int(self._exec_id[0]))
        if status == layout.CHANGED or (expected is not None and found != expected):
            raise TargetGone("the target has become another program (exec)")
        if status != layout.OK:
            raise PagepulseError("a BPF program failed", why=f"status {status}", hint="please report this")

    def _find_direct_map(self) -> int:
        """Virtual address of physical 0: the base at which walking our own pages gives the frames that pagemap gives.

        KASLR moves it by GiB steps; our own top table lies in the direct map, so the base is at or below it.
        """
        memory = np.frombuffer(mmap.mmap(-1, 2 * CHUNK), np.uint8)
        address = -(-memory.ctypes.data // CHUNK) * CHUNK  # all calibration pages in one page table
        madvise(address, CHUNK, MADV_NOHUGEPAGE)
        first = address - memory.ctypes.data
        memory[first : first + _CALIBRATION_PAGES * PAGE : PAGE] = 1
        pidfd = os.pidfd_open(os.getpid())
        try:
            own = self.identity(pidfd)
            if own.tgid != os.getpid():
                raise Unsupported("the reader cannot find a process by its pidfd",
                                  why=f"asked for {os.getpid()}, found {own.tgid}: is this a PID namespace?",
                                  hint="run pagepulse in the initial PID namespace, not in a container")
            pgd_gib = int(self._pgd[0]) // _GIB
            for _ in range(_TRIES):
                frames = _own_frames(address, _CALIBRATION_PAGES)
                for step in range(_DIRECT_MAP_SPAN_GIB):
                    self._base[0] = (pgd_gib - step) * _GIB
                    if self._frames_at(pidfd, address, own) == frames:
                        return int(self._base[0])
        finally:
            os.close(pidfd)
        raise Unsupported("the kernel's direct map cannot be found",
                          why="no base gives the page frames that /proc/self/pagemap gives",
                          hint="a Xen PV guest or a confidential VM is not supported; please report others")

    def _frames_at(self, pidfd: int, address: int, own: Identity) -> list[int]:
        copy = next(self.page_tables(pidfd, address, address + 1, own))
        return [int(entry) >> 12 & _FRAME_MASK for entry in copy.entries[0, :_CALIBRATION_PAGES]]


def _own_frames(address: int, pages: int) -> list[int]:
    with open("/proc/self/pagemap", "rb") as pagemap:  # noqa: PTH123 - a seek and one read
        pagemap.seek(address // PAGE * 8)
        frames = [int(entry) & _PFN_MASK for entry in np.frombuffer(pagemap.read(pages * 8), "<u8")]
    if not all(frames):
        raise Unsupported("/proc/self/pagemap hides page frames", why="CAP_SYS_ADMIN is missing",
                          hint="run as root")
    return frames
