# SPDX-License-Identifier: GPL-2.0-only
"""Written: a status as JSON.

Of hundreds of processes most are what they were when somebody last asked: the text of each is kept, and only its ages
are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pagepulse.service.status import ProcessStatus, Status, TargetStatus


class Written:
    """Writes one status after the other. Not for several threads."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ProcessStatus, str]] = {}  # by identity: as long as it is here, nobody else has it

    def text(self, status: Status, now_ns: int) -> str:
        """All of a status as one line; ages count to `now_ns`."""
        before, self._kept = self._kept, {}
        targets = [self._target(target, now_ns, before) for target in status.targets]
        return _with_list(status.as_json(now_ns), "targets", targets)

    def _target(self, target: TargetStatus, now_ns: int, before: Mapping[int, tuple[ProcessStatus, str]]) -> str:
        processes = (self._process(process, now_ns, before) for process in target.processes)
        return _with_list(target.as_json(now_ns), "processes", processes)

    def _process(self, process: ProcessStatus, now_ns: int, before: Mapping[int, tuple[ProcessStatus, str]]) -> str:
        number = id(process)
        kept = self._kept[number] = before.get(number) or (process, json.dumps(process.as_json()))
        ages = ", ".join([f'"{key}": {value!r}' for key, value in process.ages_json(now_ns).items()])
        return f"{kept[1][:-1]}, {ages}}}"


def _with_list(content: Mapping[str, Any], key: str, items: Iterable[str]) -> str:
    """An object with one key more: a list of what is written already."""
    return f'{json.dumps(content)[:-1]}, "{key}": [{", ".join(items)}]}}'
