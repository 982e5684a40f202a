# SPDX-License-Identifier: GPL-2.0-only
"""What pagepulse says of workloads that know the truth."""

from __future__ import annotations

from pathlib import Path

from bench.command import answer
from bench.table import Row, row_between
from bench.truth import Found, hot_found, newest
from workload import Workload

HOT_HZ = 5.0
"""Between the warm pages of `office`, 0.5 Hz, and its hot ones, 80 Hz."""


def pulse_row(share: str, duration_s: int, place: Path) -> Row:
    """Working set of a workload that touches this share of 1 GiB each 10 ms: p50 against what it touches."""
    with Workload("pulse", "--size", "1GiB", "--hot", share, "--period", "10ms") as pulse:
        wss_bytes = _wss_p50(pulse, duration_s, place)
        error_percent = (wss_bytes / pulse.ready["hot_bytes"] - 1) * 100
        late = pulse.finish()["late"]
    what = f"working set, {share} of 1 GiB each 10 ms: error of p50{f' ({late} periods late)' if late else ''}"
    return row_between(what, error_percent, -3, 3, "%")


def stairs_row(place: Path) -> Row:
    """Working set of ten areas of 10 MB, used one after the other for 2.5 s each."""
    with Workload("stairs") as stairs:
        wss_bytes = _wss_p50(stairs, 23, place)  # it takes 25 s, and the monitor up to 2 s to start
    return row_between("working set, 10 x 10 MB in turn: p50", wss_bytes / 1e6, 9.7, 10.3, "MB")


def hot_rows(duration_s: int, place: Path) -> list[Row]:
    """Hot bytes of the demo's workload: precision and recall at the end of a recording."""
    path = place / "hot.data"
    with Workload("office") as office:
        answer("record", "--force", "-o", path, "--duration", f"{duration_s}s", "--pid", str(office.pid))
        hot = office.area("hot")
    found: Found = hot_found(newest(answer("report", "regions", path)["snapshots"], duration_s / 4), [hot], HOT_HZ)
    return [Row(f"hot bytes of the demo's workload, {name}", f"{value * 100:.1f} %", ">= 95 %", value >= 0.95)
            for name, value in found._asdict().items()]


def _wss_p50(workload: Workload, duration_s: int, place: Path) -> int:
    path = place / f"{workload.name}.data"
    answer("record", "--force", "-o", path, "--duration", f"{duration_s}s", "--pid", str(workload.pid))
    return int(answer("report", "wss", path)["wss_bytes"]["p50"])
