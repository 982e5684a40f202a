# SPDX-License-Identifier: GPL-2.0-only
"""What a pass of a scheme costs that finds nothing to do, over 16 GiB.

    python -m bench.scheme_pass [--write]

schemes/prcl.json on the windows of a target made for it; the guards look each time. Nothing of the machine is read but
its own counters: where the guards would read windows, what they find there is made, too.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bench.kept import Table, circumstances, noise, print_table
from bench.machine import description
from bench.table import judgement
from pagepulse.apply import Applier
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, WINDOW, Mapping, WindowRead
from pagepulse.model.snapshot import IDLE_EDGES_NS, REGION, Cost, Snapshot
from pagepulse.model.system import Waits
from pagepulse.model.windows import ALL_PAGES, Windows
from pagepulse.monitor import Monitor
from pagepulse.policy.load import load_document
from workload import ROOT

SIZE_BYTES, REGIONS = 16 << 30, 1000
GOAL_MS = 10.0
PASSES = 40
SECOND_NS = 1_000_000_000
BASE = 0x7F00_0000_0000
_GUARDS_READ = 8192  # windows, at each look


class Watched:
    """Stands in for a monitor of a target of SIZE_BYTES.

    Args:
        rate: Touches a second of each page, as the snapshot has it.
        young: Pages of each window that are found touched.
        present: Pages of each window that are resident.
    """

    def __init__(self, rate: float, young: np.uint64, present: np.uint64) -> None:
        self.now_ns = 100 * SECOND_NS
        mapping = Mapping(BASE, BASE + SIZE_BYTES, "[heap]")
        chunks = np.arange(BASE, BASE + SIZE_BYTES, CHUNK, dtype=np.uint64)
        self.windows = Windows([mapping], spread([mapping], chunks, SIZE_BYTES // WINDOW))
        self._every = np.arange(len(self.windows))
        self._observe(self._every, np.uint64(0), ALL_PAGES)
        self._young, self._present = young, present
        if not present:
            self.windows.mark_evicted(np.array([[BASE, BASE + SIZE_BYTES]], np.uint64), self.now_ns)
        self.now_ns += 3 * SECOND_NS
        self._observe(self._every, young, present)
        self.regions = _regions(rate, touched=bool(young), present=bool(present))

    def _observe(self, index: np.ndarray[Any, np.dtype[np.intp]], young: np.uint64, present: np.uint64) -> None:
        n = len(index)
        self.windows.observe(index, WindowRead(np.full(n, young), np.full(n, present), np.ones(n, np.uint8),
                                               self.now_ns))

    def look_for_returned(self) -> None:
        """As Monitor's, of what is known to be there."""
        self._observe(self.windows.with_evicted(_GUARDS_READ), self._young, self._present)

    def monitor(self) -> Monitor:
        """With what a pass asks of one."""
        target = SimpleNamespace(now_ns=lambda: self.now_ns, rss_bytes=lambda: SIZE_BYTES)
        return cast("Monitor", SimpleNamespace(
            target=target, engine=SimpleNamespace(windows=self.windows), process=SimpleNamespace(pid=1),
            look_for_returned=self.look_for_returned, returned_bytes=0, waits=SimpleNamespace(newest=Waits())))

    def snapshot(self) -> Snapshot:
        """The newest."""
        regions = self.regions.copy()
        return Snapshot(1, self.now_ns - SECOND_NS // 10, self.now_ns, 5_000_000, regions, ("[heap]",), SIZE_BYTES, 0,
                        (0,) * len(IDLE_EDGES_NS), 0, 0, 0, Cost(0, 0))


def _regions(rate: float, *, touched: bool, present: bool) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    regions = np.zeros(REGIONS, REGION)
    edges = BASE + np.arange(REGIONS + 1) * (SIZE_BYTES // WINDOW) // REGIONS * WINDOW
    regions["start"], regions["end"] = edges[:-1], edges[1:]
    sizes = regions["end"] - regions["start"]
    regions["present_bytes"], regions["touched_bytes"] = sizes * present, sizes * touched
    regions["rate_hz"], regions["nr_accesses"] = rate, min(rate / 10, 20.0)
    return regions


CASES: dict[str, Callable[[], Watched]] = {
    "all of it is busy: no region matches": lambda: Watched(200.0, ALL_PAGES, ALL_PAGES),
    "regions look idle, and each of their pages was touched 3 s ago": lambda: Watched(0.1, ALL_PAGES, ALL_PAGES),
    "regions are idle, and each page has been so for 3 s of the 5": lambda: Watched(0.0, np.uint64(0), ALL_PAGES),
    "all of it was paged out, and stayed away": lambda: Watched(0.0, np.uint64(0), np.uint64(0)),
}


def pass_ms(watched: Watched) -> float:
    """The median CPU time of a pass.

    Raises:
        RuntimeError: A pass found something to do.
    """
    schemes = load_document(ROOT / "schemes/prcl.json").schemes
    monitor, times_ns = watched.monitor(), []
    for _ in range(PASSES):
        applier = Applier(schemes, None, watched.now_ns)  # for a new one, a pass is due, though the clock stands still
        begun_ns = time.process_time_ns()
        applier.apply(monitor, watched.snapshot())
        times_ns.append(time.process_time_ns() - begun_ns)
        if applier.results[0].tried_bytes:
            raise RuntimeError("there was something to do")
    return statistics.median(times_ns) / 1e6


def table() -> Table:
    """Measure all."""
    rows = []
    with circumstances() as facts:
        for what, made in CASES.items():
            spent_ms = pass_ms(made())
            rows.append([what, f"{spent_ms:.2f} ms", f"{GOAL_MS:g} ms: {judgement(spent_ms <= GOAL_MS)}"])
    about = (f"`make bench-scheme-pass`. CPU time of one pass of prcl.json over {SIZE_BYTES >> 30} GiB in {REGIONS} "
             f"regions, median of {PASSES}. The guards' own reads of windows are not in it: {_GUARDS_READ} of them at "
             "0.2 us each, where something was paged out.")
    return Table("A scheme pass with nothing to do", about, ("What there is", "CPU time", "Goal, at most"), rows,
                 [f"{description()} ({noise(facts)})."])


if __name__ == "__main__":
    sys.exit(print_table("bench.scheme_pass", __doc__ or "", table))
