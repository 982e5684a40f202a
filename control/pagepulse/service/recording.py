# SPDX-License-Identifier: GPL-2.0-only
"""Recording of a target: written as long as the disk lets us; where it does not, it says so and tries again later."""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pagepulse.capture import Recorder
from pagepulse.errors import PagepulseError
from pagepulse.model.snapshot import Snapshot
from pagepulse.service.notify import Priority, log
from pagepulse.service.status import RecordingStatus

_TRY_AGAIN_NS = 60_000_000_000


class TargetRecording:
    """The recording of one target. A file that is there already is kept: it gets the time of its end into its name.

    Args:
        path: The file.
        target: The target's name.
    """

    def __init__(self, path: Path, target: str) -> None:
        self._path, self._target = path, target
        self._recorder: Recorder | None = None
        self._error, self._try_ns = "", 0

    def write(self, snapshot: Snapshot) -> None:
        """Append a snapshot, if that can be done."""
        if self._recorder is None and time.monotonic_ns() >= self._try_ns:
            self._open()
        try:
            if self._recorder is not None:
                self._recorder.write(snapshot)
        except PagepulseError as error:
            self._give_up(error)

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Append something that happened, if that can be done."""
        try:
            if self._recorder is not None:
                self._recorder.event(kind, json.loads(json.dumps(data)))
                if kind == "ended":
                    self._recorder.forget(data["pid"])
        except PagepulseError as error:
            self._give_up(error)

    def status(self) -> RecordingStatus:
        """What is written, or why nothing is."""
        size_bytes = 0 if self._recorder is None else self._recorder.size_bytes
        return RecordingStatus(str(self._path), size_bytes, self._error)

    def close(self) -> None:
        """End the recording."""
        with suppress(PagepulseError):
            if self._recorder is not None:
                self._recorder.close({})
        self._recorder = None

    def _open(self) -> None:
        try:
            self._keep_old()
            self._recorder = Recorder(self._path, {"pid": None, "target": {"name": self._target},
                                                   "kernel": platform.release(), "options": {}, "probes": []})
            self._error = ""
        except (PagepulseError, OSError) as error:
            self._give_up(error)

    def _keep_old(self) -> None:
        with suppress(FileNotFoundError):
            ended = datetime.fromtimestamp(self._path.lstat().st_mtime, UTC)
            self._path.rename(self._path.with_name(f"{self._path.stem}-{ended:%Y%m%dT%H%M%S.%fZ}{self._path.suffix}"))

    def _give_up(self, error: PagepulseError | OSError) -> None:
        self._recorder = None
        self._error, self._try_ns = str(error).splitlines()[0], time.monotonic_ns() + _TRY_AGAIN_NS
        log(Priority.ERROR, f"{self._target}: nothing is recorded for {_TRY_AGAIN_NS // 1_000_000_000} s: {error}")
