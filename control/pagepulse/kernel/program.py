# SPDX-License-Identifier: GPL-2.0-only
"""Programs: the loaded BPF programs and their maps, for as long as we monitor."""

from __future__ import annotations

import mmap
import os
import warnings
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pagepulse.kernel.compiler import compile_programs
from pagepulse.kernel.layout import ARRAYS
from pagepulse.kernel.syscalls import ProgramRun


class Programs:
    """The loaded BPF programs and their maps. Nothing is pinned: what is closed here is gone from the kernel.

    Raises:
        Unsupported: BCC, BTF or a BPF privilege is missing.
        PagepulseError: A program was refused.
    """

    def __init__(self) -> None:
        self._fds, self.compile_cpu_s = compile_programs()
        # BCC's own accessors cost 100 us and more a call; a mapped array costs a load.
        self.arrays: dict[str, npt.NDArray[Any]] = {name: self._map(name) for name in ARRAYS}

    def _map(self, name: str) -> npt.NDArray[Any]:
        dtype, count = ARRAYS[name]
        size = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
        return np.frombuffer(mmap.mmap(self._fds[name], size, mmap.MAP_SHARED), dtype, count)

    def fd(self, name: str) -> int:
        """Descriptor of a map or program, which stays ours."""
        return self._fds[name]

    def runner(self, name: str) -> ProgramRun:
        """A raw-tracepoint program, ready to be run on demand."""
        return ProgramRun(self._fds[name])

    def close(self) -> None:
        """Let go of everything. The kernel frees a program with its last descriptor."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fds", None):
            warnings.warn("Programs was garbage-collected without close()", ResourceWarning, stacklevel=1)
