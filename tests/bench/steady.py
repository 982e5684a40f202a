# SPDX-License-Identifier: GPL-2.0-only
"""What monitoring costs in any ten seconds, and what it finds, on targets from 50 MB to 16 GiB.

    python -m bench.steady [--quick] [--write]

The cost is that of each snapshot: our CPU time and the target's tax. *Busiest 10 s* are the costliest after the first
10. Hot bytes are those of regions with nr_accesses above 5, summed over 1 s; accuracy is of the last third. Where the
target changes what it uses, it is of all after the first 10 s, as far as a second, or a snapshot, lies between changes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench import tool
from bench.command import answer
from bench.machine import OtherWork
from bench.results import write_section
from pagepulse.capture import Recording
from pagepulse.model.snapshot import Snapshot
from pagepulse.simulate.accuracy import HOT_ABOVE, hot_ranges
from pagepulse.simulation import busiest_percent
from workload import ROOT, Workload

TITLE = "Cost in any ten seconds, and accuracy, real"
PLACE = ROOT / "build" / "bench"
NOTE = """\
`record` at its defaults (budget 1 %), one run each. Goals: at most 1.1 % in the busiest 10 s (after the first 10; our
CPU and the target's tax together), precision and recall of hot bytes at least 95 %, working set within 3 %, and within
10 % in the first whole snapshot after the target changed what it uses (the median, and the worst)."""
HEAD = ("| Target | Busiest 10 s | Whole run, CPU, tax | Interval, median | Precision | Recall | Working set, p50 "
        "| After a change |\n|---|---|---|---|---|---|---|---|")
_WARM_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in use, and for how long."""

    hot: np.ndarray
    within: np.ndarray
    """What the target speaks of: of its code, its stacks and the like it does not say what is hot."""
    start_ns: int = 0
    end_ns: int = 1 << 62

    @property
    def size_bytes(self) -> float:
        """All of it."""
        return float((self.hot[:, 1] - self.hot[:, 0]).sum())

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Whether all of a time lies within its own."""
        return self.start_ns <= start_ns and end_ns <= self.end_ns


@dataclass(frozen=True, slots=True)
class Case:
    """A target, and for how long it is recorded."""

    what: str
    program: str
    options: tuple[str, ...]
    seconds: int = 40


CASES = [
    Case("50 MB, half of it each 10 ms", "pulse", ("--size", "50MiB", "--hot", "50%", "--period", "10ms")),
    *(Case(f"{size} GiB, {hot} MiB hot", "throughput", ("--size", f"{size}GiB", "--hot", f"{hot}MiB", "--slice", "1s"))
      for size, hot in ((1, 128), (4, 512), (8, 1024), (16, 1024))),
    Case("2 GiB, eight busy threads, 512 MiB hot", "throughput",
         ("--size", "2GiB", "--hot", "512MiB", "--slice", "1s", "--threads", "8")),
    Case("phases: 8 x 500 MB, 6 s each", "stairs", ("--areas", "8", "--bytes", "500000000", "--phase", "6s"), 46),
    Case("256 MiB, asleep", "touch", ("--area", "a:256MiB")),
]


def main() -> int:
    """Record each target once, and print a line for each."""
    parser = argparse.ArgumentParser(prog="bench.steady", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half as long")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    args = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    lines, others = [HEAD], OtherWork()
    print(HEAD)
    for case in CASES:
        lines.append(measure(case, case.seconds // (2 if args.quick else 1)))
        print(lines[-1], flush=True)
    if args.write:
        write_section(TITLE, "\n".join([
            NOTE, f"Other programs used {100 * others.share():.0f} % of the machine meanwhile.", "", *lines]))
    return 0


def measure(case: Case, seconds: int) -> str:
    """One line of the table."""
    path = PLACE / "steady.data"
    with Workload(case.program, *case.options) as target:
        summary = answer("record", "--force", "-o", path, "--duration", f"{seconds}s", "--pid", str(target.pid))
        truths = truths_of(target)
    with Recording.open(path) as recording:
        taken = list(recording.snapshots())
    spent = np.cumsum([snapshot.cost.cpu_ns + snapshot.cost.tax_ns for snapshot in taken])
    begun_ns = taken[0].start_ns
    busiest = busiest_percent([(snapshot.end_ns - begun_ns, float(cost))
                               for snapshot, cost in zip(taken, spent, strict=True)])
    found = after_changes(taken, truths) if len(truths) > 1 else [*accuracy(taken[2 * len(taken) // 3:], truths), ""]
    interval_ms = float(np.median([snapshot.end_ns - snapshot.start_ns for snapshot in taken])) / 1e6
    cells = [case.what, "too short" if busiest is None else f"{busiest:.2f} %",
             f"{summary['cpu_percent']:.2f} %, {summary['target_tax_percent']:.2f} %", f"{interval_ms:.0f} ms", *found]
    return "| " + " | ".join(cells) + " |"


def truths_of(target: Workload) -> list[Truth]:
    """What the target says of itself: always the same, or one phase after the other; or nothing."""
    hot = np.array(target.ready.get("hot", []), np.uint64).reshape(-1, 2)
    phases = target.events("phase")
    areas = target.ready.get("areas", [target.ready]) if phases or len(hot) else []
    within = np.array([[area["start"], area["end"]] for area in areas], np.uint64).reshape(-1, 2)
    ends_ns = [*(phase["start_ns"] for phase in phases[1:]), *(end["end_ns"] for end in target.events("end")), 1 << 62]
    return [Truth(hot, within)] if len(hot) else [
        Truth(np.array([[phase["start"], phase["end"]]], np.uint64), within, phase["start_ns"], end_ns)
        for phase, end_ns in zip(phases, ends_ns, strict=False)]


def accuracy(taken: Sequence[Snapshot], truths: Sequence[Truth]) -> list[str]:
    """Precision and recall of hot bytes, and the error of the working set, where the target says what is hot."""
    if not truths:
        return ["", "", ""]
    called = right = there = 0.0
    for window in _seconds(taken):
        start_ns, end_ns = window[0].start_ns, window[-1].end_ns
        for truth in truths:
            if truth.covers(start_ns, end_ns):
                found = hot_ranges([_resident(one) for one in window], HOT_ABOVE * (end_ns - start_ns) / 1e9)
                called += _overlap(found, truth.within)
                right += _overlap(found, truth.hot)
                there += truth.size_bytes
    error = float(np.median([error for truth in truths for error in _errors(taken, truth)]))
    return [f"{100 * right / called:.1f} %" if called else "nothing found", f"{100 * right / there:.1f} %",
            f"{100 * error:+.2f} %"]


def after_changes(taken: Sequence[Snapshot], truths: Sequence[Truth]) -> list[str]:
    """The same, and the error of the working set right after each change, without its sign."""
    taken = [snapshot for snapshot in taken if snapshot.start_ns >= taken[0].start_ns + _WARM_NS]
    first = [abs(errors[0]) for truth in truths
             if truth.start_ns >= taken[0].start_ns and (errors := _errors(taken, truth))]
    return [*accuracy(taken, truths), f"{100 * float(np.median(first)):.1f} % ({100 * max(first):.1f})"]


def _errors(taken: Sequence[Snapshot], truth: Truth) -> list[float]:
    """Of the working set, in each snapshot that lies within."""
    return [snapshot.wss_bytes / truth.size_bytes - 1 for snapshot in taken
            if truth.covers(snapshot.start_ns, snapshot.end_ns)]


def _seconds(taken: Sequence[Snapshot]) -> list[list[Snapshot]]:
    """As many snapshots as make a second, and so on."""
    windows: list[list[Snapshot]] = [[]]
    for snapshot in taken:
        windows[-1].append(snapshot)
        if snapshot.end_ns - windows[-1][0].start_ns >= 1_000_000_000:
            windows.append([])
    return windows[:-1]


def _resident(snapshot: Snapshot) -> np.ndarray:
    """The regions, each as large as what is resident in it: of a thread's stack of 8 MiB, mostly two pages are."""
    regions = snapshot.regions.copy()
    regions["end"] = regions["start"] + np.minimum(regions["present_bytes"], regions["end"] - regions["start"])
    return regions


def _overlap(spans: np.ndarray, hot: np.ndarray) -> float:
    low = np.maximum(spans[:, None, 0], hot[None, :, 0]).astype(np.float64)
    high = np.minimum(spans[:, None, 1], hot[None, :, 1]).astype(np.float64)
    return float(np.maximum(high - low, 0).sum())


if __name__ == "__main__":
    sys.exit(tool.run(main))
