# SPDX-License-Identifier: GPL-2.0-only
"""Parts: the files of a recording that was rotated, and how they are named.

What is written now has the name that was asked for; a part that ended has the time of its end in its name
(`pagepulse-20261123T104512.123456Z.data`), and `.xz` behind it once it is packed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

PACKED = ".xz"
_STAMP = r"-\d{8}T\d{6}\.\d{6}Z"


def ended_path(path: Path, ended: datetime) -> Path:
    """Where a part goes that ended then.

    By name it comes after all parts that are there, also when the clock was set back: it is not the oldest, which would
    be removed, and it replaces none.
    """
    for newest in ended_parts(path)[-1:]:
        ended = max(ended, _stamp(path, newest) + timedelta(microseconds=1))
    return path.with_name(f"{path.stem}-{ended.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}{path.suffix}")


def _stamp(path: Path, part: Path) -> datetime:
    stamp = part.name.removeprefix(f"{path.stem}-").removesuffix(PACKED).removesuffix(path.suffix)
    return datetime.strptime(stamp, "%Y%m%dT%H%M%S.%f%z")


def ended_parts(path: Path) -> list[Path]:
    """The ended parts of the recording at this path, oldest first; of one that is there twice, the unpacked file."""
    pattern = re.compile(f"{re.escape(path.stem)}{_STAMP}{re.escape(path.suffix)}(?:{re.escape(PACKED)})?")
    with suppress(OSError):
        found = {entry.name for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)}
        return [path.with_name(name) for name in sorted(found) if name.removesuffix(PACKED) == name
                or name.removesuffix(PACKED) not in found]
    return []


def keep_old(path: Path) -> None:
    """A file that is there already, of a recorder that was killed, becomes an ended part.

    Raises:
        OSError: It cannot be renamed.
    """
    with suppress(FileNotFoundError):
        ended = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
        path.rename(ended_path(path, ended))


def drop_oldest(path: Path, keep: int) -> None:
    """Remove all but the newest ended parts.

    Args:
        path: As `ended_parts` takes it.
        keep: How many stay.
    """
    parts = ended_parts(path)
    for part in parts[:max(len(parts) - keep, 0)]:
        for name in (part, part.with_name(part.name + PACKED)):
            with suppress(OSError):  # somebody else was faster, or it is not ours to remove
                name.unlink()
