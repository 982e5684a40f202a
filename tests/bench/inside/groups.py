# SPDX-License-Identifier: GPL-2.0-only
"""Control groups of a machine that measures: one to start a program in, with a limit or without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_PARENT = ROOT / "cgroup.procs"


@contextmanager
def group_of(name: str) -> Iterator[Path]:
    """A group with memory accounting, gone afterwards. What is in it then belongs to nobody."""
    if not (ROOT / "cgroup.controllers").exists():
        raise FileNotFoundError(f"{ROOT} is not cgroup v2")
    (ROOT / "cgroup.subtree_control").write_text("+memory")
    group = ROOT / name
    group.mkdir()
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            _PARENT.write_text(pid)
        group.rmdir()


@contextmanager
def born_in(group: Path) -> Iterator[None]:
    """What is started inside the block, with all its memory, belongs to the group; we do not, afterwards."""
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        _PARENT.write_text(str(os.getpid()))


def read(group: Path, key: str, name: str = "memory.stat") -> int:
    """A number of a group's file of lines with a key each."""
    return next(int(line.split()[1]) for line in (group / name).read_text().splitlines() if line.split()[0] == key)
