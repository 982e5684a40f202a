# SPDX-License-Identifier: GPL-2.0-only
"""Recording of a target: written as long as the disk lets us; where it does not, it says so and tries again later."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pagepulse.capture import Holding, Rotation, Series
from pagepulse.capture.parts import keep_old
from pagepulse.errors import PagepulseError
from pagepulse.kernel.host import origin
from pagepulse.kernel.packing import Packer
from pagepulse.model.snapshot import Snapshot
from pagepulse.service.notify import Priority, log
from pagepulse.service.status import RecordingStatus

_TRY_AGAIN_NS = 60_000_000_000


class TargetRecording:
    """The recording of one target. A file that is there already is kept: it gets the time of its end into its name.

    Args:
        path: The file.
        rotation: When it is ended, and the next one begun.
        target: The target's name.
        before: Its recording until now, which is closed: what that one knew and lost counts on.
    """

    def __init__(self, path: Path, rotation: Rotation, target: str, before: TargetRecording | None = None) -> None:
        self._path, self._rotation, self._target = path, rotation, target
        self._recorder: Series | None = None
        self._packer = Packer()
        self._error, self._try_ns = "", 0
        self.lost_snapshots: int = before.lost_snapshots if before is not None else 0
        self.holding: Holding = before.holding if before is not None else Holding()

    def write(self, snapshot: Snapshot) -> None:
        """Append a snapshot, if that can be done."""
        if self._recorder is None and time.monotonic_ns() >= self._try_ns:
            self._open()
        try:
            if self._recorder is not None:
                self._recorder.write(snapshot)
                return
        except PagepulseError as error:
            self._give_up(error)
        self.lost_snapshots += 1

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Append something that happened, if that can be done; if not, and if it holds, with the next that can be."""
        data = json.loads(json.dumps(data))
        if self._recorder is None:
            self.holding.take(kind, data, time.monotonic_ns())
            return
        try:
            self._recorder.event(kind, data)
        except PagepulseError as error:
            self._give_up(error)

    def status(self) -> RecordingStatus:
        """What is written, or why nothing is."""
        if self._recorder is None:
            return RecordingStatus(str(self._path), 0, self._error, self.lost_snapshots)
        return RecordingStatus(str(self._path), self._recorder.size_bytes, self._recorder.fault, self.lost_snapshots)

    def close(self) -> None:
        """End the recording."""
        with suppress(PagepulseError):
            if self._recorder is not None:
                self._recorder.close({})
        self._recorder = None
        self._packer.close()

    def _open(self) -> None:
        try:
            keep_old(self._path)
            header = origin() | {"pid": None, "target": {"name": self._target}, "options": {}, "probes": []}
            self._recorder = Series(self._path, header, self._rotation, pack=self._packer, holding=self.holding)
            self._error = ""
        except (PagepulseError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: PagepulseError | OSError) -> None:
        self._recorder = None
        why = getattr(error, "why", "")
        self._error = f"{getattr(error, 'what', error)}{': ' if why else ''}{why}"
        self._try_ns = time.monotonic_ns() + _TRY_AGAIN_NS
        log(Priority.ERROR, f"{self._target}: nothing is recorded for {_TRY_AGAIN_NS // 1_000_000_000} s: {error}")
