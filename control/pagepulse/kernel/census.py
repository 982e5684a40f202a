# SPDX-License-Identifier: GPL-2.0-only
"""Census: which processes there are, and what little of each must be known to choose among them."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from pagepulse.kernel.maps import printable

_PAGE = os.sysconf("SC_PAGESIZE")
_MOST_FILES = 1 << 16


class Census:
    """Looks at /proc.

    Args:
        root: Where /proc is; tests give another.
    """

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = str(root)

    def pids(self) -> set[int]:
        """All processes; threads are not listed."""
        return {int(name) for name in os.listdir(self._root) if name.isdecimal()}  # noqa: PTH208 - 4 times as fast

    def parent(self, pid: int) -> int | None:
        """Who started it, or took it over; None once it has exited."""
        fields = self._stat(pid)
        return None if fields is None else int(fields[1])

    def start_ticks(self, pid: int) -> int | None:
        """When it began, in clock ticks since boot: with the pid, the name of a process for good."""
        fields = self._stat(pid)
        return None if fields is None else int(fields[19])

    def descendants(self, roots: set[int]) -> set[int]:
        """The processes of these, their children, and so on."""
        children: dict[int, list[int]] = {}
        for pid in self.pids():
            parent = self.parent(pid)
            if parent is not None:
                children.setdefault(parent, []).append(pid)
        found, pending = set(roots), list(roots)
        while pending:
            new = [child for child in children.get(pending.pop(), ()) if child not in found]
            found.update(new)
            pending += new
        return found

    def rss_bytes(self, pid: int) -> int | None:
        """Resident memory; 0: a kernel thread. None once it has exited."""
        text = self._read(pid, "statm")
        fields = text.split() if text else ()
        return int(fields[1]) * _PAGE if len(fields) > 1 else None

    def user(self, pid: int) -> int | None:
        """Whose it is; None once it has exited."""
        try:
            return os.stat(f"{self._root}/{pid}").st_uid  # noqa: PTH116 - as above
        except OSError:
            return None

    def program(self, pid: int) -> str | None:
        """The file that it runs, or its name where it has none; None once it has exited."""
        try:
            return printable(os.readlink(f"{self._root}/{pid}/exe").removesuffix(" (deleted)"))  # noqa: PTH115
        except OSError:
            return self.name(pid)

    def name(self, pid: int) -> str | None:
        """As it calls itself, at most 15 bytes; None once it has exited."""
        name = self._read(pid, "comm")
        return None if name is None else printable(name.strip())

    def _stat(self, pid: int) -> list[str] | None:
        text = self._read(pid, "stat")
        return text.rpartition(")")[2].split() if text else None

    def _read(self, pid: int, name: str) -> str | None:
        try:
            with open(f"{self._root}/{pid}/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                return file.read()
        except OSError:
            return None


def allow_many_files() -> None:
    """Each watched process takes five descriptors: take as many as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
