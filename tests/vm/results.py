# SPDX-License-Identifier: GPL-2.0-only
"""What a run of pytest inside a machine found: its JUnit report, test by test."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

told: list[str] = []
"""What is worth saying of all that ran, a line each."""


class Result(NamedTuple):
    """How one test ended."""

    module: str
    """Path of its file."""
    name: str
    outcome: str
    """passed, failure, error or skipped."""
    details: str


def read(report: Path) -> list[Result]:
    """All tests of a JUnit report."""
    return [_result(case) for case in ET.parse(report).getroot().iter("testcase")]


def properties(report: Path) -> list[tuple[str, str]]:
    """What tests have recorded about the whole run: names and values."""
    return [(row.get("name", ""), row.get("value", "")) for row in ET.parse(report).getroot().iter("property")]


def _result(case: ET.Element) -> Result:
    module = case.get("classname", "").replace(".", "/") + ".py"
    name = case.get("name", "")
    for outcome in ("error", "failure", "skipped"):
        found = case.find(outcome)
        if found is not None:
            return Result(module, name, outcome, found.text or found.get("message", ""))
    return Result(module, name, "passed", "")
