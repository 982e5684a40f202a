# SPDX-License-Identifier: GPL-2.0-only
"""Each program by itself, under DAMON and under pagepulse: what each said and cost, left in RESULTS.

    python -m bench.inside.damon ROUNDS SETTLE_S MEASURE_S CASE...

For each run a line of `runs.jsonl`, and beside it a recording, or DAMON's trace.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.inside import kdamond
from bench.inside.cases import CASES, Running
from bench.watching import watched
from workload import cpu_ns, now_ns

NOTHING, DAMON, TUNED, OURS, OURS_10 = "nothing", "DAMON", "DAMON, auto-tuned", "pagepulse", "pagepulse, budget 10 %"
OUR_OPTIONS: dict[str, tuple[str, ...]] = {OURS: (), OURS_10: ("--budget", "10%")}
"""On a processor that is emulated 1 % is little: 10 % buys what 1 % does on a real one."""
RUNS = "runs.jsonl"


class Taken:
    """What is taken down of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rate: float | None = None
        self.begun_ns = self.ended_ns = self.cpu_ns = 0

    @contextmanager
    def measured(self, cpu: object) -> Iterator[None]:
        """The time that counts, and what a monitor's CPU clock, a function, said before and after."""
        assert callable(cpu)
        self.begun_ns, before_ns = now_ns(), cpu()
        yield
        self.cpu_ns, self.ended_ns = cpu() - before_ns, now_ns()


def run(way: str, program: Running, taken: Taken, settle_s: float, measure_s: float) -> None:
    """One program that runs already, for so long, watched in one way."""
    if way == NOTHING:
        program.work(settle_s)
        with taken.measured(lambda: 0):
            taken.rate = program.work(measure_s)
    elif way in OUR_OPTIONS:
        with tempfile.TemporaryDirectory() as place:
            with watched(program.pid, Path(place), settle_s, *OUR_OPTIONS[way]) as watch, \
                    taken.measured(lambda: cpu_ns(watch.pid)):
                taken.rate = program.work(measure_s)
            shutil.copy(Path(place) / "watched.data", taken.path)
    else:
        options = kdamond.AUTO_TUNED if way == TUNED else ()
        with kdamond.monitored(program.pid, settle_s, *options), kdamond.traced(taken.path), \
                taken.measured(kdamond.cpu_ns):
            taken.rate = program.work(measure_s)


def main() -> int:
    """All rounds; in each program all ways, one after the other, in an order drawn by lot."""
    rounds, settle_s, measure_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    results = Path(os.environ["RESULTS"])
    kdamond.damo("version")
    monitors = [DAMON, OURS, OURS_10, *([TUNED] if kdamond.can_tune() else [])]
    for number in range(rounds):
        for case in sys.argv[4:]:
            found = []
            with CASES[case]() as program:
                ways = [*monitors, *([NOTHING] if program.counts else [])]
                for way in random.sample(ways, len(ways)):
                    taken = Taken(results / f"{case}-{number}-{monitors.index(way) if way in monitors else NOTHING}")
                    run(way, program, taken, settle_s, measure_s)
                    found.append((way, taken))
                    print(number, case, way, taken.rate, taken.cpu_ns, flush=True)
            with (results / RUNS).open("a") as lines:
                lines.writelines(json.dumps(_line(case, way, program, taken)) + "\n" for way, taken in found)
    return 0


def _line(case: str, way: str, program: Running, taken: Taken) -> dict[str, object]:
    return {"case": case, "way": way, "file": taken.path.name, "rate": taken.rate, "begun_ns": taken.begun_ns,
            "ended_ns": taken.ended_ns, "cpu_ns": taken.cpu_ns, "hot": program.hot, "wss_bytes": program.wss_bytes}


if __name__ == "__main__":
    sys.exit(main())
