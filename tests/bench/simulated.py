# SPDX-License-Identifier: GPL-2.0-only
"""Accuracy at sizes that no machine here has: the engine and a model of DAMON on the same simulated programs.

    python -m bench.simulated [--quick] [--write]

All prices, of reads, clears, flushes and of Python, are simulated, too; only what is found, and when, is of interest.
DAMON gets the intervals at which it costs what the engine came to on the same program, the target's tax included.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench import tool
from bench.results import write_section
from pagepulse.simulate.scenario import Scenario
from pagepulse.simulation import ALGORITHMS, SimulationOptions, SimulationResult, simulate
from pagepulse.units import parse_size

SIZES = [("1GiB", "100MiB"), ("10GiB", "1GiB"), ("100GiB", "10GiB"), ("160GiB", "200MiB"), ("1TiB", "10GiB"),
         ("5TiB", "10GiB")]
PATTERNS = [*(("10GiB", "1GiB", name) for name in ("spots", "zipf", "moving", "phases", "stride", "huge", "shared",
                                                   "off-lru")),
            ("16GiB", "256MiB", "spots"), ("100GiB", "10GiB", "spots"), ("160GiB", "200MiB", "spots")]
SEEDS = 3
BUDGET = 0.009
"""Telescope's: 0.9 % of one CPU."""
TITLE = "Accuracy, simulated"
NOTE = """\
60 s each, {seeds} runs, mean (worst); budget {budget:.1f} % of one CPU; hot pages are touched 100 times a second. What
was found hot: nr_accesses above 5, summed over 1 s (Telescope's measure), in the last 30 s. *CPU* is of the whole run,
getting to know the program included; *tax* is the program's part; the busiest 10 s are those after the first 10, both
together. *After a change* is the working set's error, without its sign, in the first whole snapshots after the program
changed what it does: the median, in the worst run.

DAMON here is a model of its algorithm with nothing in its way: no bit hides in a TLB, no lock is missed. It may cost
as much as pagepulse did in the same program, tax included: its intervals are the shortest that do not cost more (which
may end well below: where they are shorter still, chance makes equal regions look different, and the cost jumps).
*damon* has its default limits, 10 to 1000 regions, *damon-finer* ten times as many: which is right nobody knows
beforehand. It finds what is in one piece and touched often at any size: the failures that were published are those of
many small spots, and of pages touched less often than the measure calls hot (tests/unit/simulate/test_damon.py).

Where the goals are missed, and why. *zipf*: some 130 of the 1707 pieces are touched within a third of the threshold,
and 0.9 % pays for some 450 lone clears a second, of 20 us each, flush included: too few to tell them apart. *stride*:
one page in ten is hot everywhere, and a region is a range. *spots* of 100 GiB: 1280 spots, more than the 1000 regions
that there may be. *spots* of 160 GiB: a lone spot is found by a lone clear, and 0.9 % buys no more of them in 60 s.
Above 0.9 % is what the first seconds cost, when all is cleared for the first time (*CPU* of the whole run), and
*moving*: all that is idle is watched, so that 1 GiB that wakes has to be marked young again page by page, 0.5 % of a
CPU."""
HEAD = ("| Program | Monitor | Precision | Recall | Working set, error | After a change "
        "| CPU, tax | Busiest 10 s | 90 % found after |\n"
        "|---|---|---|---|---|---|---|---|---|")


@dataclass(frozen=True, slots=True)
class Case:
    """One simulated program."""

    size: str
    hot: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.size}, {self.hot} hot, {self.pattern}"


def main() -> int:
    """Simulate everything, print the table, and write it into RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(prog="bench.simulated", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the sizes, one run each")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    args = parser.parse_args()
    cases = [Case(size, hot, "hot") for size, hot in SIZES] + ([] if args.quick else [Case(*p) for p in PATTERNS])
    lines = [HEAD]
    print(HEAD)
    for case in cases:
        for algorithm, results in side_by_side(case, range(1 if args.quick else SEEDS)).items():
            lines.append(row(case, algorithm, results))
            print(lines[-1], flush=True)
    if args.write:
        write_section(TITLE, "\n".join([
            NOTE.format(seeds=1 if args.quick else SEEDS, budget=100 * BUDGET), "", *lines]))
    return 0


def side_by_side(case: Case, seeds: Sequence[int]) -> dict[str, list[SimulationResult]]:
    """All algorithms on the same program, at the same cost: ours in the whole run, whatever its budget was."""
    results: dict[str, list[SimulationResult]] = {algorithm: [] for algorithm in ALGORITHMS}
    for seed in seeds:
        scenario = Scenario(parse_size(case.size), parse_size(case.hot), case.pattern, seed=seed)
        budget = BUDGET
        for algorithm in ALGORITHMS:
            result = simulate(scenario, SimulationOptions(budget=budget), algorithm)
            results[algorithm].append(result)
            if algorithm == "pagepulse":
                budget = (result.cpu_percent + result.target_tax_percent) / 100
    return results


def row(case: Case, algorithm: str, results: Sequence[SimulationResult]) -> str:
    """One line of the table."""
    found = [result.seconds_to_recall_90 for result in results]
    after = f"{max(s for s in found if s is not None):.1f} s" if all(s is not None for s in found) else "never"
    cells = [str(case), algorithm, percent([result.precision for result in results]),
             percent([result.recall for result in results]), error(results), after_change(results),
             f"{mean(results, 'cpu_percent'):.2f} %, {mean(results, 'target_tax_percent'):.2f} %",
             f"{max(result.busiest_10s_percent or 0 for result in results):.2f} %", after]
    return "| " + " | ".join(cells) + " |"


def percent(values: Sequence[float | None]) -> str:
    """Mean and worst of fractions; nothing found at all has none."""
    known = [value for value in values if value is not None]
    return f"{100 * np.mean(known):.1f} % ({100 * min(known):.1f})" if known else "nothing"


def error(results: Sequence[SimulationResult]) -> str:
    """Of the working set, the mean and the worst."""
    known = [result.wss_error_percent for result in results if result.wss_error_percent is not None]
    return f"{np.mean(known):+.1f} % ({max(known, key=abs):+.1f})" if known else "none"


def after_change(results: Sequence[SimulationResult]) -> str:
    """Of the working set in the first whole snapshots after changes, the worst run's."""
    known = [result.wss_error_after_change_percent for result in results]
    return "-" if None in known else f"{max(one for one in known if one is not None):.1f} %"


def mean(results: Sequence[SimulationResult], column: str) -> float:
    """Of one column."""
    return float(np.mean([getattr(result, column) for result in results]))


if __name__ == "__main__":
    sys.exit(tool.run(main, needs_root=False))
