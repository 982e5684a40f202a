# SPDX-License-Identifier: GPL-2.0-only
"""Kept: why the kernel left a page where it was, from /proc/PID/pagemap and /proc/kpageflags.

MADV_COLD and MADV_PAGEOUT skip what several processes map and what is not on the LRU lists (mm/madvise.c,
madvise_cold_or_pageout_pte_range), and say nothing of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE

# Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _EXCLUSIVE, _PFN = 1 << 63, 1 << 56, (1 << 55) - 1
_UNEVICTABLE = 1 << 18

Pages = npt.NDArray[np.bool_]


class Kept(NamedTuple):
    """Of some pages, shape (n,) each."""

    shared: Pages
    """Another process maps it, too."""
    locked: Pages
    """Unevictable."""


def kept(pid: int, start: int, asked: Pages) -> Kept:
    """Why pages may have been skipped; nothing of those that are not asked for, or not resident, or cannot be read.

    Args:
        pid: The process.
        start: Address of the first page.
        asked: Which pages from there on, shape (n,).
    """
    nothing = Kept(np.zeros_like(asked), np.zeros_like(asked))
    try:
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap, \
                Path("/proc/kpageflags").open("rb", buffering=0) as kpageflags:
            entries = _words(pagemap, start // PAGE, asked.size)
            if len(entries) < asked.size:
                return nothing
            there = asked & ((entries & np.uint64(_PRESENT)) != 0)
            flags = _flags(kpageflags, entries & np.uint64(_PFN), there)
    except OSError:
        return nothing
    return Kept(there & ((entries & np.uint64(_EXCLUSIVE)) == 0), there & ((flags & np.uint64(_UNEVICTABLE)) != 0))


def _flags(file: BinaryIO, frames: npt.NDArray[np.uint64], wanted: Pages) -> npt.NDArray[np.uint64]:
    """Of the frames that are wanted: one read for each run of neighbours, for they often lie side by side."""
    flags = np.zeros(len(frames), np.uint64)
    index = np.flatnonzero(wanted)
    breaks = np.flatnonzero((np.diff(frames[index]) != 1) | (np.diff(index) != 1)) + 1
    for run in np.split(index, breaks):
        if run.size:
            words = _words(file, int(frames[run[0]]), run.size)
            flags[run[:len(words)]] = words
    return flags


def _words(file: BinaryIO, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Words of 8 bytes; fewer where the file ends."""
    file.seek(8 * first)
    data = file.read(8 * count)
    return np.frombuffer(data[: len(data) // 8 * 8], "<u8")
