# SPDX-License-Identifier: GPL-2.0-only
"""Observers: what looks on while many processes are watched: accounts, a screen, a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pagepulse.model.snapshot import Snapshot


class Observer:
    """Looks on; each kind takes of this what it needs."""

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """As a fleet tells of its events."""

    def seen(self, snapshot: Snapshot) -> None:
        """A snapshot was finished; schemes, if there are any, were applied to it already."""

    def beat(self, now_ns: int) -> None:
        """Twice a second, whether anything was seen or not."""


class Observers(Observer):
    """Several of them as one.

    Args:
        observers: In the order in which they are told.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._all = observers

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """Tell all."""
        for one in self._all:
            one.happened(kind, data)

    def seen(self, snapshot: Snapshot) -> None:
        """Tell all."""
        for one in self._all:
            one.seen(snapshot)

    def beat(self, now_ns: int) -> None:
        """Tell all."""
        for one in self._all:
            one.beat(now_ns)
