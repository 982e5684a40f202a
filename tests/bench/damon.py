# SPDX-License-Identifier: GPL-2.0-only
"""pagepulse beside the kernel's DAMON: the same programs under either, in a virtual machine with a kernel that has it.

    python -m bench.damon [--only PROGRAM]... [--kernel NAME] [--pairs ROUNDS] [--show] [--write]

DAMON is started by damo at its defaults; from Linux 6.15 on also with intervals that tune themselves. pagepulse is at
its defaults. What a program touches it says itself; of redis the kernel's own count (clear_refs, smaps) is the truth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import kept, tool
from bench.damon_trace import Told, aggregations
from bench.guest import KERNEL_OF, measured_inside
from bench.inside.cases import CASES
from bench.inside.damon import DAMON, NOTHING, OUR_OPTIONS, OURS, OURS_10, RUNS, TUNED
from bench.paired import brief, paired_change
from bench.table import judgement
from pagepulse.capture import Recording
from pagepulse.simulate.accuracy import HOT_ABOVE, hot_ranges

KIND = "damon"
SETTLE_S, MEASURE_S = 10, 20
RUN_LIMIT_S = 100
"""For one run, on a processor that is emulated and shared."""
ABOUT = {"still": "1 GiB, 128 MiB of it hot, as fast as it can", "spots": "1 GiB, 64 spots of 2 MiB, each 50 ms",
         "phases": "2.1 GiB, 48 MiB of it for 6 s, then the next", "redis": "redis-server, 200 000 keys by Zipf's law"}
COLUMNS = ("program", "kernel", "monitor", "precision", "recall", "working set", "CPU", "the program's throughput",
           "intervals", "rounds", "measured")
Run = dict[str, Any]


def told_by(way: str, path: Path, begun_ns: int, ended_ns: int) -> list[Told]:
    """What a monitor said of the time that was measured."""
    if way in OUR_OPTIONS:
        with Recording.open(path) as recording:
            found = [Told(one.start_ns, one.end_ns, one.regions, one.wss_bytes, HOT_ABOVE * _seconds(one))
                     for one in recording.snapshots()]
    else:
        found = aggregations(path)
    return [one for one in found if begun_ns <= one.start_ns and one.end_ns <= ended_ns]


def _seconds(one: Any) -> float:
    return float(one.end_ns - one.start_ns) / 1e9


def hot_at(run: Run, start_ns: int, end_ns: int) -> np.ndarray | None:
    """What was hot between two times; None if that changed, or nobody knows."""
    begun = [since_ns for since_ns, _ in run["hot"] if since_ns <= end_ns]
    if not begun or (since_ns := max(begun)) > start_ns:
        return None
    return np.array(next(spans for at_ns, spans in run["hot"] if at_ns == since_ns), np.float64)


def judged(run: Run, told: Sequence[Told]) -> Run:
    """Bytes called hot, rightly so, and hot, over seconds; and the error of the working set of each interval."""
    called = right = hot_bytes = 0.0
    for window in _windows(told):
        hot = hot_at(run, window[0].start_ns, window[-1].end_ns)
        if hot is None:
            continue
        found = hot_ranges([one.regions for one in window], sum(one.hot_above for one in window)).astype(np.float64)
        called += float((found[:, 1] - found[:, 0]).sum())
        right += _overlap(found, hot)
        hot_bytes += float((hot[:, 1] - hot[:, 0]).sum())
    errors = [one.wss_bytes / truth - 1 for one in told if (truth := _touched(run, one))]
    return {"called": called, "right": right, "hot": hot_bytes, "errors": errors,
            "interval_ms": float(np.median([_seconds(one) for one in told])) * 1000}


def _windows(told: Sequence[Told]) -> list[list[Told]]:
    """Runs of intervals of a second each, at least."""
    windows, window = [], []
    for one in told:
        window.append(one)
        if one.end_ns - window[0].start_ns >= 1_000_000_000:
            windows.append(window)
            window = []
    return windows


def _overlap(found: np.ndarray, hot: np.ndarray) -> float:
    low, high = (np.maximum, np.minimum)
    shared = high(found[:, None, 1], hot[None, :, 1]) - low(found[:, None, 0], hot[None, :, 0])
    return float(np.maximum(shared, 0).sum())


def _touched(run: Run, one: Told) -> float | None:
    """Bytes that were touched in an interval, if that is known."""
    if run["wss_bytes"]:
        lengths, sizes = zip(*((int(ms), size) for ms, size in run["wss_bytes"].items()), strict=True)
        if not lengths[0] <= _seconds(one) * 1000 <= lengths[-1]:
            return None
        return float(np.exp(np.interp(np.log(_seconds(one) * 1000), np.log(lengths), np.log(sizes))))
    begun = sorted(since_ns for since_ns, _ in run["hot"])
    if not begun or begun[0] > one.start_ns:
        return None
    first_ns = max(since_ns for since_ns in begun if since_ns <= one.start_ns)
    spans = {tuple(span) for since_ns, hot in run["hot"] if first_ns <= since_ns < one.end_ns for span in hot}
    return float(sum(end - start for start, end in spans))


def measure(kernel: str, names: Sequence[str], rounds: int) -> None:
    """Boot once, and keep what was found of each program and way."""
    limit_s = 120 + RUN_LIMIT_S * 5 * rounds * len(names)
    with kept.circumstances() as facts:
        release, place = measured_inside(KERNEL_OF[kernel], KIND, str(rounds), str(SETTLE_S), str(MEASURE_S), *names,
                                         timeout_s=limit_s)
    keep_runs(release, place, facts)


def keep_runs(release: str, place: Path, facts: kept.Kept) -> None:
    """Judge all runs of a machine."""
    runs = [json.loads(line) for line in (place / RUNS).read_text().splitlines()]
    for name in dict.fromkeys(run["case"] for run in runs):
        for way in dict.fromkeys(run["way"] for run in runs if run["case"] == name):
            of = [run for run in runs if (run["case"], run["way"]) == (name, way)]
            found = [] if way == NOTHING else [
                judged(run, told_by(way, place / run["file"], run["begun_ns"], run["ended_ns"])) for run in of]
            kept.keep(KIND, f"{release}-{name}-{way}", {
                **facts, "kernel": release, "program": name, "way": way, "found": found,
                "rates": [run["rate"] for run in of],
                "cpu": [run["cpu_ns"] / (run["ended_ns"] - run["begun_ns"]) for run in of]})


def error_of(one: kept.Kept) -> float:
    """Median of the working set's error, without its sign; NaN if the truth is not known."""
    errors = [error for run in one["found"] for error in run["errors"]]
    return float(np.median(np.abs(errors))) if errors else float("nan")


