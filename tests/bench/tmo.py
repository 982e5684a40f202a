# SPDX-License-Identifier: GPL-2.0-only
"""Our schemes beside TMO's controller, which asks a cgroup's memory.reclaim while pressure is low.

    python -m bench.tmo [--only PROGRAM]... [--pairs ROUNDS] [--show] [--write]

In a virtual machine with Linux 6.12: it has memory control of cgroup v2. The controller is bench.tmo_reclaim.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np

from bench import kept, tool
from bench.guest import KERNEL_OF, measured_inside
from bench.inside.reclaim import NOTHING, PROGRAMS, RUNS
from bench.paired import cell, change_of

KIND = "tmo"
KERNEL = "6.12"
MEASURE_S = 45
RUN_LIMIT_S = 300
COLUMNS = ("program", "way", "RSS", "throughput", "per CPU second", "p99", "major faults", "rounds", "measured")


def measure(names: Sequence[str], rounds: int) -> None:
    """Boot once, and keep what was found of each program."""
    with kept.circumstances() as facts:
        release, place = measured_inside(KERNEL_OF[KERNEL], "reclaim", str(rounds), str(MEASURE_S), *names,
                                         timeout_s=120 + RUN_LIMIT_S * 5 * rounds * len(names))
    runs = [json.loads(line) for line in (place / RUNS).read_text().splitlines()]
    for name in names:
        of = [run for run in runs if run["program"] == name]
        ways = {way: [run for run in of if run["way"] == way] for way in dict.fromkeys(run["way"] for run in of)}
        kept.keep(KIND, name, {**facts, "kernel": release, "program": name, "ways": ways})


def table_of(measurements: list[kept.Kept]) -> kept.Table:
    """A row for each program and way."""
    about = ("`make bench-tmo`. Linux 6.12 in a virtual machine, its processor emulated; each program from a fresh "
             f"start in a cgroup of its own, {MEASURE_S} s from the moment the way is at work, zram as swap; "
             "changes against the program left alone in the same round, 95 % interval over rounds; memory is the "
             "mean of the last third. TMO's controller takes 1 % of the group each interval unless memory or I/O "
             "pressure is 0.1 %: 6 s is what Meta's oomd ships, 1 s gives it as many steps in a minute as it has "
             "in six.")
    rows = [_row(one, way) for one in measurements for way in one["ways"] if way != NOTHING]
    remark = ("TMO's controller looks at the group's pressure alone, and takes little each time; prcl takes the pages "
              "that were idle for 5 s. reclaim-service takes what was idle for 2 minutes: longer than this took.")
    return kept.Table("Beside TMO", about, COLUMNS, rows, [remark])


def _row(one: kept.Kept, way: str) -> list[str]:
    alone, runs = one["ways"][NOTHING], one["ways"][way]
    faults = [float(np.mean([run["major_faults"] for run in of])) for of in (alone, runs)]
    changes = [change_of([run[key] for run in alone], [run[key] for run in runs])
               for key in ("rss_bytes", "rate", "per_cpu_s", "p99_us")]
    return [one["program"], way, *map(cell, changes),
            f"{faults[0]:.0f} to {faults[1]:.0f}", str(len(runs)), kept.noise(one)]


def main() -> None:
    """Measure what was asked for, and print the table."""
    args = tool.arguments("bench-tmo", __doc__ or "", list(PROGRAMS), 3).parse_args()
    if not args.show:
        measure(args.only or list(PROGRAMS), args.pairs)
    table_of(kept.all_of(KIND)).show(write=args.write)


if __name__ == "__main__":
    sys.exit(tool.run(main))
