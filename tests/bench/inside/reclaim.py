# SPDX-License-Identifier: GPL-2.0-only
"""Programs in a cgroup of their own, left alone, under TMO's controller, and under our schemes; left in RESULTS.

    python -m bench.inside.reclaim ROUNDS MEASURE_S PROGRAM...

For each run a line of `runs.jsonl`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.command import CommandError, start
from bench.inside.groups import born_in, group_of, read
from bench.inside.pressure import LimitedRedis
from bench.programs.program import Service
from bench.schemes import memory_of
from bench.watching import wait_for_snapshot
from demo.swap import temporary_swap
from workload import ROOT, major_faults

SWAP_BYTES = 1 << 30
RUNS = "runs.jsonl"
NOTHING, TMO, HASTY, PRCL, SERVICE = "nothing", "TMO, 6 s", "TMO, 1 s", "prcl", "reclaim-service"
INTERVALS_S = {TMO: 6, HASTY: 1}


class IdleRedis(LimitedRedis):
    """1 key in 50 is asked for."""

    name = "redis-idle"
    asked_for = 8_000


class WarmRedis(LimitedRedis):
    """All keys are asked for, by Zipf's law."""

    name = "redis"


class Phases(Service):
    """What is idle comes back. It is its own load."""

    name = "numpy-phases"

    def __init__(self, group: Path) -> None:
        super().__init__()
        self._group = group

    def start(self) -> None:
        """All of it in the group."""
        with born_in(self._group):
            self.pid = self.load("load_science.py", "phases", str(128 << 20), seconds=300).pid


PROGRAMS = {program.name: program for program in (IdleRedis, WarmRedis, Phases)}


@contextmanager
def treated(way: str, pid: int, group: Path) -> Iterator[None]:
    """Inside, the program is treated in one way, which has begun.

    Raises:
        CommandError: pagepulse failed.
    """
    if way == NOTHING:
        yield
    elif way in INTERVALS_S:
        line = [sys.executable, "-m", "bench.tmo_reclaim", str(group), str(INTERVALS_S[way])]
        with subprocess.Popen(line) as rival:
            try:
                yield
            finally:
                rival.terminate()
    else:
        with tempfile.TemporaryDirectory() as place:
            recording = Path(place) / "run.data"
            with start("run", "--schemes", ROOT / "schemes" / f"{way}.json", "--record", recording, "--pid", str(pid),
                       "--json") as running:
                try:
                    wait_for_snapshot(running, recording)
                    yield
                finally:
                    running.send_signal(signal.SIGINT)
                    _, complaint = running.communicate()
        if running.returncode:
            raise CommandError(complaint.strip() or f"pagepulse run ended with status {running.returncode}")


def measure(name: str, way: str, seconds: float) -> dict[str, float | None]:
    """One run from a fresh start."""
    with group_of("treated") as group, PROGRAMS[name](group) as program, treated(way, program.pid, group), \
            memory_of(program.pid) as memory:
        faults, refaults = major_faults(program.pid), read(group, "workingset_refault_anon")
        done = program.measure(seconds)
        return {"rate": done.rate, "per_cpu_s": done.per_cpu_s, "p99_us": done.p99_us,
                "rss_bytes": memory.later(memory.rss_bytes), "first_rss_bytes": memory.rss_bytes[0],
                "major_faults": major_faults(program.pid) - faults,
                "refaults": read(group, "workingset_refault_anon") - refaults}


def main() -> int:
    """All runs, in an order drawn by lot."""
    rounds, seconds, names = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    ways = [NOTHING, TMO, HASTY, PRCL, SERVICE]
    with temporary_swap(SWAP_BYTES) as swap, (Path(os.environ["RESULTS"]) / RUNS).open("w", buffering=1) as lines:
        if swap.device is None:
            print(f"no swap: {swap.why}")
            return 1
        for name in names * rounds:
            for way in random.sample(ways, len(ways)):
                line = json.dumps({"program": name, "way": way, **measure(name, way, seconds)})
                print(line, flush=True)
                lines.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
