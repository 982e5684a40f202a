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
from bench.inside.pressure import ROUNDS, WITH, WITHOUT
from bench.paired import Change, brief, paired_change
from bench.table import judgement

KIND = "pressure"
SETTLE_S, MEASURE_S, SHARE = 5, 20, 0.75
GOAL = 1.05
COLUMNS = ("kernel", "MGLRU", "not cleared", "unknown", "major faults a second", "faults", "faults an operation",
           "throughput", "p99", "our CPU, tax", "pairs", "measured")


def measure(kernel: str, pairs: int) -> None:
    """Boot once, and keep what was found."""
    with kept.circumstances() as facts:
        release, place = measured_inside(KERNEL_OF[kernel], KIND, str(pairs), str(SETTLE_S), str(MEASURE_S), str(SHARE),
                                         timeout_s=400 + 270 * pairs)
    kept.keep(KIND, release, {**facts, "kernel": release, **json.loads((place / ROUNDS).read_text())})


def change(one: kept.Kept, of: str, per: str = "seconds") -> Change:
    """Of a quantity for each of another, watched against not watched."""
    before, after = ([part[of] / part[per] for part in one[side]] for side in (WITHOUT, WITH))
    return paired_change(before, after)


def table_of(measurements: list[kept.Kept]) -> kept.Table:
    """A row for each kernel."""
    about = (f"`make bench-pressure`. redis, 400 000 keys by Zipf's law, in a cgroup with {100 * SHARE:.0f} % of "
             "the memory that it has otherwise, zram as swap; `record` at its defaults against nothing, "
             f"{MEASURE_S} s each, after {SETTLE_S} s. Geometric means, 95 % intervals by bootstrap over pairs. The "
             "processor is emulated.")
    remarks = [f"{one['kernel']}: {found.mean + 1:.3f} times the major faults for each operation (95 % confidence: "
               f"{found.low + 1:.3f} to {found.high + 1:.3f}; goal: at most {GOAL}: {_judged(found)})."
               for one in measurements for found in [change(one, "faults", "rate")]]
    remarks.append("*Not cleared*: snapshots in which nothing was cleared, since some of the group waited for memory "
                   "more than 1 % of the time: what is known then is what the kernel's own search for cold pages "
                   "cleared. Before that, with clears all the time, it was 1.273 times (1.020 to 1.603) on 6.1 and "
                   "1.007 (0.914 to 1.094) on 6.12 (3 pairs each, 2026-11-23 12:12): MADV_COLD moves what it clears "
                   "to the inactive list, and takes from a kernel without MGLRU what it knew of often and seldom. "
                   "Clearing by clear_refs was worse: 1.293 and 1.353 times.")
    rows = [_row(one) for one in measurements]
    return kept.Table("Under memory pressure", about, COLUMNS, rows, remarks)


def _judged(found: Change) -> str:
    """Not shown, where the interval reaches across the goal."""
    if found.high + 1 <= GOAL:
        return judgement(True)
    return judgement(False if found.mean + 1 > GOAL else None)


def _row(one: kept.Kept) -> list[str]:
    faults = [sum(part["faults"] for part in one[side]) / sum(part["seconds"] for part in one[side])
              for side in (WITHOUT, WITH)]
    cpu, tax = (100 * sum(part[key] for part in one[WITH]) / len(one[WITH]) for key in ("cpu", "tax"))
    spared, snapshots, unknown, rss = (sum(part.get(key, 0) for part in one[WITH])
                                       for key in ("spared", "snapshots", "unknown_bytes", "rss_bytes"))
    return [one["kernel"], "off" if one["mglru"] == "0x0000" else "on",
            f"{spared} of {snapshots}", f"{100 * unknown / max(rss, 1):.0f} %", f"{faults[0]:.0f} to {faults[1]:.0f}",
            brief(change(one, "faults")), brief(change(one, "faults", "rate")), brief(change(one, "rate")),
            brief(change(one, "p99_us")), f"{cpu:.2f} %, {tax:.2f} %", str(len(one[WITH])), kept.noise(one)]


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
