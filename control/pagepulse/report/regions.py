# SPDX-License-Identifier: GPL-2.0-only
"""The regions of snapshots: a table for people, JSON for programs. Both are made piece by piece: an hour is long."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from pagepulse.model.snapshot import Snapshot
from pagepulse.report.words import not_known, number, shortened, waits, wrapped
from pagepulse.units import format_size, format_time_ns


def regions_json(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    """The document, in pieces: one for each snapshot."""
    yield '{"snapshots": ['
    separator = "\n"
    for snapshot in snapshots:
        yield separator + json.dumps(snapshot_json(snapshot))
        separator = ",\n"
    yield "\n]}\n"


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """One snapshot as the JSON document has it. A rate or count that is not a number is null."""
    names = snapshot.regions.dtype.names or ()
    faults = [None] * len(snapshot.regions) if snapshot.faults is None else snapshot.faults.tolist()
    waiting = {name: asdict(value) for name, value in (("delays", snapshot.delays), ("pressure", snapshot.pressure))
               if value is not None}
    times = {"start_ns": snapshot.start_ns, "end_ns": snapshot.end_ns, "cleared": not snapshot.spared}
    return {**times, **waiting, "regions": [
        _region_json(snapshot, dict(zip(names, row, strict=True))) | {"faults": count}
        for row, count in zip(snapshot.regions.tolist(), faults, strict=True)]}


def _region_json(snapshot: Snapshot, row: dict[str, Any]) -> dict[str, Any]:
    return {"pid": snapshot.pid, "start": row["start"], "end": row["end"],
            "nr_accesses": number(row["nr_accesses"]), "nr_accesses_error": number(row["nr_accesses_error"]),
            "rate_hz": number(row["rate_hz"]), "age_us": (snapshot.end_ns - row["since_ns"]) // 1000,
            "mapping": snapshot.mappings[row["mapping"]],
            "present_bytes": row["present_bytes"], "touched_bytes": row["touched_bytes"],
            "unknown_bytes": row["unknown_bytes"], "unclearable_bytes": row["unclearable_bytes"]}


class _Column(NamedTuple):
    title: str
    width: int
    needs: int
    """Width of the terminal below which this column is left out."""


_COLUMNS = (_Column("ADDRESS", 14, 0), _Column("SIZE", 8, 0), _Column("ACCESSES", 8, 0), _Column("+-", 4, 78),
            _Column("RATE/s", 7, 78), _Column("AGE", 9, 60), _Column("TOUCHED", 9, 70))
_FAULTS = _Column("FAULTS", 7, 90)
_LEFT_OVER = 8


def regions_text(snapshots: Iterable[Snapshot], origin_ns: int, width: int = 80) -> Iterator[str]:
    """One table for each snapshot, line by line. Fewer columns where the terminal is narrow.

    Args:
        snapshots: What to show.
        origin_ns: When the recording began; times are shown since then.
        width: Of the terminal.
    """
    for i, snapshot in enumerate(snapshots):
        if i:
            yield ""
        columns = [column for column in (_COLUMNS if snapshot.faults is None else (*_COLUMNS, _FAULTS))
                   if width >= column.needs]
        name_width = max(width - sum(column.width + 1 for column in columns), _LEFT_OVER)
        yield from wrapped(_heading(snapshot, origin_ns), width)
        yield " ".join([f"{column.title:>{column.width}}" for column in columns] + ["MAPPING"])
        for place, row in enumerate(snapshot.regions):
            cells = _cells(snapshot, row)
            if snapshot.faults is not None:
                cells["FAULTS"] = str(snapshot.faults[place])
            yield " ".join([f"{cells[column.title]:>{column.width}}" for column in columns]
                           + [shortened(snapshot.mappings[row["mapping"]], name_width)])
        yield from wrapped([*not_known(snapshot), *waits(snapshot)], width)


def _heading(snapshot: Snapshot, origin_ns: int) -> Iterator[str]:
    yield (f"pid {snapshot.pid} at {format_time_ns(snapshot.end_ns - origin_ns)}: "
           f"{format_size(snapshot.rss_bytes)} resident, {format_size(snapshot.wss_bytes)} of it touched")
    yield (f"within {format_time_ns(snapshot.end_ns - snapshot.start_ns)}; {len(snapshot.regions)} regions; "
           f"ACCESSES out of {snapshot.max_nr_accesses:.0f}")
    if snapshot.faults is not None and (faults := int(snapshot.faults.sum())):
        yield f"{faults} page faults"


def _cells(snapshot: Snapshot, row: np.void) -> dict[str, str]:
    present, unknown, unclearable = (int(row[name]) for name in
                                     ("present_bytes", "unknown_bytes", "unclearable_bytes"))
    cells = {"ADDRESS": f"{int(row['start']):#x}", "SIZE": format_size(int(row["end"] - row["start"])),
             "AGE": format_time_ns(snapshot.end_ns - int(row["since_ns"]))}
    if present > unknown + unclearable:
        return cells | {"ACCESSES": f"{row['nr_accesses']:.1f}", "+-": f"{row['nr_accesses_error']:.1f}",
                        "RATE/s": f"{row['rate_hz']:.3g}", "TOUCHED": format_size(int(row["touched_bytes"]))}
    why = "not there" if not present else "unknown" if unknown >= unclearable else "no clear"
    return cells | {"ACCESSES": "?", "+-": "?", "RATE/s": "?", "TOUCHED": why}
