# SPDX-License-Identifier: GPL-2.0-only
"""Rows of results: what was measured, the goal beside it, and whether it is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    goal: str
    is_met: bool | None
    """None: the measurement is too coarse to tell."""

    @property
    def judgement(self) -> str:
        """`met`, `MISSED` or `not shown`."""
        return judgement(self.is_met)


def judgement(is_met: bool | None) -> str:
    """`met`, `MISSED` or `not shown`."""
    return "not shown" if is_met is None else "met" if is_met else "MISSED"


def row_at_most(what: str, value: float, limit: float, unit: str) -> Row:
    """A row that is met if the value is at most the limit."""
    return Row(what, f"{value:.3g} {unit}", f"<= {limit:g} {unit}", value <= limit)


def row_between(what: str, value: float, low: float, high: float, unit: str) -> Row:
    """A row that is met if the value lies between both."""
    return Row(what, f"{value:.4g} {unit}", f"{low:.4g} to {high:.4g} {unit}", low <= value <= high)


def verdict(rows: Sequence[Row]) -> str:
    """A sentence about all of them."""
    met = sum(row.is_met is True for row in rows)
    if met == len(rows):
        return f"All {met} goals are met."
    others = "; ".join(f"{row.judgement}: {row.what}" for row in rows if not row.is_met)
    return f"{met} of {len(rows)} goals are met. {others[0].upper()}{others[1:]}."


def as_text(rows: Sequence[Row]) -> str:
    """For the terminal."""
    widths = [max(len(row.what) for row in rows), max(len(row.measured) for row in rows),
              max(len(row.goal) for row in rows)]
    return "\n".join(f"{row.what:<{widths[0]}}  {row.measured:<{widths[1]}}  {row.goal:<{widths[2]}}  "
                     f"{row.judgement}" for row in rows)


def as_markdown(rows: Sequence[Row]) -> str:
    """For a file."""
    lines = ["| What | Measured | Goal | |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.goal} | {row.judgement} |" for row in rows]
    return "\n".join(lines)
