# SPDX-License-Identifier: GPL-2.0-only
"""How fast the reader is: every page of a target, and many windows of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bench.table import Row, row_at_most
from pagepulse.kernel import layout
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Identity, Reader
from pagepulse.model.memory import CHUNK, WINDOW
from workload import Workload, now_ns

TARGET = ("--size", "4GiB", "--hot", "512MiB", "--cpu", "0")
WINDOWS = 1000


def measure(repetitions: int) -> list[Row]:
    """Both, on a target of 4 GiB that is busy on another processor.

    Args:
        repetitions: Of each; the median is reported.
    """
    with Workload("throughput", *TARGET) as target, Programs() as programs:
        reader = Reader(programs)
        pidfd = os.pidfd_open(target.pid)
        try:
            start, end = target.ready["start"], target.ready["end"]
            return [_snapshot_row(reader, pidfd, start, end, repetitions),
                    _windows_row(reader, pidfd, start, end, repetitions)]
        finally:
            os.close(pidfd)


def _median_ms(work: Callable[[], object], repetitions: int) -> float:
    work()  # fault in our own memory
    times_ms = []
    for _ in range(repetitions):
        begun_ns = now_ns()
        work()
        times_ms.append((now_ns() - begun_ns) / 1e6)
    return statistics.median(times_ms)


def page_snapshot(reader: Reader, pidfd: int, start: int, end: int,
                  expected: Identity) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pages of a range are resident and which young, shape (pages,) each. For memory of small pages."""
    first = start // CHUNK * CHUNK
    tables = -(-(end - first) // CHUNK)
    present = np.empty((tables, layout.TABLE_ENTRIES), bool)
    young = np.empty((tables, layout.TABLE_ENTRIES), bool)
    row = 0
    for copy in reader.page_tables(pidfd, first, end, expected):
        rows = slice(row, row + len(copy.entries))
        np.not_equal(copy.entries & np.uint64(layout.PRESENT), 0, out=present[rows])
        np.not_equal(copy.entries & np.uint64(layout.ACCESSED), 0, out=young[rows])
        row = rows.stop
    return present.reshape(-1), young.reshape(-1)


def _snapshot_row(reader: Reader, pidfd: int, start: int, end: int, repetitions: int) -> Row:
    expected = reader.identity(pidfd)
    present, _ = page_snapshot(reader, pidfd, start, end, expected)
    pages = np.count_nonzero(present)
    if pages < (end - start) // layout.TABLE_ENTRIES // 8:
        raise RuntimeError("the snapshot does not see the target's memory")
    took_ms = _median_ms(lambda: page_snapshot(reader, pidfd, start, end, expected), repetitions)
    return row_at_most("every page read, present and young, per GiB", took_ms / ((end - start) / 2**30), 0.5, "ms")


def _windows_row(reader: Reader, pidfd: int, start: int, end: int, repetitions: int) -> Row:
    expected = reader.identity(pidfd)
    aligned = -(-start // WINDOW) * WINDOW
    picks = np.random.default_rng(1).choice((end - aligned) // WINDOW, WINDOWS, replace=False)
    addresses = np.uint64(aligned) + np.sort(picks).astype(np.uint64) * np.uint64(WINDOW)
    if not reader.windows(pidfd, addresses, expected).present.all():
        raise RuntimeError("the windows do not see the target's memory")
    took_ms = _median_ms(lambda: reader.windows(pidfd, addresses, expected), repetitions)
    return row_at_most(f"{WINDOWS} windows of 64 pages read", took_ms, 0.5, "ms")
