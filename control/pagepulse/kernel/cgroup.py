# SPDX-License-Identifier: GPL-2.0-only
"""Cgroup: which processes are in a control group, those of the groups below it included, and what they wait for."""

from __future__ import annotations

import os
from pathlib import Path

from pagepulse.errors import UsageError
from pagepulse.kernel.maps import printable
from pagepulse.model.system import Pressure

_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/memory"))
_PROCESSES = "cgroup.procs"


class Cgroup:
    """One control group, of version 1 or 2. It may come and go: while it is away it has no processes.

    Args:
        path: Absolute, or below any of the usual mounts (`system.slice/redis.service`).

    Raises:
        UsageError: There is no such group.
    """

    def __init__(self, path: Path, roots: tuple[Path, ...] = _ROOTS) -> None:
        places = [path] if path.is_absolute() else [root / path for root in roots]
        found = next((place for place in places if (place / _PROCESSES).exists()), None)
        if found is None:
            raise UsageError(f"{path} is no control group", why=f"there is no {places[0] / _PROCESSES}",
                             hint="give its directory, as `systemd-cgls` shows it, or absolute")
        self.path = found

    @property
    def is_there(self) -> bool:
        """Whether the group exists now."""
        return (self.path / _PROCESSES).exists()

    def pids(self) -> set[int]:
        """Ids of the processes in it and below; each process once, however many threads it has."""
        pids: set[int] = set()
        for directory, _, files in os.walk(self.path):
            if _PROCESSES in files:
                pids.update(_read_pids(Path(directory) / _PROCESSES))
        return pids - {0}  # 0: a process of another PID namespace

    def pressure(self) -> Pressure | None:
        """Memory pressure of the group; None where the kernel does not measure it (version 1, or psi=0)."""
        try:
            lines = (self.path / "memory.pressure").read_text().splitlines()
            values = {kind: dict(word.split("=") for word in words) for kind, *words in map(str.split, lines)}
            some, full = values["some"], values["full"]
            return Pressure(int(some["total"]), int(full["total"]), float(some["avg10"]) / 100,
                            float(full["avg10"]) / 100)
        except (OSError, KeyError, ValueError):
            return None


def _read_pids(path: Path) -> list[int]:
    """Empty where the group has just gone, or where it is threaded (its processes are its parent's)."""
    try:
        return [int(line) for line in path.read_text().split()]
    except OSError:
        return []


def cgroup_of(pid: int) -> str:
    """The control group of a process: of version 2, else of the memory controller; "" if it cannot be told."""
    try:
        content = Path(f"/proc/{pid}/cgroup").read_bytes()
    except OSError:
        return ""
    # By hand: a group's name may hold anything but \n and /, and text would take much of that for the end of a line.
    lines = [line.split(":", 2) for line in content.decode(errors="surrogateescape").split("\n")]
    found = {fields[1]: fields[2] for fields in lines if len(fields) == 3}
    unified = found.get("", "")
    of_memory = next((path for controllers, path in found.items() if "memory" in controllers.split(",")), "")
    return printable(of_memory if unified in {"", "/"} and of_memory else unified)
