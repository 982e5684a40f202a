# SPDX-License-Identifier: GPL-2.0-only
"""What a pass of a scheme costs that finds nothing to do, over 16 GiB.

    python -m bench.scheme_pass [--write]

schemes/prcl.json on the windows of a target made for it; the guards look each time. Nothing of the machine is read but
its own counters: where the guards would read windows, what they find there is made, too.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bench.kept import Table, circumstances, noise, print_table
from bench.machine import description
from bench.table import judgement
from pagepulse.apply import Applier
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, Mapping, PageBits, WindowRead
from pagepulse.model.snapshot import IDLE_EDGES_NS, REGION, Cost, Snapshot
from pagepulse.model.system import Waits
from pagepulse.model.windows import ALL_PAGES, Windows
from pagepulse.monitor import Monitor
from pagepulse.policy.parse import parse_schemes
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
        target = SimpleNamespace(now_ns=lambda: self.now_ns, rss_bytes=lambda: SIZE_BYTES, read_pages=self.read_pages)
        return cast("Monitor", SimpleNamespace(
            target=target, engine=SimpleNamespace(windows=self.windows),
            process=SimpleNamespace(pid=1), look_for_returned=self.look_for_returned, returned_bytes=0,
            returned_soon_bytes=0, leave_out=lambda _ns: None, waits=SimpleNamespace(newest=Waits())))

    def read_pages(self, start: int, end: int) -> PageBits:
        """As the windows have it: all pages resident, none touched."""
        nothing = np.zeros((end - start) // PAGE, np.bool_)
        return PageBits(start, ~nothing, nothing, nothing, nothing, nothing)

    def wait(self, time_ns: int) -> None:
        """Nothing happens for so long."""
        self.now_ns += time_ns

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


def _idle(seconds: int = 60) -> Watched:
    watched = Watched(0.0, np.uint64(0), ALL_PAGES)
    watched.wait(seconds * SECOND_NS)
    return watched


def _patient() -> Watched:
    """All of it came back once."""
    watched = _idle()
    watched.windows.patience_ns[:] = 3600 * SECOND_NS
    return watched


def _nothing(_applier: Applier, _watched: Watched) -> None:
    """As it is."""


def _fruitless(applier: Applier, watched: Watched) -> None:
    """Every page was tried, and the kernel kept it, for others have it, too."""
    part = applier._parts[1]
    pages = np.ones(SIZE_BYTES // PAGE, np.bool_)
    for turn in part.turns.values():
        turn.rests.book(BASE, pages, watched.now_ns)


def pass_ms(watched: Watched, filters: Sequence[dict[str, Any]] = (),
            prepare: Callable[[Applier, Watched], None] = _nothing) -> float:
    """The median CPU time of a pass.

    Args:
        watched: What the scheme is for.
        filters: The scheme's.
        prepare: Done once after the first pass.

    Raises:
        RuntimeError: A pass found something to do.
    """
    document = json.loads((ROOT / "schemes/prcl.json").read_text())
    document["schemes"][0]["filters"] = [*filters]
    schemes = parse_schemes(json.dumps(document).encode(), "prcl.json")
    monitor, times_ns = watched.monitor(), []
    applier = Applier(schemes, None, watched.now_ns)
    if prepare is not _nothing:
        watched.wait(-60 * SECOND_NS)  # not idle for long enough yet: the first pass finds nothing to do
        applier.apply(monitor, watched.snapshot())
        watched.wait(60 * SECOND_NS)
        prepare(applier, watched)
    for _ in range(PASSES):
        for turn in (turn for part in applier._parts.values() for turn in part.turns.values()):
            turn.applied_ns = None  # a pass is due, though the clock stands still
        begun_ns = time.process_time_ns()
        applier.apply(monitor, watched.snapshot())
        times_ns.append(time.process_time_ns() - begun_ns)
        if applier.results[0].tried_bytes:
            raise RuntimeError("there was something to do")
    return statistics.median(times_ns) / 1e6


CASES: dict[str, Callable[[], float]] = {
    "all of it is busy: no region matches": lambda: pass_ms(Watched(200.0, ALL_PAGES, ALL_PAGES)),
    "regions look idle, and each of their pages was touched 3 s ago":
        lambda: pass_ms(Watched(0.1, ALL_PAGES, ALL_PAGES)),
    "regions are idle, and each page has been so for 3 s of the 5":
        lambda: pass_ms(Watched(0.0, np.uint64(0), ALL_PAGES)),
    "all of it was paged out, and stayed away": lambda: pass_ms(Watched(0.0, np.uint64(0), np.uint64(0))),
    "all of it is idle, and came back once: it has to be so for an hour": lambda: pass_ms(_patient()),
    "all of it is idle, and was kept when it was tried: others have it, too":
        lambda: pass_ms(_idle(), prepare=_fruitless),
    "all of it is idle, and filters that ask for the page reject it":
        lambda: pass_ms(_idle(), [{"type": "hugepage_size", "size": {"min": "2 MiB"}, "allow": True}]),
}


def table() -> Table:
    """Measure all."""
    rows = []
    with circumstances() as facts:
        for what, measured in CASES.items():
            spent_ms = measured()
            rows.append([what, f"{spent_ms:.2f} ms", f"{GOAL_MS:g} ms: {judgement(spent_ms <= GOAL_MS)}"])
    about = (f"`make bench-scheme-pass`. CPU time of one pass of prcl.json over {SIZE_BYTES >> 30} GiB in {REGIONS} "
             f"regions, median of {PASSES}. The guards' own reads of windows are not in it: {_GUARDS_READ} of them at "
             "0.2 us each, where something was paged out.")
    return Table("A scheme pass with nothing to do", about, ("What there is", "CPU time", "Goal, at most"), rows,
                 [f"{description()} ({noise(facts)})."])


if __name__ == "__main__":
    sys.exit(print_table("bench.scheme_pass", __doc__ or "", table))
