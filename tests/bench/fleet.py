# SPDX-License-Identifier: GPL-2.0-only
"""Many processes at once: what 300 of 20 MiB cost beside one of 6 GiB, how soon a child is watched, what forks cost.

    python -m bench.fleet
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench import tool
from bench.machine import description
from bench.paired import paired_change
from bench.table import Row, as_text
from pagepulse.capture import Recording
from workload import ROOT, Workload

PLACE = ROOT / "build" / "bench"
PROCESSES, SMALL, LARGE = 300, "20MiB", "6GiB"
FIRST_S, PARTS, PART_S = 40, 12, 10
KNOWN_S = {"one": 40, "many": 420}  # until all is known, as 1 % allows, and those that sleep were visited once more
STORM_S, FORKS_A_SECOND, KEPT = 20, 1000, 5
_BEATS = 50  # a second: forks come in so many bursts
_FORKS = ("n=0; while read block; do i=0; while [ $i -lt $block ]; do (:); i=$((i+1)); done; n=$((n+block)); echo $n; "
          "done")
_STORM = f"""
import json, subprocess, sys, threading, time
forks = subprocess.Popen(["sh", "-c", {_FORKS!r}], stdin=subprocess.PIPE, stdout=open(sys.argv[1], "w"), text=True)
def beat():
    begun = time.monotonic()
    for beat in range({STORM_S * _BEATS}):
        forks.stdin.write(sys.argv[2] + "\\n")
        forks.stdin.flush()
        time.sleep(max(begun + beat / {_BEATS} - time.monotonic(), 0))
threading.Thread(target=beat, daemon=True).start()
keep = [sys.executable, "-c", "import time; x = bytearray(8 << 20); time.sleep(60)"]
kept = []
for _ in range({KEPT}):
    time.sleep({STORM_S} / {KEPT})
    begun = time.monotonic_ns()
    kept.append((subprocess.Popen(keep), begun))
time.sleep(1)
forks.kill()
forks.wait()
print(json.dumps([(child.pid, begun) for child, begun in kept]), flush=True)
for child, _ in kept:
    child.kill()
    child.wait()
"""


def main() -> int:
    """Measure and print; asserts nothing."""
    PLACE.mkdir(parents=True, exist_ok=True)
    print(f"{description()}\n", flush=True)
    print(as_text([*_sizes(), *_storm()]))
    return 0


def _sizes() -> Iterator[Row]:
    with Workload("touch", "--area", f"a:{LARGE}") as one:
        large = _cost("one", ["--pid", str(one.process.pid)], KNOWN_S["one"])
    with _many() as pids:
        small = _cost("many", ["--pid", *map(str, pids)], KNOWN_S["many"])
    steady, many = (sum(cost.parts) / PARTS for cost in (large, small))
    ratio = paired_change(large.parts, small.parts)
    yield Row(f"one process of {LARGE}: CPU once known", f"{steady:.3f} %", "", None)
    yield Row(f"{PROCESSES} of {SMALL}: CPU once known", f"{many:.3f} %", "1 %", many <= 1)
    yield Row("  times that of one", f"{1 + ratio.mean:.2f} (95 % confidence: {1 + ratio.low:.2f} to "
              f"{1 + ratio.high:.2f}, {PARTS} pairs of {PART_S} s)", "at most 2", ratio.high <= 1)
    yield Row(f"  in the first {FIRST_S} s", f"{small.first:.2f} %", f"one: {large.first:.2f} %", None)
    yield Row("  watched, and not known yet", f"{small.watched}, {small.not_known_yet}", f"{PROCESSES}, 0",
              (small.watched, small.not_known_yet) == (PROCESSES, 0))


@contextmanager
def _many() -> Iterator[list[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Workload("touch", "--area", f"a:{SMALL}")).process.pid for _ in range(PROCESSES)]


class Cost(NamedTuple):
    """What a recorder cost, in percent of one CPU."""

    first: float
    """In the first FIRST_S."""
    parts: list[float]
    """Once all are known, in each of PARTS parts of PART_S."""
    watched: int
    not_known_yet: int


def _cost(name: str, target: Sequence[str], known_s: int) -> Cost:
    output = PLACE / f"fleet-{name}.data"
    duration_s = known_s + PARTS * PART_S + 5
    command = [sys.executable, "-m", "pagepulse", "record", "-f", "-o", str(output), "--duration", f"{duration_s}s",
               "--json", *target]
    with ExitStack() as stack:
        recorder = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(recorder.kill)
        while not output.exists() or not output.stat().st_size:
            time.sleep(0.05)
        first = _percent(recorder.pid, FIRST_S)
        time.sleep(known_s - FIRST_S)
        parts = [_percent(recorder.pid, PART_S) for _ in range(PARTS)]
        summary = json.loads(recorder.communicate()[0])
    return Cost(first, parts, summary.get("processes", 1), summary.get("not_known_yet", 0))


def _percent(pid: int, seconds: float) -> float:
    """CPU of a process from now on, in percent of one."""
    begun_ns, begun_s = _cpu_ns(pid), time.monotonic()
    time.sleep(seconds)
    return (_cpu_ns(pid) - begun_ns) / (time.monotonic() - begun_s) / 1e7


def _cpu_ns(pid: int) -> int:
    return time.clock_gettime_ns(~pid << 3 | 2)


def _storm() -> Iterator[Row]:
    quiet, _, _ = _followed(0)
    cpu, forked, found = _followed(FORKS_A_SECOND)
    yield Row("forks a second while children are followed", f"{forked / STORM_S:.0f}", "1000", None)
    yield Row("  CPU beyond that without forks", f"{cpu - quiet:.2f} %", "2 %", cpu - quiet <= 2)
    yield Row("  CPU in all, getting to know the six in 21 s included", f"{cpu:.2f} %", f"without: {quiet:.2f} %", None)
    yield Row("  long-lived children watched", f"{len(found)} of {KEPT}", "all", len(found) == KEPT)
    latest_ms = max(found, default=float("inf"))
    yield Row("  from fork to watched, at most", f"{latest_ms:.0f} ms", "100 ms", latest_ms <= 100)


def _followed(forks_a_second: int) -> tuple[float, int, list[float]]:
    """CPU in percent of one, forks, and for each long-lived child the milliseconds until it was watched."""
    output = PLACE / "fleet-storm.data"
    command = [sys.executable, "-m", "pagepulse", "record", "-f", "-o", str(output), "--json", "--children",
               "--", sys.executable, "-c", _STORM, str(PLACE / "forks"), str(forks_a_second // _BEATS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    kept, summary = (json.loads(line) for line in done.stdout.splitlines())
    with Recording.open(output) as recording:
        watched = {event.data["pid"]: event.at_ns for event in recording.events() if event.kind == "watched"}
    forked = int((PLACE / "forks").read_text().split()[-1])
    found = [(watched[pid] - begun_ns) / 1e6 for pid, begun_ns in kept if pid in watched]
    return summary["cpu_percent"], forked, found


if __name__ == "__main__":
    sys.exit(tool.run(main))
