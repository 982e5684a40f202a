# SPDX-License-Identifier: GPL-2.0-only
"""What schemes give back, and what they cost: real programs, each way of treating them on a fresh start.

    python -m bench.schemes [--only PROGRAM]... [--way WAY]... [--pairs N] [--write]

A pair is a run without anything and a run with one way, in an order drawn by lot, with zram as swap. A way that this
pagepulse refuses is reported, not measured.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import kept, tool
from bench.command import CommandError, start
from bench.paired import Change, brief, cell, change_of, is_above, mean_of
from bench.programs.suite import PROGRAMS
from bench.table import judgement
from bench.watching import watched
from demo.swap import temporary_swap
from live.machine import undone_by
from workload import ROOT, huge_bytes, major_faults, resident_bytes

KIND = "schemes"
SUITE = ("redis", "redis-idle", "memcached", "postgres", "sqlite", "scikit-learn", "numpy-phases", "numpy-idle",
         "numpy-gather", "numpy-sparse", "redis-quiet")
BASELINE = "baseline"
SWAP_BYTES = 8 << 30
BEFORE_S, MEASURE_S, HUGE_S = 15.0, 60.0, 20.0
"""What is idle goes after 5 s, and on trial first: nearly all of it is gone after 25 s at the earliest.
Huge pages are made within a quota, before that is measured."""
ENOUGH_ROUNDS = 3
_LATER = 0.7  # of the time: from then on memory counts, when a way has had time to work
_STEP_S = 0.1
_LITTLE = 0.05  # of a program's memory: below it, what huge pages add is not worth a judgement
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
IDLE_S = 5
"""The rival's N: the age in prcl.json."""


@dataclass(slots=True)
class Memory:
    """The program's and the machine's memory while something runs, sampled."""

    pid: int
    rss_bytes: list[int] = field(default_factory=list)
    used_bytes: list[int] = field(default_factory=list)

    def sample_until(self, stop: threading.Event) -> None:
        """Until told to stop, or the program ends."""
        while not stop.wait(_STEP_S):
            try:
                self.rss_bytes.append(resident_bytes(self.pid))
            except (FileNotFoundError, KeyError):
                return
            self.used_bytes.append(_used_bytes())

    def later(self, samples: Sequence[int]) -> float:
        """Their mean in the later part of the time."""
        return float(np.mean(samples[int(len(samples) * _LATER):]))


@contextmanager
def memory_of(pid: int) -> Iterator[Memory]:
    """Sample inside the block."""
    memory, stop = Memory(pid), threading.Event()
    sampler = threading.Thread(target=memory.sample_until, args=(stop,))
    sampler.start()
    try:
        yield memory
    finally:
        stop.set()
        sampler.join()