def table_of(kept_all: list[kept.Kept]) -> kept.Table:
    """All kernels and programs, DAMON's rows first."""
    about = ("`make bench-damon`. A virtual machine without KVM: the processor is emulated, so that CPU times are "
             "many times as long, and only their ratio means something; a budget buys as many times less. In each "
             "program all ways one after the other, in an order drawn by lot; "
             f"{SETTLE_S} s for the monitor to settle, then {MEASURE_S} s measured. Hot is what exceeds 5 nr_accesses "
             "in a second; the working set of DAMON is that of `damo report wss` (regions with any access), its error "
             "the median, and without sign in parentheses. CPU is kdamond's thread by schedstat, and all of "
             "pagepulse's process. Another program wakes each 5 ms on the target's processor: else the emulated TLB, "
             "which holds more than any real one, would hide accesses from DAMON.")
    order = [DAMON, TUNED, OURS, OURS_10]
    rows = [_row(one, kept_all) for name in CASES for kernel in sorted({one["kernel"] for one in kept_all})
            for way in order for one in kept_all if (one["program"], one["kernel"], one["way"]) == (name, kernel, way)]
    return kept.Table("Beside DAMON", about, COLUMNS, rows, _remarks(kept_all))


def _row(one: kept.Kept, kept_all: list[kept.Kept]) -> list[str]:
    called, right, hot = (sum(run[key] for run in one["found"]) for key in ("called", "right", "hot"))
    errors = [error for run in one["found"] for error in run["errors"]]
    no_hot = "not known" if one["program"] == "redis" else "intervals too long"
    ms = float(np.median([run["interval_ms"] for run in one["found"]]))
    return [ABOUT[one["program"]], one["kernel"], one["way"],
            no_hot if not hot else f"{100 * right / called:.1f} %" if called else "nothing found",
            f"{100 * right / hot:.1f} %" if hot else no_hot,
            f"{100 * float(np.median(errors)):+.1f} % ({100 * error_of(one):.1f})" if errors else "not known",
            f"{100 * float(np.mean(one['cpu'])):.2f} %", _slower(one, kept_all), f"{ms:.0f} ms", str(len(one["found"])),
            kept.noise(one)]


