# SPDX-License-Identifier: GPL-2.0-only
"""Series: a recording in parts, each a recording by itself: for weeks, on a disk that has an end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pagepulse.capture.parts import PACKED, drop_oldest, ended_parts, ended_path
from pagepulse.capture.recorder import Recorder
from pagepulse.errors import PagepulseError
from pagepulse.model.snapshot import Snapshot
from pagepulse.units import format_size, format_time_ns

_TRY_AGAIN_NS = 60_000_000_000
_LEAST_BYTES, _LEAST_NS = 64 << 10, 1_000_000_000
_REMEMBERED = {"watched": "pid", "clear": "pid", "backlog": None, "scheme": "name"}
"""Events that hold until the next of their kind: each part begins with them. Value: which key tells them apart."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a part ends, and how many stay. None: never, and all."""

    size_bytes: int | None = None
    every_ns: int | None = None
    keep: int | None = None
    """Ended parts; the one that is being written is not counted."""

    @property
    def fault(self) -> str:
        """What is wrong with it, beginning with an option's name; empty if nothing is."""
        if self.size_bytes is not None and self.size_bytes < _LEAST_BYTES:
            return f"rotate-size must be at least {format_size(_LEAST_BYTES)}"
        if self.every_ns is not None and self.every_ns < _LEAST_NS:
            return f"rotate-every must be at least {format_time_ns(_LEAST_NS)}"
        return "keep must be at least 1" if self.keep is not None and self.keep < 1 else ""

    @property
    def rotates(self) -> bool:
        """Whether any part ever ends."""
        return self.size_bytes is not None or self.every_ns is not None


NEVER = Rotation()
"""One file for all, which stays."""


def _leave(_parts: Sequence[Path]) -> None:
    """Nobody packs."""


class Holding:
    """What holds until something else does: events that every new part begins with."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, object], tuple[int, dict[str, Any]]] = {}

    def take(self, kind: str, data: dict[str, Any], at_ns: int) -> None:
        """Something happened then."""
        if kind == "ended":
            for about in ("watched", "clear"):
                self._events.pop((about, data["pid"]), None)
        elif kind in _REMEMBERED:
            self._events[kind, data.get(_REMEMBERED[kind] or "")] = at_ns, data

    def tell(self, recorder: Recorder) -> None:
        """All of it, to one who knows nothing yet.

        Raises:
            PagepulseError: It cannot be written.
        """
        for (kind, _), (at_ns, data) in self._events.items():
            recorder.event(kind, data, at_ns)


class Series:
    """A recording being written, in one part or many; as a `Recorder`.

    Where the next part cannot be begun, the recording goes on in the part that there is.

    Args:
        path: As a recorder's; the part that is being written is always there.
        header: As a recorder's.
        rotation: When a part ends.
        force: As a recorder's.
        pack: Told of ended parts that are not packed yet, oldest first, whenever one ends.
        holding: What holds already; None: nothing.

    Raises:
        UsageError: The file exists.
        PagepulseError: It cannot be created or written.
    """

    def __init__(self, path: Path, header: dict[str, Any], rotation: Rotation = NEVER, *, force: bool = False,
                 pack: Callable[[Sequence[Path]], None] = _leave, holding: Holding | None = None) -> None:
        self.path, self._header, self._rotation, self._pack = path, header, rotation, pack
        self._id, self._part = uuid.uuid4().hex, 0
        self._recorder = Recorder(path, self._own_header(0), force=force)
        self._holding = holding or Holding()
        try:
            self._holding.tell(self._recorder)
        except PagepulseError:
            self._recorder.discard()
            raise
        self._begun_ns = time.monotonic_ns()
        self._is_empty, self._is_tidy, self._not_before_ns = True, False, 0
        self.fault = ""
        """Why the last part could not be ended in time; empty if it was."""

    @property
    def size_bytes(self) -> int:
        """How much was written to the part that is being written."""
        return self._recorder.size_bytes

    def write(self, snapshot: Snapshot) -> None:
        """As a recorder's; a new part begins first if that is due."""
        if self._is_due():
            self._rotate()
        try:
            self._recorder.write(snapshot)
        except PagepulseError:
            self._discard_if_empty()
            raise
        self._is_empty = False
        if not self._is_tidy and self._rotation.rotates:  # not before it is worth a place: others go for it
            self._tidy()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """As a recorder's; a process that `ended` is forgotten."""
        at_ns = time.monotonic_ns()
        self._holding.take(kind, data, at_ns)
        self._recorder.event(kind, data, at_ns)
        if kind == "ended":
            self._recorder.forget(data["pid"])

    def close(self, summary: dict[str, Any]) -> None:
        """As a recorder's; of several parts, one without a snapshot is not left."""
        if not self._discard_if_empty():
            self._recorder.close(summary)

    def _discard_if_empty(self) -> bool:
        if self._is_empty and self._rotation.rotates:
            self._recorder.discard()
            return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._recorder.__exit__(kind, error, traceback)

    def _own_header(self, part: int) -> dict[str, Any]:
        return {**self._header, "series": {"id": self._id, "part": part}}

    def _is_due(self) -> bool:
        rotation, now_ns = self._rotation, time.monotonic_ns()
        if self._is_empty or now_ns < self._not_before_ns:
            return False
        is_large = rotation.size_bytes is not None and self._recorder.size_bytes >= rotation.size_bytes
        is_old = rotation.every_ns is not None and now_ns - self._begun_ns >= rotation.every_ns
        return is_large or is_old

    def _rotate(self) -> None:
        """The next part is made beside the old one before that is touched: nothing is lost if it cannot be made."""
        ending = self._recorder
        try:
            following = self._following()
            try:
                ending.rename(ended_path(self.path, datetime.now(UTC)))
                following.rename(self.path)
            except OSError:
                following.discard()
                raise
        except (PagepulseError, OSError) as error:
            self._not_before_ns = time.monotonic_ns() + _TRY_AGAIN_NS
            self.fault = f"no new part can be begun: {str(error).splitlines()[0]}"
            if ending.path != self.path:
                with suppress(OSError):
                    ending.rename(self.path)
            return
        self._recorder, self._begun_ns, self._is_empty = following, time.monotonic_ns(), True
        self._part, self.fault = self._part + 1, ""
        ending.end_part()
        self._is_tidy = False

    def _following(self) -> Recorder:
        beside = self.path.with_name(f".{self.path.name}.next")
        following = Recorder(beside, self._own_header(self._part + 1), force=True)
        try:
            self._holding.tell(following)
        except PagepulseError:
            following.discard()
            raise
        return following

    def _tidy(self) -> None:
        self._is_tidy = True
        if self._rotation.keep is not None:
            drop_oldest(self.path, self._rotation.keep)
        self._pack([part for part in ended_parts(self.path) if part.suffix != PACKED])
