# SPDX-License-Identifier: GPL-2.0-only
"""Packing: ended parts of recordings are compressed by a child of the lowest priority, one at a time."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pagepulse.kernel import children

_AT_ONCE = 8
_PATIENCE_S = 5.0


@contextmanager
def packing() -> Iterator[Packer]:
    """A packer; its child does not live on."""
    packer = Packer()
    try:
        yield packer
    finally:
        packer.close()


class Packer:
    """Packs recordings beside everything else; its CPU time is not ours, and a full disk or its death harm nobody."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, paths: Sequence[Path]) -> None:
        """Pack these, unless a child is still at work: what it leaves comes with the next call."""
        self.reap()
        if self._child is not None or not paths:
            return
        with suppress(OSError):  # no memory for a child: next time
            self._child = children.start("pagepulse.capture", *map(str, map(Path.absolute, paths[:_AT_ONCE])),
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def reap(self) -> None:
        """Take note of a child that has ended."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def close(self) -> None:
        """End the child; what it was at stays unpacked, and whole."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
