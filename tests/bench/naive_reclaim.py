# SPDX-License-Identifier: GPL-2.0-only
"""A rival: page out every mapping that nobody touched for N seconds, by /proc/PID/clear_refs and smaps.

    python -m bench.naive_reclaim PID SECONDS

What a shell script would do. smaps tells of a mapping how much of it was referenced, not what, so a mapping goes whole
or not at all. It ends with its target, or by a signal.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
import time
from pathlib import Path

SYS_PROCESS_MADVISE, MADV_PAGEOUT = 440, 21
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (.{4}) .*?^Referenced:\s+(\d+) kB", re.MULTILINE | re.DOTALL)


def unreferenced(smaps: str) -> list[tuple[int, int]]:
    """Start and end of the private writable mappings of which nothing was referenced."""
    return [(int(found[1], 16), int(found[2], 16)) for found in _MAPPING.finditer(smaps)
            if found[3] == "rw-p" and found[4] == "0"]


def main() -> int:
    """Look, page out, clear; again and again."""
    pid, seconds = int(sys.argv[1]), float(sys.argv[2])
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    place, pidfd = Path(f"/proc/{pid}"), os.pidfd_open(pid)
    print("ready", flush=True)
    while place.exists():
        (place / "clear_refs").write_text("1")
        time.sleep(seconds)
        for start, end in unreferenced((place / "smaps").read_text()):
            vector = struct.pack("QQ", start, end - start)
            syscall(SYS_PROCESS_MADVISE, pidfd, ctypes.c_char_p(vector), ctypes.c_size_t(1), MADV_PAGEOUT, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
