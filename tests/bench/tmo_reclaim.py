# SPDX-License-Identifier: GPL-2.0-only
"""A rival: TMO's controller (ASPLOS'22) for one cgroup, as Meta's oomd has it in its senpai plugin.

    python -m bench.tmo_reclaim CGROUP INTERVAL_S

Each interval, unless memory or I/O pressure (PSI some, avg10 or avg60) is 0.1 % or more, the kernel is asked to take
1 % of the group's memory. oomd's interval is 6 s. It asks by memory.high, which it takes back at once; memory.reclaim
came later, for just that. It ends with its group, or by a signal.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

MAX_PROBE, PRESSURE_PERCENT = 0.01, 0.1


def pressure_percent(text: str) -> float:
    """The larger of avg10 and avg60 of the line `some`."""
    some = dict(word.split("=") for word in text.splitlines()[0].split()[1:])
    return max(float(some["avg10"]), float(some["avg60"]))


def step(group: Path) -> int:
    """Bytes that were asked for."""
    if any(pressure_percent((group / f"{kind}.pressure").read_text()) >= PRESSURE_PERCENT for kind in ("memory", "io")):
        return 0
    wanted = int(int((group / "memory.current").read_text()) * MAX_PROBE) // 4096 * 4096
    try:
        (group / "memory.reclaim").write_text(str(wanted))
    except BlockingIOError:
        return wanted  # the kernel took less than that: all that there was
    return wanted


def main() -> int:
    """Again and again."""
    group, interval_s = Path(sys.argv[1]), float(sys.argv[2])
    while group.exists():
        step(group)
        time.sleep(interval_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
