# SPDX-License-Identifier: GPL-2.0-only
"""Selection: which processes are meant."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pagepulse.kernel.census import Census

SYSTEM_MIN_RSS_BYTES = 16 << 20
"""Of `--system`, where nothing else is said: what lies below is most processes and little memory."""

_HAS_MEMORY_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Selection:
    """Which processes to watch. The named ones always; of the others those that pass every filter."""

    pids: frozenset[int] = frozenset()
    children: bool = False
    """The whole trees below them, too."""
    cgroup: Path | None = None
    """The processes of this control group and of those below it."""
    system: bool = False
    """All processes."""
    exe: str | None = None
    """A pattern for the program's path; without a slash for its last part, or the name that `ps` shows."""
    user: int | None = None
    min_rss_bytes: int = 0

    @property
    def is_wide(self) -> bool:
        """Any process of the machine may belong to it."""
        is_rooted = self.children or self.pids or self.cgroup is not None
        return not is_rooted and (self.system or self.exe is not None or self.user is not None)

    @property
    def is_single(self) -> bool:
        """It is one process, now and later: a named one, or a command's."""
        return len(self.pids) <= 1 and not (self.children or self.cgroup or self.is_wide)

    @property
    def is_filtered(self) -> bool:
        """Who belongs to it may change when a process becomes another program, or another user's."""
        return self.exe is not None or self.user is not None

    @property
    def is_endless(self) -> bool:
        """There may be new processes when all have ended."""
        return self.cgroup is not None or self.is_wide

    def accepts(self, pid: int, census: Census) -> bool | None:
        """Whether this process belongs to it; None: not yet, for it has too little memory.

        Args:
            pid: A process that is in the tree, the group or on the machine that the selection speaks of.
            census: To ask.
        """
        if pid in self.pids:
            return True
        rss_bytes = census.rss_bytes(pid)
        if pid == os.getpid() or not rss_bytes:  # nothing resident: a kernel thread, or the process has ended
            return False
        if self.user is not None and census.user(pid) != self.user:
            return False
        if self.exe is not None and not self._is_program(pid, census):
            return False
        least = self.min_rss_bytes or (SYSTEM_MIN_RSS_BYTES if self.system else _HAS_MEMORY_BYTES)
        return True if rss_bytes >= least else None

    def _is_program(self, pid: int, census: Census) -> bool:
        """By its file or by its name: Debian's redis-server is a link to redis-check-rdb."""
        pattern, path = self.exe or "*", census.program(pid) or ""
        if "/" in pattern:
            return fnmatchcase(path, pattern)
        return any(fnmatchcase(name, pattern) for name in (path.rpartition("/")[2], census.name(pid) or ""))
