# SPDX-License-Identifier: GPL-2.0-only
"""The picture of a run: memory over time, as a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pagepulse.errors import PagepulseError, UsageError
from pagepulse.report.before_after import Point


def check_picture(path: Path) -> None:
    """Refuse a name that is not a picture's.

    Raises:
        UsageError: It is not.
    """
    if path.suffix not in {".png", ".svg"}:
        raise UsageError(f"{path} is no name of a picture", why="it ends neither in .png nor in .svg",
                         hint="-o memory.png")


def check_writable(path: Path) -> None:
    """Say now what writing it would say after the run. What is there is left as it is.

    Raises:
        PagepulseError: It cannot be written.
    """
    was_there = os.path.lexists(path)
    try:
        with path.open("ab"):
            pass
        if not was_there:
            path.unlink()
    except OSError as error:
        raise PagepulseError(f"cannot write {path}", why=error.strerror or str(error)) from None


def draw_memory(path: Path, points: Sequence[Point], title: str) -> None:
    """Write the picture.

    Args:
        path: Ends in .png or .svg.
        points: At least one, in the order of time.
        title: What was treated.

    Raises:
        PagepulseError: It cannot be written.
    """
    from pagepulse.report.picture_memory import memory_picture  # noqa: PLC0415 matplotlib takes a second to load
    try:
        path.write_bytes(memory_picture(points, title, path.suffix[1:]))
    except OSError as error:
        raise PagepulseError(f"cannot write {path}", why=error.strerror or str(error)) from None
