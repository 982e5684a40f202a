# SPDX-License-Identifier: GPL-2.0-only
"""What schemes came to and what they are up to: for JSON, for the last words, for a live view."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pagepulse.apply import Applier
from pagepulse.report.scheme_states import state_lines
from pagepulse.units import format_size


def scheme_summary(applier: Applier, index: int) -> dict[str, Any]:
    """A scheme's result, why it waits, and what its guards say."""
    result = applier.results[index]
    return asdict(result) | {"waits_for": applier.waits.get(result.name, ""),
                             "guards": [asdict(verdict) for verdict in applier.verdicts[result.name]]}


def scheme_words(scheme: dict[str, Any]) -> list[str]:
    """The same for people."""
    errors = f", {scheme['errors']} refused" if scheme["errors"] else ""
    lines = [(f"{scheme['name']}: {scheme['action']} tried on {format_size(scheme['tried_bytes'])}, "
              f"done on {format_size(scheme['applied_bytes'])} ({scheme['calls']} calls{errors})")]
    if scheme["saved_bytes"]:
        lines.append(f"  left {format_size(scheme['saved_bytes'])} of the same regions, page by page: they are in use")
    if scheme["restored_bytes"]:
        lines.append(f"  made {format_size(scheme['restored_bytes'])} huge again: it had been when it went")
    if scheme["waits_for"]:
        lines.append(f"  waits: {scheme['waits_for']}")
    lines += [f"  guard {guard['guard']}: {guard['reason']}"
              for guard in scheme["guards"] if guard["stance"] == "limits"]
    return lines + [f"  no effect on {format_size(size)}: {reason}" for reason, size in scheme["reasons"].items()]


def all_state_lines(applier: Applier) -> list[str]:
    """What each scheme is up to, as a live view shows it."""
    states = (scheme_summary(applier, index) for index in range(len(applier.results)))
    return [line for state in states for line in state_lines(state)]
