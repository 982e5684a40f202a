# SPDX-License-Identifier: GPL-2.0-only
"""What watching costs a program whose memory is short: its major faults and its throughput, with and without.

    python -m bench.pressure [--only KERNEL]... [--pairs N] [--show] [--write]

redis with all keys asked for by Zipf's law, in a cgroup that may have less than redis has, so that the kernel reclaims
all the time. In virtual machines: MGLRU is off on 6.1, and on on 6.12.
"""

from __future__ import annotations

import json
import sys

from bench import kept, tool
from bench.guest import KERNEL_OF, measured_inside
from bench.inside.pressure import BY_REFS, ROUNDS, WITH, WITHOUT
from bench.paired import Change, brief, paired_change
from bench.table import judgement

KIND = "pressure"
SETTLE_S, MEASURE_S, SHARE = 5, 20, 0.75
GOAL = 1.05
COLUMNS = ("kernel", "MGLRU", "watched", "major faults a second", "faults", "faults an operation", "throughput", "p99",
           "our CPU, tax", "pairs", "measured")


def measure(kernel: str, pairs: int) -> None:
    """Boot once, and keep what was found."""
    with kept.circumstances() as facts:
        release, place = measured_inside(KERNEL_OF[kernel], KIND, str(pairs), str(SETTLE_S), str(MEASURE_S), str(SHARE),
                                         timeout_s=400 + 270 * pairs)
    kept.keep(KIND, release, {**facts, "kernel": release, **json.loads((place / ROUNDS).read_text())})


def change(one: kept.Kept, how: str, of: str, per: str = "seconds") -> Change:
    """Of a quantity for each of another, watched in one way against not watched."""
    before, after = ([part[of] / part[per] for part in one[side]] for side in (WITHOUT, how))
    return paired_change(before, after)


def table_of(measurements: list[kept.Kept]) -> kept.Table:
    """A row for each kernel."""
    about = (f"`make bench-pressure`. redis, 400 000 keys by Zipf's law, in a cgroup with {100 * SHARE:.0f} % of "
             "the memory that it has otherwise, zram as swap; `record` at its defaults against nothing, "
             f"{MEASURE_S} s each, after {SETTLE_S} s. Geometric means, 95 % intervals by bootstrap over pairs. The "
             "processor is emulated.")
    remarks = [f"{one['kernel']}: {found.mean + 1:.3f} times the major faults for each operation (95 % confidence: "
               f"{found.low + 1:.3f} to {found.high + 1:.3f}; goal: at most {GOAL}: {_judged(found)})."
               for one in measurements for found in [change(one, WITH, "faults", "rate")]]
    remarks.append("Likely why without MGLRU: MADV_COLD moves what it clears to the inactive list: a sweep takes "
                   "from the kernel what it knew of often and seldom. Clearing by clear_refs instead was tried, and is "
                   "worse on both: it clears all of the process, again and again.")
    rows = [_row(one, how) for one in measurements for how in (WITH, BY_REFS)]
    return kept.Table("Under memory pressure", about, COLUMNS, rows, remarks)


def _judged(found: Change) -> str:
    """Not shown, where the interval reaches across the goal."""
    if found.high + 1 <= GOAL:
        return judgement(True)
    return judgement(False if found.mean + 1 > GOAL else None)


def _row(one: kept.Kept, how: str) -> list[str]:
    faults = [sum(part["faults"] for part in one[side]) / sum(part["seconds"] for part in one[side])
              for side in (WITHOUT, how)]
    cpu, tax = (100 * sum(part[key] for part in one[how]) / len(one[how]) for key in ("cpu", "tax"))
    return [one["kernel"], "off" if one["mglru"] == "0x0000" else "on",
            "at its defaults" if how == WITH else "`--clear refs`", f"{faults[0]:.0f} to {faults[1]:.0f}",
            brief(change(one, how, "faults")), brief(change(one, how, "faults", "rate")),
            brief(change(one, how, "rate")), brief(change(one, how, "p99_us")), f"{cpu:.2f} %, {tax:.2f} %",
            str(len(one[how])), kept.noise(one)]


def main() -> None:
    """Measure what was asked for, and print the table."""
    kernels = [name for name in KERNEL_OF if name.startswith("6")]
    args = tool.arguments("bench-pressure", __doc__ or "", kernels, 6).parse_args()
    if not args.show:
        for kernel in args.only or kernels:
            measure(kernel, args.pairs)
    table_of(kept.all_of(KIND)).show(write=args.write)


if __name__ == "__main__":
    sys.exit(tool.run(main))
