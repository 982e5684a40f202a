# SPDX-License-Identifier: GPL-2.0-only
"""How fast the reader is: every page of a target, and many windows of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from bench.table import Row
from pagepulse.kernel import layout
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Identity, Reader
from pagepulse.model.memory import CHUNK, PAGE, WINDOW
from workload import Workload, now_ns

TARGET = ("--size", "4GiB", "--hot", "512MiB", "--cpu", "0")
WINDOWS = 1000
LIMIT_MS = 0.5
"""The goal for both."""


def measure(repetitions: int) -> list[Row]:
    """Both, on a target of 4 GiB that is busy on processor 0, while we run on any other.

    Args:
        repetitions: Of each; the median is reported.
    """
    with Workload("throughput", *TARGET) as target, _away_from_the_target(), Programs() as programs:
        reader = Reader(programs)
        pidfd = os.pidfd_open(target.pid)
        try:
            start, end = target.ready["start"], target.ready["end"]
            return [_snapshot_row(reader, pidfd, start, end, repetitions),
                    _windows_row(reader, pidfd, start, end, repetitions)]
        finally:
            os.close(pidfd)


@contextmanager
def _away_from_the_target() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed - {0} or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _times_ms(work: Callable[[], None], repetitions: int) -> list[float]:
    work()  # our own memory is faulted in
    times_ms = []
    for _ in range(repetitions):
        begun_ns = now_ns()
        work()
        times_ms.append((now_ns() - begun_ns) / 1e6)
    return times_ms


def _row(what: str, times_ms: list[float]) -> Row:
    median_ms = statistics.median(times_ms)
    return Row(what, f"{median_ms:.3f} ms (best {min(times_ms):.3f})", f"<= {LIMIT_MS:g} ms", median_ms <= LIMIT_MS)


class PageSnapshot:
    """Every page of a range of small pages, into memory that is used again each time: fresh memory costs page faults.

    Args:
        start: First address.
        end: One past the last.
    """

    def __init__(self, start: int, end: int) -> None:
        self._first, self._end = start // CHUNK * CHUNK, end
        tables = -(-(end - self._first) // CHUNK)
        self._flags = np.empty((tables, layout.TABLE_ENTRIES), np.uint8)
        self._bit = np.empty_like(self._flags)
        self.present = np.empty(self._flags.shape, bool)
        """Shape (tables, 512): which pages are resident."""
        self.young = np.empty_like(self.present)
        """Shape (tables, 512): which have their accessed bit set."""

    def take(self, reader: Reader, pidfd: int, expected: Identity) -> None:
        """Read every page now."""
        row = 0
        for copy in reader.page_tables(pidfd, self._first, self._end, expected):
            rows = slice(row, row + len(copy.entries))
            np.copyto(self._flags[rows], copy.entries.view(np.uint8)[:, ::8])  # both bits are in the lowest byte
            row = rows.stop
        for flag, which in ((layout.PRESENT, self.present), (layout.ACCESSED, self.young)):
            np.not_equal(np.bitwise_and(self._flags, np.uint8(flag), out=self._bit), 0, out=which)


def _snapshot_row(reader: Reader, pidfd: int, start: int, end: int, repetitions: int) -> Row:
    expected = reader.identity(pidfd)
    snapshot = PageSnapshot(start, end)
    times_ms = _times_ms(lambda: snapshot.take(reader, pidfd, expected), repetitions)
    if np.count_nonzero(snapshot.present) < (end - start) // PAGE:
        raise RuntimeError("the snapshot does not see the target's memory")
    size_gib = (end - start) / 2**30
    return _row("every page read, present and young, per GiB", [time_ms / size_gib for time_ms in times_ms])


def _windows_row(reader: Reader, pidfd: int, start: int, end: int, repetitions: int) -> Row:
    expected = reader.identity(pidfd)
    aligned = -(-start // WINDOW) * WINDOW
    picks = np.random.default_rng(1).choice((end - aligned) // WINDOW, WINDOWS, replace=False)
    addresses = np.uint64(aligned) + np.sort(picks).astype(np.uint64) * np.uint64(WINDOW)
    if not reader.windows(pidfd, addresses, expected).present.all():
        raise RuntimeError("the windows do not see the target's memory")

    def read() -> None:
        reader.windows(pidfd, addresses, expected)

    return _row(f"{WINDOWS} windows of 64 pages read", _times_ms(read, repetitions))
