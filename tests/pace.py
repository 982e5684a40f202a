# SPDX-License-Identifier: GPL-2.0-only
"""Pace: an emulated processor (PAGEPULSE_EMULATED=1) takes dozens of times as long. Tests wait longer for it there, and
let the monitor have as much more of it."""

from __future__ import annotations

import os

EMULATED = os.environ.get("PAGEPULSE_EMULATED") == "1"
_LONGER, _STARTING, _DEARER = (5, 12, 50) if EMULATED else (1, 1, 1)
_WATCHING = {"record", "run", "monitor"}


def patience(seconds: float) -> float:
    """How long to wait at most for what takes a real processor less than this."""
    return seconds * _LONGER


def lasting(seconds: float) -> str:
    """How long something lasts in which pagepulse has to start, and then some."""
    return f"{seconds * _STARTING:g}s"


def percent(of_real: int) -> int:
    """A budget that buys what so many percent of a real processor do."""
    return min(of_real * _DEARER, 100)


def budgeted(arguments: list[str]) -> list[str]:
    """A command line of pagepulse, its budget in percent of this processor."""
    if not EMULATED or not arguments or arguments[0] not in _WATCHING:
        return arguments
    ours, command = arguments, []
    if "--" in arguments:
        ours, command = arguments[:arguments.index("--")], arguments[arguments.index("--"):]
    if "--budget" not in ours:
        return [*ours, "--budget", f"{percent(1)}%", *command]
    at = ours.index("--budget") + 1
    return [*ours[:at], f"{percent(int(ours[at].removesuffix('%')))}%", *ours[at + 1:], *command]
