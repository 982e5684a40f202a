# SPDX-License-Identifier: GPL-2.0-only
"""What watching costs real programs: pairs of the same program with and without `pagepulse record` at its defaults.

    python -m bench.real_overhead [--only NAME]... [--pairs N] [--write]

Program and load share processor 0, the recorder finds room on the others. Which of a pair comes first is drawn by lot.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from bench import kept, tool
from bench.paired import Change, brief, paired_change
from bench.programs.program import Measured, Program
from bench.programs.suite import PROGRAMS
from bench.table import judgement
from bench.watching import watched
from workload import Workload, cpu_ns, now_ns

KIND = "overhead"
WATCHED = ("redis", "memcached", "postgres", "sqlite", "scikit-learn", "gcc", "stress-ng")
GROWTH = "growth"
NAIVE_ON = "memcached"
NAIVE = "naive-loop"
SETTLE_S, MEASURE_S = 2.0, 3.0
GOAL_MEAN, GOAL_LOW = -0.005, -0.01
ENOUGH_PAIRS = 10
NOISE = 0.1  # share of the machine that others take
RSS_GOAL_MIB = 64
GROWTH_GOAL = 1.2


class Sample(NamedTuple):
    """One half of a pair with the recorder."""

    done: Measured
    cpu_share: float
    tax_share: float
    rss_bytes: int


def with_recorder(program: Program) -> Sample:
    """Measure while `pagepulse record` watches."""
    with watched(program.pid, kept.KEPT, SETTLE_S) as watch:
        done = program.measure(MEASURE_S)
    return Sample(done, *watch.shares(), watch.rss_bytes)


def with_naive_loop(program: Program) -> Sample:
    """Measure while the naive loop clears."""
    with naive_loop(program.pid) as loop:
        begun_ns, cpu_before_ns = now_ns(), cpu_ns(loop.pid)
        done = program.measure(MEASURE_S)
        return Sample(done, (cpu_ns(loop.pid) - cpu_before_ns) / (now_ns() - begun_ns), 0.0, 0)


@contextmanager
def naive_loop(pid: int) -> Iterator[subprocess.Popen[str]]:
    """The contrast, at work."""
    line = [sys.executable, "-m", "bench.naive_loop", str(pid)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as loop:
        try:
            assert loop.stdout is not None
            loop.stdout.readline()
            yield loop
        finally:
            loop.send_signal(signal.SIGTERM)


def measure(name: str, pairs: int, *, naive: bool = False) -> None:
    """Measure one program, and keep what came of it."""
    rng = np.random.default_rng()
    without: list[Measured] = []
    samples: list[Sample] = []
    with PROGRAMS[name]() as program, kept.circumstances(*program.running()) as facts:
        for _ in range(pairs):
            for is_watched in rng.permutation([False, True]).tolist():
                program.prepare()
                if is_watched:
                    samples.append((with_naive_loop if naive else with_recorder)(program))
                else:
                    without.append(program.measure(MEASURE_S))
    kept.keep(KIND, NAIVE if naive else name, {
        **facts, "program": name, "without": [one.rate for one in without], "with": [one.done.rate for one in samples],
        "cpu_without": [one.per_cpu_s for one in without], "cpu_with": [one.done.per_cpu_s for one in samples],
        "p99_without_us": [one.p99_us for one in without], "p99_with_us": [one.done.p99_us for one in samples],
        "cpu_share": statistics.mean(one.cpu_share for one in samples),
        "tax_share": statistics.mean(one.tax_share for one in samples),
        "rss_bytes": max(one.rss_bytes for one in samples)})


def measure_growth() -> None:
    """The recorder's own cost on 1 GiB and on 16 GiB of which the same part is hot, with the same number of regions."""
    cost = {}
    with kept.circumstances() as facts:
        for size in ("1GiB", "16GiB"):
            options = ("--size", size, "--hot", "256MiB", "--slice", "50ms", "--cpu", "0")
            with (Workload("throughput", *options) as target,
                  watched(target.pid, kept.KEPT, 10, "--max-regions", "200", "--aggregate", "500ms") as watch):
                time.sleep(20)
            cost[size] = sum(watch.shares())
    kept.keep(GROWTH, GROWTH, {**facts, "cost": cost})


def change_of(measurement: kept.Kept) -> Change:
    """Of the program's throughput."""
    return paired_change(measurement["without"], measurement["with"])


def cpu_change_of(measurement: kept.Kept) -> Change:
    """Of the work that is done in a second of the program's own processor time."""
    return paired_change(measurement["cpu_without"], measurement["cpu_with"])


def p99_change(measurement: kept.Kept) -> str:
    """Of the latency, as a cell."""
    before, after = measurement["p99_without_us"], measurement["p99_with_us"]
    if None in before or None in after:
        return "-"
    return brief(paired_change(before, after))


