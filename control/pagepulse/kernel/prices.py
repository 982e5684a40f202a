# SPDX-License-Identifier: GPL-2.0-only
"""Prices: what reading, clearing and re-touching cost on this machine, measured on memory of our own in some 20 ms."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable

import numpy as np

from pagepulse.kernel.reader import Reader
from pagepulse.kernel.syscalls import MADV_COLD, MADV_NOHUGEPAGE, madvise, process_madvise
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, Mapping, WindowRead
from pagepulse.model.prices import Prices
from pagepulse.model.windows import Windows, popcount

_SIZE = 4 * CHUNK
_REPEATS = 5
_PATROL = 2048  # windows


def calibrate(reader: Reader) -> Prices:
    """Measure all prices; the best of some repeats each, since this machine does other things as well."""
    memory = np.frombuffer(mmap.mmap(-1, _SIZE + CHUNK), np.uint8)
    start = -(-memory.ctypes.data // CHUNK) * CHUNK
    madvise(start, _SIZE, MADV_NOHUGEPAGE)
    offset = start - memory.ctypes.data
    pages = memory[offset : offset + _SIZE : PAGE]
    pages[:] = 1
    pidfd = os.pidfd_open(os.getpid())
    try:
        return _measure(reader, pidfd, start, pages)
    finally:
        os.close(pidfd)


def _measure(reader: Reader, pidfd: int, start: int, pages: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Prices:
    own = reader.identity(pidfd)
    windows = start + np.arange(_SIZE // WINDOW, dtype=np.uint64) * np.uint64(WINDOW)
    whole = np.array([[start, _SIZE]], np.uint64)
    # The same pages once as one range, once as 32 ranges: the difference is the price of a range.
    parts = np.column_stack((windows, np.full(len(windows), WINDOW, np.uint64)))

    def touch() -> None:
        pages[:] += 1

    def clear(ranges: np.ndarray[tuple[int, int], np.dtype[np.uint64]]) -> None:
        process_madvise(pidfd, ranges, MADV_COLD)

    read_ns = _best(lambda: reader.windows(pidfd, windows, own))
    clear_ns = _best(lambda: clear(whole), before=touch)
    parts_ns = _best(lambda: clear(parts), before=touch)
    young_touch_ns, old_touch_ns = _best(touch, before=touch), _best(touch, before=lambda: clear(whole))
    count = _SIZE // PAGE
    return Prices(window_read_ns=read_ns / len(windows) + _learn_ns(), page_clear_ns=max(clear_ns / count, 1.0),
                  range_clear_ns=max((parts_ns - clear_ns) / len(parts), 100.0),
                  retouch_ns=max((old_touch_ns - young_touch_ns) / count, 10.0))


def _learn_ns() -> float:
    """What it takes to learn from the read of one window, of the many that a patrol reads at once."""
    mapping = Mapping(CHUNK, CHUNK + _PATROL * WINDOW, "[anon]")
    chunks = np.arange(mapping.start, mapping.end, CHUNK, dtype=np.uint64)
    windows, every = Windows([mapping], spread([mapping], chunks, _PATROL)), np.arange(_PATROL)
    read = WindowRead(np.zeros(_PATROL, np.uint64), windows.mask, np.ones(_PATROL, np.uint8), 0)

    def learn() -> None:
        seen = windows.observe(every, read)
        watched = popcount(seen.watched)
        windows.book_wakes(every, watched, popcount(seen.woken), watched.astype(np.float64))

    learn()
    return _best(learn) / _PATROL


def _best(work: Callable[[], object], before: Callable[[], None] | None = None) -> int:
    times = []
    for _ in range(_REPEATS):
        if before is not None:
            before()
        begun = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begun)
    return min(times)
