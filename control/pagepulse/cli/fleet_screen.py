# SPDX-License-Identifier: GPL-2.0-only
"""The live view of many processes: a table on a terminal, redrawn once a second; a line for all where it is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

from pagepulse.cli.observers import Observer
from pagepulse.cli.screen import Refresh, nothing_else
from pagepulse.fleet import Fleet
from pagepulse.model.snapshot import Snapshot
from pagepulse.report.table import ProcessTable
from pagepulse.report.words import not_known_yet


class FleetScreen(Observer):
    """Shows a fleet on standard output.

    Args:
        fleet: What is watched.
        on_screen: Standard output is a terminal.
        schemes: What schemes are up to, in lines.
    """

    def __init__(self, fleet: Fleet, *, on_screen: bool, schemes: Callable[[], Sequence[str]] = nothing_else) -> None:
        self._fleet, self._on_screen, self._schemes = fleet, on_screen, schemes
        self._table, self._due = ProcessTable(), Refresh()

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """The table knows processes by name."""
        if kind == "watched":
            self._table.named(data["pid"], data["name"])
        elif kind == "ended":
            self._table.ended(data["pid"])

    def seen(self, snapshot: Snapshot) -> None:
        """It stands for its process from now on."""
        self._table.add(snapshot)

    def beat(self, now_ns: int) -> None:
        """Show how things stand, once a second."""
        if self._due():
            self._show(now_ns)

    def _show(self, now_ns: int) -> None:
        schemes = self._schemes()
        if not self._on_screen:
            print("\n".join((self._total(), *schemes)), flush=True)
            return
        width, height = shutil.get_terminal_size()
        table = self._table.lines(now_ns, width, height - 2 - len(schemes))
        lines = [line[:width] for line in (self._total(), *schemes)]
        print("\033[H\033[J" + "\n".join((*lines, *table)), flush=True)

    def _total(self) -> str:
        """All of them in a line."""
        summary, unknown = self._fleet.summary(), self._fleet.unknown
        total = self._table.total(round(summary["duration_s"] * 1e9), summary["cpu_percent"] / 100)
        return f"{total}  {not_known_yet(unknown.processes, unknown.rss_bytes)}" if unknown.processes else total
