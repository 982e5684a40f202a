# SPDX-License-Identifier: GPL-2.0-only
"""Requests: what may be asked of a daemon, and where its thread and the socket's meet.

The daemon publishes immutable values and takes note of wishes; neither thread ever waits for the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pagepulse.model.snapshot import Snapshot
from pagepulse.report.regions import snapshot_json
from pagepulse.service.server import Refused, answered, answered_text
from pagepulse.service.status import Status
from pagepulse.service.written import Written

_KEEP_NS = 200_000_000  # the status of hundreds takes milliseconds to write: who asks all the time gets the same again
_KEYS = {"status": set(), "snapshot": {"target", "pid"}, "pause": {"targets"}, "resume": {"targets"}}


@dataclass(frozen=True, slots=True)
class Published:
    """What other threads may read at any time."""

    status: Status
    snapshots: Mapping[str, Mapping[int, Snapshot]]
    """Target -> process -> its newest snapshot. Nobody changes it."""


class Requests:
    """Answers requests from what was published last.

    Args:
        wake: Tells the daemon that there is a wish.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._paused: set[str] = set()
        self._is_new = False
        self._writer = Written()
        self._written: tuple[Status | None, int, bytes] = (None, 0, b"")
        self.published: Published | None = None

    # --- in the daemon's thread ------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Whether there are wishes since this was last asked."""
        with self._lock:
            is_new, self._is_new = self._is_new, False
        return is_new

    def is_paused(self, target: str) -> bool:
        """Whether this target shall rest."""
        with self._lock:
            return target in self._paused

    # --- in the socket's -------------------------------------------------------------------------------------------

    def answer(self, request: dict[str, Any]) -> bytes:
        """The answer to a request.

        Raises:
            Refused: It makes no sense.
        """
        published = self.published
        if published is None:
            raise Refused("the daemon is starting: ask again")
        verb = request["verb"]
        if verb not in _KEYS:
            raise Refused(f"unknown verb; known: {', '.join(_KEYS)}")
        if unknown := set(request) - {"verb"} - _KEYS[verb]:
            raise Refused(f"unknown key {min(unknown)!r} for {verb}")
        if verb == "status":
            return self._status(published.status)
        if verb == "snapshot":
            return answered(_snapshots(published, request.get("target"), request.get("pid")))
        return answered(self._wish(published.status, _names(request, published.status), pause=verb == "pause"))

    def _status(self, status: Status) -> bytes:
        of, until_ns, text = self._written
        now_ns = time.monotonic_ns()
        if of is not status or now_ns >= until_ns:
            text = answered_text(self._writer.text(status, now_ns))
            self._written = (status, now_ns + _KEEP_NS, text)
        return text

    def _wish(self, status: Status, names: list[str], *, pause: bool) -> dict[str, Any]:
        with self._lock:
            self._paused = self._paused | set(names) if pause else self._paused - set(names)
            self._paused &= {target.name for target in status.targets}
            self._is_new = True
        self._wake()
        return {"targets": names, "paused": pause}


def _names(request: Mapping[str, Any], status: Status) -> list[str]:
    """The targets that a request names; all, if none."""
    known = [target.name for target in status.targets]
    names = request.get("targets", known)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused("targets: expected a list of names")
    for name in names:
        if name not in known:
            raise Refused(f"there is no target {name!r}; known: {', '.join(known) or 'none'}")
    return names or known


def _snapshots(published: Published, target: object, pid: object) -> dict[str, Any]:
    """The newest snapshot of one process, with its regions; without `pid`, of each that is meant, without regions."""
    if target is not None and target not in list(published.snapshots):
        raise Refused(f"there is no target {target!r}; known: {', '.join(published.snapshots) or 'none'}")
    if pid is not None and (not isinstance(pid, int) or isinstance(pid, bool)):
        raise Refused("pid: expected a number")
    found = [(name, snapshot) for name, snapshots in published.snapshots.items() if target in (None, name)
             for snapshot in snapshots.values() if pid in (None, snapshot.pid)]
    if pid is not None and not found:
        raise Refused(f"process {pid} is not watched")
    now_ns = time.monotonic_ns()
    return {"snapshots": [{"target": name, "age_s": round((now_ns - snapshot.end_ns) / 1e9, 3)}
                          | _shown(snapshot, regions=pid is not None) for name, snapshot in found]}


def _shown(snapshot: Snapshot, *, regions: bool) -> dict[str, Any]:
    shown: dict[str, Any] = snapshot_json(snapshot) if regions else {"pid": snapshot.pid}
    return shown | {"rss_bytes": snapshot.rss_bytes, "working_set_bytes": snapshot.wss_bytes,
                    "interval_s": round((snapshot.end_ns - snapshot.start_ns) / 1e9, 3),
                    "unknown_bytes": snapshot.unknown_bytes, "unclearable_bytes": snapshot.unclearable_bytes}
