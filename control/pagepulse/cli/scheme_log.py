# SPDX-License-Identifier: GPL-2.0-only
"""SchemeLog: what schemes are up to, appended to a recording of what they act on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pagepulse.apply import Applier
from pagepulse.capture import Recorder
from pagepulse.cli.run_several import scheme_summary
from pagepulse.model.snapshot import Snapshot

EVENT = "scheme"
"""The kind of these events; their data is what `run --json` says of the scheme."""

_AGAIN_NS = 10_000_000_000  # what changed in numbers alone is told so often


class SchemeLog:
    """Writes snapshots, and the state of each scheme when it changes: who waits, which guard holds back or lets go.

    Args:
        recorder: The caller closes it.
        applier: Of the schemes.
    """

    def __init__(self, recorder: Recorder, applier: Applier) -> None:
        self._recorder, self._applier = recorder, applier
        self._told: dict[str, tuple[object, int, dict[str, Any]]] = {}

    def written(self, snapshots: Iterator[Snapshot]) -> Iterator[Snapshot]:
        """The same snapshots, appended as they come; schemes were applied to them already."""
        for snapshot in snapshots:
            self._recorder.write(snapshot)
            self.look(snapshot.end_ns)
            yield snapshot

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