def _percent(error: float) -> str:
    return "not known" if np.isnan(error) else f"{100 * error:.1f} %"


def _slower(one: kept.Kept, kept_all: list[kept.Kept]) -> str:
    """Than without a monitor in the same round."""
    alone = _peer(one, NOTHING, kept_all)
    if alone is None or None in one["rates"]:
        return ""
    if len(one["rates"]) < 2:
        return f"{100 * (one['rates'][0] / alone['rates'][0] - 1):+.1f} %"
    return brief(paired_change(alone["rates"], one["rates"]))


def _peer(one: kept.Kept, way: str, kept_all: list[kept.Kept]) -> kept.Kept | None:
    """The same program on the same kernel, in another way."""
    wanted = (one["kernel"], one["program"], way)
    return next((peer for peer in kept_all if (peer["kernel"], peer["program"], peer["way"]) == wanted), None)


def _remarks(kept_all: list[kept.Kept]) -> list[str]:
    """Both goals, program by program."""
    remarks = []
    for ours in kept_all:
        theirs = _peer(ours, DAMON, kept_all)
        if ours["way"] not in OUR_OPTIONS or theirs is None:
            continue
        cpu, their_cpu = (float(np.mean(one["cpu"])) for one in (ours, theirs))
        error, their_error = error_of(ours), error_of(theirs)
        is_less = None if np.isnan(error) else error < their_error
        remarks.append(
            f"{ours['program']}, {ours['kernel']}, {ours['way']}: CPU {100 * cpu:.2f} % against kdamond's "
            f"{100 * their_cpu:.2f} (goal: no more: {judgement(cpu <= their_cpu)}); error of the working set "
            f"{_percent(error)} against {_percent(their_error)} (goal: smaller: {judgement(is_less)}).")
    remarks.append("Why phases are missed: a hot range in one piece is what DAMON's regions find exactly; and 1 % of "
                   "an emulated processor makes our intervals seconds long, longer than a phase lasts. With a budget "
                   "of 10 %, still less than kdamond takes in most programs, they are shorter.")
    if not any(one["way"] == TUNED for one in kept_all):
        remarks.append("Intervals that tune themselves came to DAMON with Linux 6.15: not in 6.12.")
    return remarks


def main() -> None:
    """Measure what was asked for, and print the table."""
    parser = tool.arguments("bench-damon", __doc__ or "", list(CASES), 3)
    parser.add_argument("--kernel", choices=[name for name in KERNEL_OF if name != "6.1"], default="6.12",
                        help="(default: %(default)s; 6.1 has no DAMON)")
    args = parser.parse_args()
    if not args.show:
        measure(args.kernel, args.only or list(CASES), args.pairs)
    table_of(kept.all_of(KIND)).show(write=args.write)


if __name__ == "__main__":
    sys.exit(tool.run(main))