def _used_bytes() -> int:
    """Of the machine: what is neither free nor easily freed; what zram keeps is in it."""
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(facts[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    return total - available


@contextmanager
def nothing(pid: int) -> Iterator[dict[str, Any]]:
    """The baseline."""
    yield {}


@contextmanager
def monitor(pid: int) -> Iterator[dict[str, Any]]:
    """Watched, not treated."""
    with watched(pid, kept.KEPT, 0):
        yield {}


@contextmanager
def naive(pid: int) -> Iterator[dict[str, Any]]:
    """The rival by clear_refs and smaps."""
    line = [sys.executable, "-m", "bench.naive_reclaim", str(pid), str(IDLE_S)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as rival:
        try:
            yield {}
        finally:
            rival.terminate()


@contextmanager
def _run(pid: int, scheme: str) -> Iterator[dict[str, Any]]:
    """`pagepulse run` on the process; what it said at its end is in the dictionary afterwards.

    Raises:
        CommandError: It failed, or refused the scheme.
    """
    said: dict[str, Any] = {}
    with start("run", "--schemes", ROOT / "schemes" / scheme, "--pid", str(pid), "--json") as running:
        try:
            yield said
        finally:
            running.send_signal(signal.SIGINT)
            out, complaint = running.communicate()
    if running.returncode:
        raise CommandError(complaint.strip() or f"pagepulse run ended with status {running.returncode}")
    said |= json.loads(out)


WAYS = {BASELINE: nothing, "monitor": monitor, "prcl": partial(_run, scheme="prcl.json"),
        "reclaim-service": partial(_run, scheme="reclaim-service.json"), "naive": naive,
        "ethp": partial(_run, scheme="ethp.json"), "thp-always": nothing, "thp-never": nothing}
MEASURES_S = {"reclaim-service": 300.0}
"""Of ways that need more time: it takes what was idle for two minutes."""
THP_OF = {"thp-always": "always", "thp-never": "never", "ethp": "madvise"}
SETTLE_S = 45.0
"""How long a way with huge pages works before it is measured: 512 MiB of them take some 25 s, within the quota."""


@contextmanager
def thp(mode: str) -> Iterator[None]:
    """Huge pages always, on request (madvise) or never, for a while."""
    before = _THP.read_text().partition("[")[2].partition("]")[0]
    with undone_by("/bin/sh", "-c", 'echo "$1" > "$2"', "thp", before, _THP):
        _THP.write_text(mode)
        yield


def measure(name: str, way: str) -> kept.Kept:
    """One run of a program from its start, treated in one way from the moment its load is at work."""
    with ExitStack() as stack:
        if way in THP_OF:
            stack.enter_context(thp(THP_OF[way]))
        used_before = _used_bytes()
        program = stack.enter_context(PROGRAMS[name]())
        program.prepare()
        before = None if way in THP_OF else program.measure(BEFORE_S)
        faults = major_faults(program.pid)
        with WAYS[way](program.pid) as said:
            time.sleep(SETTLE_S if way in THP_OF else 0)
            with memory_of(program.pid) as memory:
                done = program.measure(HUGE_S if way in THP_OF else MEASURES_S.get(way, MEASURE_S))
            faults, huge = major_faults(program.pid) - faults, huge_bytes(program.pid)
    return {**done._asdict(), "before": None if before is None else before._asdict(), "huge_bytes": huge,
            "rss_bytes": memory.later(memory.rss_bytes), "used_bytes": memory.later(memory.used_bytes) - used_before,
            "major_faults": faults, "applied_bytes": sum(one["applied_bytes"] for one in said.get("schemes", ())),
            "returned_bytes": said.get("returned_bytes", 0)}


def measure_all(name: str, ways: Sequence[str], pairs: int) -> None:
    """Pairs of one program with all ways that are asked for: each round has one baseline for all of them."""
    rng = np.random.default_rng()
    runs: dict[str, list[kept.Kept]] = {way: [] for way in (BASELINE, *ways)}
    refused: dict[str, str] = {}
    with kept.circumstances() as facts:
        for _ in range(pairs):
            for way in rng.permutation(list(runs)).tolist():
                if way in refused:
                    continue
                try:
                    runs[way].append(measure(name, way))
                except CommandError as error:
                    refused[way] = str(error).splitlines()[0]
    for way in ways:
        if way in refused:
            kept.keep(KIND, f"{way}-{name}", {**facts, "program": name, "way": way, "refused": refused[way]})
        else:
            kept.keep(KIND, f"{way}-{name}",
                      {**facts, "program": name, "way": way, "without": runs[BASELINE], "with": runs[way]})


def change(one: kept.Kept, key: str) -> Change | None:
    """Of one quantity: what it is beside what it was in the same run before, where that was measured.

    From one fresh start to the next the same program is up to a sixth faster or slower, for as long as it runs.
    """
    sides = [one[side] for side in ("without", "with")]
    if all(run.get("before") and run["before"].get(key) for runs in sides for run in runs):
        return change_of(*([run[key] / run["before"][key] for run in runs] for runs in sides))
    return change_of(*([run[key] for run in runs] for runs in sides))


def table_of(measurements: list[kept.Kept]) -> kept.Table:
    """All ways, one after the other, the program that suffers most first."""
    shown = [one for one in measurements if "refused" not in one]
    order = list(WAYS)
    shown.sort(key=lambda one: (order.index(one["way"]), _mean_of(one, "rate")))
    about = ("Each row: `make bench-schemes BENCH_ARGS='--only PROGRAM --way WAY --pairs ROUNDS'`. "
             f"Real programs, each run from a fresh start for {MEASURE_S:g} s (reclaim-service for "
             f"{MEASURES_S['reclaim-service']:g}; with huge pages for {HUGE_S:g}, after {SETTLE_S:g}) with "
             f"{SWAP_BYTES >> 30} GiB of zram as swap; changes against the baseline of the same round, throughput "
             f"and p99 as they became against the {BEFORE_S:g} s before (not so with huge pages, and not before "
             "29 November 12:00); 95 % interval over rounds. Memory is that of the last third; *system* is "
             "the machine's, with what zram holds. *Returned* came back of what was paged out.")
    columns = ("way", "program", "throughput", "per CPU second", "p99", "RSS", "system", "major faults",
               "acted on, returned", "rounds", "measured")
    refused = sorted({f"{one['way']}: not measured: {one['refused']}" for one in measurements if "refused" in one})
    remarks = [*_judged(shown), *_judged_huge(shown), *refused,
               "Beside TMO's controller, which needs memory.reclaim of cgroup v2: `make bench-tmo`."]
    return kept.Table("Schemes on real programs", about, columns, [_row(one) for one in shown], remarks)


def _row(one: kept.Kept) -> list[str]:
    cells = [cell(change(one, key)) for key in ("rate", "per_cpu_s", "p99_us", "rss_bytes")]
    used = [float(np.mean([run["used_bytes"] for run in one[side]])) for side in ("without", "with")]
    acted_on, returned = (np.mean([run[key] for run in one["with"]]) / 2**20
                         for key in ("applied_bytes", "returned_bytes"))
    faults = [np.mean([run["major_faults"] for run in one[side]]) for side in ("without", "with")]
    gone = f"{acted_on:.0f} MiB, {returned:.1f} MiB" if acted_on else "-"
    system = f"{(used[1] - used[0]) / 2**20:+.0f} MiB"
    return [one["way"], one["program"], *cells, system, f"{faults[0]:.0f} to {faults[1]:.0f}", gone,
            str(len(one["with"])), kept.noise(one)]


def _mean_of(one: kept.Kept, key: str) -> float:
    found = change(one, key)
    return found.mean if found else 0.0


def _judged(shown: list[kept.Kept]) -> list[str]:
    """The goals for prcl: over the suite, for the worst, and for the program that is mostly idle."""
    suite = [one for one in shown if one["way"] == "prcl"]
    if not suite:
        return []
    rss, rate, work = (mean_of([_change(one, key) for one in suite]) for key in ("rss_bytes", "rate", "per_cpu_s"))
    worst = min(suite, key=lambda one: _mean_of(one, "rate"))
    overall = (f"prcl over {len(suite)} programs: RSS {brief(rss)} (goal: -25 %: {_told(suite, rss.high <= -0.25)}); "
               f"throughput {brief(rate)} (goal: above -2 %: {_told(suite, is_above(rate, -0.02))}); work per CPU "
               f"second {brief(work)} (the same goal: {_told(suite, is_above(work, -0.02))}).")
    slowest = (f"The worst is {worst['program']}: {brief(_change(worst, 'rate'))} (goal: above -5 %: "
               f"{_told([worst], is_above(_change(worst, 'rate'), -0.05))}); work per CPU second "
               f"{brief(_change(worst, 'per_cpu_s'))}.")
    remarks = [overall, slowest]
    for one in suite:
        if one["program"] == "numpy-idle":
            freed, cost = _change(one, "rss_bytes"), _change(one, "rate")
            remarks.append(f"prcl on a program that is mostly idle: RSS {brief(freed)} (goal: -95 %: "
                           f"{_told([one], freed.high <= -0.95)}) at a throughput of {brief(cost)} (goal: above -1 %: "
                           f"{_told([one], is_above(cost, -0.01))}).")
    return remarks


def _change(one: kept.Kept, key: str) -> Change:
    return change(one, key) or Change(0.0, 0.0, 0.0, 0)


def _told(of: list[kept.Kept], is_met: bool | None) -> str:
    """`met` or `MISSED`; `not shown` where rounds are too few to tell a program's change from the machine's noise."""
    return judgement(is_met if all(len(one["with"]) >= ENOUGH_ROUNDS for one in of) else None)


def _judged_huge(shown: list[kept.Kept]) -> list[str]:
    """The goals for ethp, of each program that was measured with huge pages always, never, and by the scheme."""
    means = {(one["program"], one["way"]): {key: float(np.mean([run[key] for run in one["with"]]))
                                            for key in ("per_cpu_s", "rss_bytes", "huge_bytes")}
             for one in shown if one["way"] in THP_OF}
    remarks = []
    for name in sorted({program for program, _ in means}):
        never, always, ours = (means.get((name, way)) for way in ("thp-never", "thp-always", "ethp"))
        if never and always and ours:
            rounds = min(len(one["with"]) for one in shown if one["program"] == name)
            few = "" if rounds >= ENOUGH_ROUNDS else f" Too few rounds ({rounds}) to tell this from noise."
            remarks.append(f"{name}: {huge_pages_paid(never, always, ours)}{few}")
    return remarks


def huge_pages_paid(never: kept.Kept, always: kept.Kept, ours: kept.Kept) -> str:
    """What huge pages bring and take, and how much of either ethp keeps and removes.

    Args:
        never: Means of `per_cpu_s` (the rate says the same, and is disturbed more), `rss_bytes` and `huge_bytes`
            without huge pages.
        always: The same with huge pages everywhere.
        ours: The same with ethp.
    """
    speedup = always["per_cpu_s"] / never["per_cpu_s"] - 1
    share = (ours["per_cpu_s"] - never["per_cpu_s"]) / (always["per_cpu_s"] - never["per_cpu_s"])
    text = (f"THP always is {speedup * 100:+.1f} % faster than never; ethp keeps {share * 100:.0f} % of that with "
            f"{ours['huge_bytes'] / 2**20:.0f} of {always['huge_bytes'] / 2**20:.0f} MiB in huge pages")
    extra_bytes = always["rss_bytes"] - never["rss_bytes"]
    if extra_bytes <= _LITTLE * never["rss_bytes"]:
        return f"{text} (goal: 80 %: {judgement(share >= 0.8)}); THP always takes no memory worth speaking of."
    removed = (always["rss_bytes"] - ours["rss_bytes"]) / extra_bytes
    return (f"{text} (goal: 80 %: {judgement(share >= 0.8)}); of the {extra_bytes / 2**20:.0f} MiB more that THP "
            f"always takes, ethp removes {removed * 100:.0f} % (goal: 90 %: {judgement(removed >= 0.9)}).")


def main() -> None:
    """Measure what was asked for, and print the table."""
    parser = tool.arguments("bench-schemes", __doc__ or "", SUITE, 5)
    ways = [way for way in WAYS if way != BASELINE]
    parser.add_argument("--way", action="append", choices=ways, metavar="WAY",
                        help=f"may be repeated (default: all): {', '.join(ways)}")
    args = parser.parse_args()
    kept.KEPT.mkdir(parents=True, exist_ok=True)
    if not args.show:
        with temporary_swap(SWAP_BYTES) as swap:
            if swap.device is None:
                raise CommandError(f"there is no swap, and none could be made: {swap.why}")
            for name in args.only or SUITE:
                print(f"{name} ...", flush=True)
                measure_all(name, args.way or ways, args.pairs)
    table_of(kept.all_of(KIND)).show(write=args.write)


if __name__ == "__main__":
    sys.exit(tool.run(main))
