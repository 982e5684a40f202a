# SPDX-License-Identifier: GPL-2.0-only
"""Refs: /proc/PID/clear_refs, which clears accessed bits where MADV_COLD does not: of pages that several processes map.

It clears all of a process, or all of it that has a file behind it, shared memory included; no smaller part. It holds
the target's mmap lock meanwhile (fs/proc/task_mmu.c), so that the target waits where it maps memory or faults, and it
does not flush the TLB: what stays in there looks untouched.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from pagepulse.errors import PagepulseError, TargetGone

TLB_NS = 1_000_000_000
"""A loop over 0.5 MiB was seen after this time in every trial, after a tenth of it to a part (README)."""

_ALL, _WITH_FILE = b"1", b"3"  # Documentation/filesystems/proc.rst


class ClearRefs:
    """Clears the accessed bits of one process at once.

    Args:
        pid: The process.
        with_file_only: Leave anonymous memory alone.

    Raises:
        TargetGone: The process has exited.
        PagepulseError: This kernel has no such file.
    """

    def __init__(self, pid: int, *, with_file_only: bool) -> None:
        self._pid = pid
        self.with_file_only = with_file_only
        self.calls = 0
        self.longest_ns = 0
        """How long the target's mmap lock was held at most."""
        try:
            self._fd = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ESRCH or not Path(f"/proc/{pid}").exists():
                raise TargetGone(f"process {pid} has exited") from None
            raise PagepulseError(f"accessed bits of process {pid} cannot be cleared as a whole",
                                 why=f"/proc/{pid}/clear_refs: {error.strerror}",
                                 hint="`--clear cold` does without it") from None

    def clear(self) -> None:
        """Clear them.

        Raises:
            TargetGone: The process has exited.
        """
        begun_ns = time.monotonic_ns()
        try:
            os.write(self._fd, _WITH_FILE if self.with_file_only else _ALL)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise TargetGone(f"process {self._pid} has exited") from None
            raise
        self.calls += 1
        self.longest_ns = max(self.longest_ns, time.monotonic_ns() - begun_ns)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
