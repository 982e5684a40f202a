# SPDX-License-Identifier: GPL-2.0-only
"""How tables are put together: each measurement is kept as a file of its own, and a table is made from all of a kind.

So one program, or one size, can be measured again alone: `keep` replaces its file in build/bench/KIND, and the
table is made from all files there. A table is a function from what is kept to a `Table`, which is a section of
RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import OtherWork
from bench.results import write_section
from workload import ROOT

KEPT = ROOT / "build" / "bench"

Kept = dict[str, Any]
"""One measurement: JSON."""


def keep(kind: str, key: str, measurement: Kept) -> None:
    """Keep it beside the others of its kind."""
    path = KEPT / kind / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, **measurement}))


def all_of(kind: str) -> list[Kept]:
    """All of a kind, in the order of their keys."""
    return [json.loads(path.read_text()) for path in sorted((KEPT / kind).glob("*.json"))]


@contextmanager
def circumstances(*pids: int) -> Iterator[Kept]:
    """Filled on leaving: when it was measured, and what share of the machine other programs took meanwhile.

    Args:
        *pids: Processes that belong to the measurement and live longer than it.
    """
    facts: Kept = {}
    others = OtherWork(*pids)
    yield facts
    facts |= {"measured": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}", "others_share": others.share(),
              "load": Path("/proc/loadavg").read_text().split()[0]}


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and what there is to say of it: a section of RESULTS.md."""

    title: str
    about: str
    """What was measured and how, in a few sentences."""
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()

    def body(self) -> str:
        """The section without its heading."""
        table = [self.columns, ["---"] * len(self.columns), *self.rows]
        lines = ["| " + " | ".join(row) + " |" for row in table]
        return "\n".join([self.about, "", *lines, "", "\n\n".join(self.remarks)])

    def write(self) -> None:
        """Replace the section in RESULTS.md."""
        write_section(self.title, self.body())

    def show(self, *, write: bool) -> None:
        """Print it; into RESULTS.md, too, if that was asked for."""
        print(self.text())
        if write:
            self.write()

    def text(self) -> str:
        """For the terminal."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
                         for row in table) + "".join(f"\n{one}" for one in self.remarks)


def print_table(name: str, about: str, measure: Callable[[], Table]) -> int:
    """What a bench with one table does: measure, print, and write it into RESULTS.md if asked to.

    Args:
        name: Of the bench.
        about: Its help.
        measure: Makes the table.
    """
    parser = argparse.ArgumentParser(prog=name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table to tests/bench/RESULTS.md")
    args = parser.parse_args()
    measure().show(write=args.write)
    return 0


def noise(measurement: Kept) -> str:
    """When, and how calm: a table's cell."""
    return f"{measurement['measured']}, others {measurement['others_share'] * 100:.0f} %, load {measurement['load']}"
