# SPDX-License-Identifier: GPL-2.0-only
"""Parts: the files of a recording that was rotated, and how they are named.

What is written now has the name that was asked for; a part that ended has the time of its end in its name
(`pagepulse-20261123T104512.123456Z.data`), and `.xz` behind it once it is packed.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from pagepulse.capture.codec import DIFF, FRAME, MAGIC, PREAMBLE, SNAP
from pagepulse.errors import PagepulseError

PACKED = ".xz"
_STAMP = r"\d{8}T\d{6}\.\d{6}Z"
_PART = re.compile(rf"(?P<stem>.*)-(?P<stamp>{_STAMP})\.[^.]*({re.escape(PACKED)})?")
_CLOCK_SET_NS = 86_400_000_000_000  # nobody sets a clock by more than a day


def ended_path(path: Path, ended: datetime) -> Path:
    """Where a part goes that ended then.

    By name it comes after all parts that are there, also when the clock was set back: it is not the oldest, which would
    be removed, and it replaces none.
    """
    for newest in ended_parts(path)[-1:]:
        ended = max(ended, _stamp(path, newest) + timedelta(microseconds=1))
    return path.with_name(f"{path.stem}-{ended.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}{path.suffix}")


def _stamp(path: Path, part: Path) -> datetime:
    return _time(part.name.removeprefix(f"{path.stem}-").removesuffix(PACKED).removesuffix(path.suffix))


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%S.%f%z")


def worth_opening(found: Sequence[Path], since_ns: int | None, until_ns: int | None) -> list[Path]:
    """Of recordings in one folder, those that may hold something between two times of the clock on the wall.

    Names tell when parts ended, and the one before when they began. A clock may have been set meanwhile: what is within
    a day of these times is opened, and tells exactly.

    Args:
        found: The recordings, sorted by name.
        since_ns: Since 1970; None: from the beginning.
        until_ns: Since 1970; None: to the end.
    """
    kept: list[Path] = []
    began: dict[str, int] = {}
    for path in found:
        part = _PART.fullmatch(path.name)
        if part is None:
            kept.append(path)
            continue
        try:
            ended_ns = int(_time(part["stamp"]).timestamp() * 1e9)
        except ValueError:  # named like a part, but by no time
            kept.append(path)
            continue
        begun_ns, began[part["stem"]] = began.get(part["stem"], 0), ended_ns
        if (since_ns is None or ended_ns >= since_ns - _CLOCK_SET_NS) and (
                until_ns is None or begun_ns <= until_ns + _CLOCK_SET_NS):
            kept.append(path)
    return kept or list(found[-1:])


def ended_parts(path: Path) -> list[Path]:
    """The ended parts of the recording at this path, oldest first; of one that is there twice, the unpacked file."""
    pattern = re.compile(f"{re.escape(path.stem)}-{_STAMP}{re.escape(path.suffix)}(?:{re.escape(PACKED)})?")
    with suppress(OSError):
        found = {entry.name for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)}
        return [path.with_name(name) for name in sorted(found) if name.removesuffix(PACKED) == name
                or name.removesuffix(PACKED) not in found]
    return []


def is_recording(path: Path) -> bool:
    """Whether what is there begins like a recording, and may be moved as one; a link is none.

    Raises:
        OSError: It cannot be opened, or is not there.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with open(path, "rb", opener=_not_through_links) as file:
        return MAGIC.startswith(file.read(len(MAGIC)))


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def keep_old(path: Path) -> None:
    """A recording that is there already, of a recorder that was killed, becomes an ended part; one of nothing goes.

    Raises:
        PagepulseError: What is there is no recording, or its recorder is still at work.
        OSError: It cannot be opened or renamed.
    """
    if not os.path.lexists(path):
        return
    if not is_recording(path):
        raise PagepulseError(f"{path} is no recording, and stays as it is", why="it does not begin like one",
                             hint="name another file, or move it")
    with open(path, "rb", opener=_not_through_links) as old:
        status = os.fstat(old.fileno())
        refuse_if_written(path, old.fileno())
        if _is_stub(old, status.st_size):
            path.unlink()
        else:
            path.rename(ended_path(path, datetime.fromtimestamp(status.st_mtime, UTC)))


def refuse_if_written(path: Path, fd: int) -> None:
    """Keep away from a recording that grows.

    Args:
        path: Its name, for the message.
        fd: The open file; as long as that is open, we are told of as a reader.

    Raises:
        PagepulseError: Its recorder, which holds a lock as long as it lives, is at work.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PagepulseError(f"{path} is being written", why="another recorder is at work on it",
                             hint="name another file, or end the other one") from None
    except OSError:  # a file system without locks
        return


def drop_oldest(path: Path, keep: int) -> None:
    """Remove all but the newest ended parts.

    Args:
        path: As `ended_parts` takes it.
        keep: How many stay of those that hold a snapshot: what a full disk left of others pushes none of them out.
    """
    kept = 0
    for part in reversed(ended_parts(path)):
        if kept < keep:
            kept += _holds_snapshots(part)
            continue
        for name in (part, part.with_name(part.name + PACKED)):
            with suppress(OSError):  # somebody else was faster, or it is not ours to remove
                name.unlink()


def _holds_snapshots(part: Path) -> bool:
    """Whether a part is worth a place; where that cannot be told, it is."""
    try:
        with (lzma.open(part) if part.suffix == PACKED else part.open("rb")) as file:
            return not _is_stub(file, None)
    except (OSError, EOFError, lzma.LZMAError):
        return True


def _is_stub(file: IO[bytes], size_bytes: int | None) -> bool:
    """Whether a recording is whole as far as it goes, and holds no snapshot; mostly the first chunks tell.

    Args:
        file: The recording.
        size_bytes: Of it; None: it ends where nothing more can be read.
    """
    place = PREAMBLE.size
    while True:
        file.seek(place)
        head = file.read(FRAME.size)
        if len(head) < FRAME.size:
            return True
        kind, length, _ = FRAME.unpack(head)
        if kind in (SNAP, DIFF):
            return False
        place += FRAME.size + length
        if size_bytes is not None and place > size_bytes:  # torn: somebody may want to look into it
            return False
