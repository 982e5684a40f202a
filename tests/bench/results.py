# SPDX-License-Identifier: GPL-2.0-only
"""RESULTS.md: one section for each bench, so that one can be measured again without the others."""

from __future__ import annotations

import datetime as dt
import re
import shlex
import sys
from pathlib import Path

from bench.machine import description
from workload import ROOT

RESULTS = ROOT / "tests" / "bench" / "RESULTS.md"


def with_section(document: str, title: str, body: str) -> str:
    """The document with this section in place of the one of the same title, or after the others."""
    section = f"## {title}\n\n{body.rstrip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(document):
        return pattern.sub(lambda _match: section + "\n", document).rstrip() + "\n"
    return f"{document.rstrip()}\n\n{section}"


def write_section(title: str, body: str, path: Path = RESULTS) -> None:
    """Write a section, with when, where and by what command it was measured."""
    module = Path(sys.argv[0]).stem
    command = shlex.join(["python", "-m", f"bench.{module}", *sys.argv[1:]])
    stamp = f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {description()}, `{command}`."
    path.write_text(with_section(path.read_text(), title, f"{stamp}\n\n{body}"))
    print(f"Written to {path.relative_to(ROOT)}.")