def table_of(measurements: list[kept.Kept], growth: list[kept.Kept]) -> kept.Table:
    """The table, the program that suffers most first."""
    real = sorted((one for one in measurements if one["key"] != NAIVE), key=lambda one: change_of(one).mean)
    rows = [_row(one["program"], one) for one in real]
    rows += [_row(f"naive loop on {one['program']}", one) for one in measurements if one["key"] == NAIVE]
    about = ("Each row: `make bench-overhead BENCH_ARGS='--only PROGRAM --pairs N'`. Programs as Debian packages "
             "them, each paired with itself, watched by `record` at its defaults against not; program and load on one "
             "processor. Geometric means, 95 % intervals by bootstrap over pairs. CPU and tax are what the recorder "
             "says of itself, from 2 s after its first snapshot on; the naive loop clears 200 single pages each 5 ms.")
    columns = ("program", "throughput", "work per CPU second", "p99", "own CPU", "tax", "own RSS", "measured")
    return kept.Table("Overhead on real programs", about, columns, rows,
                           [*_judged(real), *map(_growth_remark, growth)])


def _row(name: str, one: kept.Kept) -> list[str]:
    cpu, tax = (f"{one[key] * 100:.2f} %" for key in ("cpu_share", "tax_share"))
    return [name, str(change_of(one)), brief(cpu_change_of(one)), p99_change(one), cpu, tax,
            f"{one['rss_bytes'] / 2**20:.1f} MiB" if one["rss_bytes"] else "-", kept.noise(one)]


def _judged(real: list[kept.Kept]) -> list[str]:
    """Means and maxima beside their goals."""
    if not real:
        return []
    clocks = (("Throughput, mean", change_of), ("Work per CPU second, mean", cpu_change_of))
    slower = [_mean(name, [change(one) for one in real]) for name, change in clocks]
    rss_mib = max(one["rss_bytes"] for one in real) / 2**20
    memory = judgement(rss_mib <= RSS_GOAL_MIB)
    busiest = max(one["others_share"] for one in real)
    if busiest > NOISE:
        slower.append(f"Other programs used up to {busiest * 100:.0f} % of the machine meanwhile: a change of 0.5 % "
                      "cannot be told from that.")
    return [*slower, f"Largest RSS of the recorder: {rss_mib:.1f} MiB; goal: at most {RSS_GOAL_MIB}: {memory}."]


def _mean(name: str, changes: Sequence[Change]) -> str:
    """Over programs; the interval is that of the mean of independent ones."""
    mean = statistics.mean(change.mean for change in changes)
    half = float(np.hypot.reduce([(change.high - change.low) / 2 for change in changes])) / len(changes)
    overall = Change(mean, mean - half, mean + half, min(change.pairs for change in changes))
    return (f"{name} of {len(changes)} programs: {brief(overall)}; goal: at most 0.5 % slower, the interval above "
            f"-1 %: {judgement(is_shown(overall))}.")


def is_shown(change: Change) -> bool | None:
    """Whether the goal is met; None: too few pairs, or an interval too wide, to tell.

    Nothing gets faster by being watched: an interval wholly above 0 shows a disturbed machine, not a goal that is met.
    """
    if change.pairs < ENOUGH_PAIRS or change.low > 0:
        return None
    met = change.mean >= GOAL_MEAN and change.low >= GOAL_LOW
    return True if met else False if change.high < GOAL_MEAN else None


def _growth_remark(one: kept.Kept) -> str:
    small, large = one["cost"]["1GiB"], one["cost"]["16GiB"]
    return (f"Own CPU and tax together, 1 GiB: {small * 100:.3f} %; 16 GiB: {large * 100:.3f} %, {large / small:.2f} "
            f"times as much (200 regions at most, aggregation pinned to 500 ms, 256 MiB hot; {kept.noise(one)}); "
            f"goal: at most {GROWTH_GOAL} times: {judgement(large <= GROWTH_GOAL * small)}.")


def main() -> None:
    """Measure what was asked for, and print the table."""
    args = tool.arguments("bench-overhead", __doc__ or "", (*WATCHED, NAIVE, GROWTH), 20).parse_args()
    kept.KEPT.mkdir(parents=True, exist_ok=True)
    for name in () if args.show else args.only or (*WATCHED, NAIVE, GROWTH):
        print(f"{name} ...", flush=True)
        if name == GROWTH:
            measure_growth()
        elif name == NAIVE:
            measure(NAIVE_ON, min(args.pairs, 8), naive=True)
        else:
            measure(name, args.pairs)
    table_of(kept.all_of(KIND), kept.all_of(GROWTH)).show(write=args.write)


if __name__ == "__main__":
    sys.exit(tool.run(main))
