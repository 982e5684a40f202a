# SPDX-License-Identifier: GPL-2.0-only
"""What the fault probe costs a page fault, and what a read before a clear costs: all that one pass could save.

    python -m bench.probes [--write]
"""

from __future__ import annotations

import statistics
import sys

import numpy as np

from bench.kept import Table, print_table
from bench.probe_costs import AT, CLEAR, NO_PROBE, PAST, READ_FIRST, fault_rounds, sweep_rounds
from bench.table import judgement
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.program import Programs

GOAL_NS = 150
FAULT_ROUNDS, SWEEP_ROUNDS = 200, 50
COLUMNS = ("what", "from", "to", "difference, ns a page", "95 % confidence")


def difference(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """Median of the differences round by round, and its 95 % interval by bootstrap over rounds."""
    differences = np.array(after) - np.array(before)
    drawn = np.random.default_rng(1).choice(differences, (2000, len(differences)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(np.median(differences)), float(low), float(high)


def judged(low: float, middle: float, high: float) -> str:
    """Not shown, where the interval reaches across the goal."""
    return judgement(None if low <= GOAL_NS <= high else middle <= GOAL_NS)


def measure() -> Table:
    """Both, on this kernel."""
    with Programs() as programs:
        probes = Probes(programs)
        attached = next((name for name in probes.attached if "fault" in name), "no probe")
        probes.close()
        faults, sweeps = fault_rounds(programs, FAULT_ROUNDS), sweep_rounds(programs, SWEEP_ROUNDS)
    about = (f"`make bench-probes`. The probe of faults here: {attached}. A fault is the first read of a page of "
             "anonymous memory, which maps the page of zeros: the cheapest there is. Clearing is of 64 MiB, all of it "
             f"touched before. CPU time; medians of {FAULT_ROUNDS} and {SWEEP_ROUNDS} rounds of 16384 pages that "
             "alternate; intervals by bootstrap over rounds.")
    rows = [_row("a minor fault", NO_PROBE, who, faults) for who in (PAST, AT)]
    rows += [_row(f"sweep by {name}", CLEAR, READ_FIRST, rounds) for name, rounds in sweeps.items()]
    middle, low, high = difference(faults[NO_PROBE], faults[AT])
    goal = (f"A probed fault costs {middle:.0f} ns more ({low:.0f} to {high:.0f}; goal: at most {GOAL_NS}: "
            f"{judged(low, middle, high)}). Most of that is the tracepoint itself, which a process that nobody watches "
            "pays, too.")
    one_pass = ("The difference of a sweep is all that it could save to hear from probes what a clear finds, instead "
                "of reading first. What the probes would cost then is not measured here: it takes kprobes.")
    return Table("What probes cost", about, COLUMNS, rows, [goal, one_pass])


def _row(what: str, before: str, after: str, rounds: dict[str, list[float]]) -> list[str]:
    middle, low, high = difference(rounds[before], rounds[after])
    return [what, f"{before}: {statistics.median(rounds[before]):.1f} ns",
            f"{after}: {statistics.median(rounds[after]):.1f} ns", f"{middle:+.1f}", f"{low:+.1f} to {high:+.1f}"]


if __name__ == "__main__":
    sys.exit(print_table("bench-probes", __doc__ or "", measure))
