# SPDX-License-Identifier: GPL-2.0-only
"""SchemeLog: what schemes are up to, appended to a recording of what they act on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pagepulse.apply import Applier
from pagepulse.capture import Series
from pagepulse.cli.observers import Observer
from pagepulse.cli.record import record_event
from pagepulse.cli.scheme_state import scheme_summary
from pagepulse.fleet import Fleet
from pagepulse.model.snapshot import Snapshot
from pagepulse.monitor import Monitor

EVENT = "scheme"
"""The kind of these events; their data is what `run --json` says of the scheme."""

_AGAIN_NS = 10_000_000_000  # what changed in numbers alone is told so often


class SchemeLog(Observer):
    """Writes what happens, snapshots, and the state of each scheme when it changes: who waits, which guard holds back.

    Args:
        recorder: The caller closes it.
        applier: Of the schemes.
    """

    def __init__(self, recorder: Series, applier: Applier) -> None:
        self._recorder, self._applier = recorder, applier
        self._told: dict[str, tuple[object, int, dict[str, Any]]] = {}

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """Append it."""
        record_event(self._recorder, kind, data)

    def seen(self, snapshot: Snapshot) -> None:
        """Append it, and what became of the schemes by it."""
        self._recorder.write(snapshot)
        self.look(snapshot.end_ns)

    def beat(self, now_ns: int) -> None:
        """Schemes may act while no snapshot is due: on those that sleep."""
        self.look(now_ns)

    def look(self, now_ns: int, *, last: bool = False) -> None:
        """Append what changed; at the last look, in numbers too."""
        for index, result in enumerate(self._applier.results):
            state = scheme_summary(self._applier, index)
            stances = [(guard["guard"], guard["stance"]) for guard in state["guards"]]
            key = (bool(state["waits_for"]), stances)
            told = self._told.get(result.name)
            is_due = told is None or key != told[0] or (state != told[2] and (last or now_ns - told[1] >= _AGAIN_NS))
            if is_due:
                self._recorder.event(EVENT, state)
                self._told[result.name] = (key, now_ns, state)


@contextmanager
def recorded(args: argparse.Namespace, header: Callable[[], dict[str, Any]], applier: Applier,
             watcher: Monitor | Fleet) -> Iterator[Observer]:
    """Who writes the recording that `run --record` asks for; nobody, if it was not asked for.

    Args:
        args: Of `run`.
        header: How the recording is made.
        applier: Of the schemes.
        watcher: What is watched.
    """
    if args.record is None:
        yield Observer()
        return
    with Series(args.record, header() | {"schemes": str(args.schemes)}) as recorder:
        log = SchemeLog(recorder, applier)
        yield log
        log.look(time.monotonic_ns(), last=True)
        recorder.close(watcher.summary() | {"clearing": watcher.clearing()})
