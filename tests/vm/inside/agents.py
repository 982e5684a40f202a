# SPDX-License-Identifier: GPL-2.0-only
"""Agents: all that clears accessed bits of a process behind a monitor's back, each as a context manager or a call.

Each acts from a process that is not the monitor: what the monitor clears itself is not counted as taken.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
DAMON = Path("/sys/kernel/mm/damon/admin/kdamonds")
DAMON_STAT = Path("/sys/module/damon_stat/parameters/enabled")
LRU_GEN = Path("/sys/kernel/debug/lru_gen")
LRU_GEN_ENABLED = Path("/sys/kernel/mm/lru_gen/enabled")
_DAMON_MS = 3000


def write(path: Path, value: object) -> None:
    """Write to a file of the kernel's, from another process."""
    subprocess.run(["sh", "-c", 'echo "$1" >"$2"', "write", str(value), path], check=True)


def clear_refs(pid: int) -> None:
    """/proc/PID/clear_refs: all accessed bits of the process."""
    write(Path(f"/proc/{pid}/clear_refs"), 1)


def age(_pid: int) -> None:
    """MGLRU walks the page tables of all processes, and makes a new generation."""
    write(LRU_GEN_ENABLED, 7)
    for group, node, newest in _generations():
        write(LRU_GEN, f"+ {group} {node} {newest} 1 1")


def _generations() -> list[tuple[int, int, int]]:
    """Memory cgroup, node and youngest generation of each list."""
    found: list[tuple[int, int, int]] = []
    group = node = 0
    for words in map(str.split, LRU_GEN.read_text().splitlines()):
        if words[0] == "memcg":
            group = int(words[1])
        elif words[0] == "node":
            node = int(words[1])
            found.append((group, node, 0))
        else:
            found[-1] = (group, node, int(words[0]))
    return found


def reclaim(_pid: int) -> None:
    """The process's cgroup is asked for half of its memory: most of what is hot stays."""
    group = CGROUPS / "reclaimed"
    current = int((group / "memory.current").read_text())
    # Less than was asked for is an error to the kernel; what it did meanwhile is what counts here.
    subprocess.run(["sh", "-c", 'echo "$1" >"$2" 2>/dev/null || true', "write", str(current // 2),
                    group / "memory.reclaim"], check=True)


def damon(pid: int) -> None:
    """The kernel's DAMON watches the process for a while, with many regions."""
    if DAMON_STAT.exists():  # Linux 7 watches all memory from the start, and lets no other DAMON be beside that
        write(DAMON_STAT, "N")
    write(DAMON / "nr_kdamonds", 1)
    write(DAMON / "0/contexts/nr_contexts", 1)
    context = DAMON / "0/contexts/0"
    write(context / "operations", "vaddr")
    write(context / "monitoring_attrs/nr_regions/min", 1000)
    write(context / "monitoring_attrs/nr_regions/max", 2000)
    write(context / "targets/nr_targets", 1)
    write(context / "targets/0/pid_target", pid)
    write(DAMON / "0/state", "on")
    time.sleep(_DAMON_MS / 1000)
    write(DAMON / "0/state", "off")


AGENTS: dict[str, Callable[[int], None]] = {"clear_refs": clear_refs, "MGLRU aging": age, "cgroup reclaim": reclaim}
if DAMON.exists():
    AGENTS["DAMON"] = damon
ONCE = {"cgroup reclaim", "MGLRU aging"}
"""Come once. What reclaim found in use it asks about no more while it finds enough that is not; and on 6.1 the last of
some agings in a row often cleared nothing (why is not known), which proves nothing of us."""


def in_cgroup(pid: int, name: str = "reclaimed") -> Path:
    """Put a process into a cgroup of its own, before it has memory to speak of."""
    write(CGROUPS / "cgroup.subtree_control", "+memory")
    (CGROUPS / name).mkdir(exist_ok=True)
    write(CGROUPS / name / "cgroup.procs", pid)
    return CGROUPS / name
