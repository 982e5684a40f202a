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

from bench.machine import description
from bench.table import Row, as_text
from pagepulse.capture import Recording
from workload import ROOT, Workload

PLACE = ROOT / "build" / "bench"
PROCESSES, SMALL, LARGE = 300, "20MiB", "6GiB"
SETTLE_S, DURATION_S = 40, 100
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
        first, steady, whole = _cost("one", ["--pid", str(one.process.pid)])
    yield Row(f"one process of {LARGE}: CPU once known", f"{steady:.3f} %", f"{first:.2f} % until {SETTLE_S} s", None)
    with _many() as pids:
        many_first, many, whole = _cost("many", ["--pid", *map(str, pids)])
    yield Row(f"{PROCESSES} of {SMALL}: CPU once known", f"{many:.3f} %", "at most twice that of one",
              many <= 2 * steady)
    yield Row("  inside the budget", f"{many:.3f} %", "1 %", many <= 1)
    yield Row(f"  until {SETTLE_S} s", f"{many_first:.2f} %", f"one: {first:.2f} %", None)
    yield Row("  watched", str(whole), str(PROCESSES), whole == PROCESSES)


@contextmanager
def _many() -> Iterator[list[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Workload("touch", "--area", f"a:{SMALL}")).process.pid for _ in range(PROCESSES)]


def _cost(name: str, target: Sequence[str]) -> tuple[float, float, int]:
    """CPU of the recorder in percent of one: before SETTLE_S, and after; and processes watched."""
    output = PLACE / f"fleet-{name}.data"
    command = [sys.executable, "-m", "pagepulse", "record", "-f", "-o", str(output), "--duration", f"{DURATION_S}s",
               "--json", *target]
    recorder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not output.exists() or not output.stat().st_size:
        time.sleep(0.05)
    begun_ns = _cpu_ns(recorder.pid)
    time.sleep(SETTLE_S)
    middle_ns, middle_s = _cpu_ns(recorder.pid), time.monotonic()
    time.sleep(DURATION_S - SETTLE_S - 5)
    end_ns, elapsed_s = _cpu_ns(recorder.pid), time.monotonic() - middle_s
    summary = json.loads(recorder.communicate()[0])
    return ((middle_ns - begun_ns) / SETTLE_S / 1e7, (end_ns - middle_ns) / elapsed_s / 1e7,
            summary.get("processes", 1))


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
    sys.exit(main())
