# SPDX-License-Identifier: GPL-2.0-only
"""What metrics cost: series, bytes and CPU of one scrape, by how many targets and processes a daemon watches.

    python -m bench.metrics [--write]

Over HTTP on this machine, from a status made for it; in OpenMetrics, as Prometheus asks for it, compressed.
"""

from __future__ import annotations

import statistics
import sys
import time
import urllib.request
from dataclasses import replace

from bench.kept import Table, circumstances, noise, print_table
from bench.machine import description
from pagepulse.service.exporter import Exporter
from pagepulse.service.status import Status
from unit.service.test_metrics import SCHEME
from unit.service.test_status import process, status, target

CASES = ((1, 1), (5, 20), (20, 300), (64, 3000))
"""Targets, and processes in all of them together."""
REPETITIONS = 30
_ACCEPT = "application/openmetrics-text; version=1.0.0"


def busy(targets: int, processes: int) -> Status:
    """A daemon with so much to tell: two schemes for each target, processes of ten names each."""
    schemes = (SCHEME, replace(SCHEME, name="huge", action="hugepage"))
    return status(*(target(*(replace(process(pid), name=f"worker-{pid % 10}") for pid in range(processes // targets)),
                           name=f"target-{number}", schemes=schemes) for number in range(targets)))


def scrape(port: int, encoding: str) -> bytes:
    """One, as Prometheus makes it."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics",
                                     headers={"Accept": _ACCEPT, "Accept-Encoding": encoding})
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def measure(targets: int, processes: int) -> list[str]:
    """One row."""
    told = busy(targets, processes)
    exporter = Exporter("127.0.0.1:0", lambda: told)
    exporter.start()
    try:
        text = scrape(exporter.port, "identity")
        compressed = scrape(exporter.port, "gzip")
        cpu_ms, wall_ms = [], []
        for _ in range(REPETITIONS):
            cpu_ns, begun_ns = time.process_time_ns(), time.monotonic_ns()
            scrape(exporter.port, "gzip")
            cpu_ms.append((time.process_time_ns() - cpu_ns) / 1e6)
            wall_ms.append((time.monotonic_ns() - begun_ns) / 1e6)
    finally:
        exporter.close()
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    sizes = (f"{len(text) / 1024:.0f} KiB", f"{len(compressed) / 1024:.1f} KiB")
    return [str(targets), str(processes), str(series), *sizes,
            f"{statistics.median(cpu_ms):.1f} ms", f"{statistics.median(wall_ms):.1f} ms"]


def table() -> Table:
    """All rows."""
    with circumstances() as facts:
        rows = [measure(*case) for case in CASES]
    about = (f"`make bench-metrics`. Two schemes with two guards each for a target, processes of ten names. Medians of "
             f"{REPETITIONS} scrapes over HTTP on this machine; the CPU time is that of both ends.")
    columns = ("Targets", "Processes", "Series", "Text", "Compressed", "CPU", "Time")
    return Table("Metrics", about, columns, rows, [f"{description()} ({noise(facts)})."])


if __name__ == "__main__":
    sys.exit(print_table("bench.metrics", __doc__ or "", table))
