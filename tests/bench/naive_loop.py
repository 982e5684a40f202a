# SPDX-License-Identifier: GPL-2.0-only
"""For contrast: DAMON's cadence with our primitive. Every 5 ms, 200 single pages are cleared with MADV_COLD.

    python -m bench.naive_loop PID

The clears alone; a monitor of this kind would read as well. It ends with its target, or by a signal.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np

SYS_PROCESS_MADVISE, MADV_COLD = 440, 20
REGIONS, SAMPLING_S, IOVECS = 200, 0.005, 128
PAGE = 4096


def anonymous_pages(pid: int) -> np.ndarray:
    """Addresses of all pages in private writable mappings, shape (n,)."""
    spans = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, permissions = line.split()[:2]
        first, end = (int(part, 16) for part in addresses.split("-"))
        if permissions == "rw-p":
            spans.append(np.arange(first, end, PAGE, dtype=np.uint64))
    return np.concatenate(spans)


def main() -> int:
    """Clear until the target is gone."""
    pid = int(sys.argv[1])
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    pidfd, pages, rng = os.pidfd_open(pid), anonymous_pages(pid), np.random.default_rng(1)
    vectors = np.full((REGIONS, 2), PAGE, np.uint64)
    due = time.monotonic()
    print("ready", flush=True)
    while Path(f"/proc/{pid}").exists():
        vectors[:, 0] = np.sort(pages[rng.integers(len(pages), size=REGIONS)])
        for first in range(0, REGIONS, IOVECS):
            part = vectors[first:first + IOVECS]
            syscall(SYS_PROCESS_MADVISE, pidfd, ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(len(part)),
                    MADV_COLD, 0)
        due += SAMPLING_S
        time.sleep(max(0.0, due - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
