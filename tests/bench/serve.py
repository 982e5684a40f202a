# SPDX-License-Identifier: GPL-2.0-only
"""A daemon that watches 300 processes: how soon it answers, what it costs, and what it costs while it rests.

    python -m bench.serve
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import tool
from bench.machine import description
from bench.table import Row, as_text, row_at_most
from live.daemon import Daemon
from pagepulse.service.client import ask

PROCESSES, QUESTIONS = 300, 500
KNOWN_AT, SETTLE_S, COST_S, REST_S = "20%", 60, 60, 30
_KEEPS_2_MIB = "import time; x = bytearray(2 << 20); time.sleep(3600)"


def main() -> int:
    """Measure and print; asserts nothing."""
    print(f"{description()}\n", flush=True)
    with (tempfile.TemporaryDirectory() as place, _processes() as group, Daemon(Path(place)) as daemon):
        target = f'[targets.many]\ncgroup = "{group}"\n'
        daemon.write("conf.d/many.toml", f'{target}budget = "{KNOWN_AT}"\n')
        daemon.start()
        while len(daemon.target("many")["processes"]) < PROCESSES:  # at 1 % that takes some eight minutes
            time.sleep(2)
        daemon.write("conf.d/many.toml", target)
        daemon.send(signal.SIGHUP)
        assert daemon.tells("many", lambda target: target["budget_percent"] == 1)
        time.sleep(SETTLE_S)
        print(as_text(_rows(daemon)))
        daemon.end()
    return 0


@contextmanager
def _processes() -> Iterator[Path]:
    root = next(root for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
                if (root / "cgroup.controllers").exists())
    group = root / f"pagepulse-bench-{os.getpid()}"
    group.mkdir()
    with ExitStack() as stack:
        stack.callback(group.rmdir)
        children = [subprocess.Popen(["/usr/bin/python3", "-Sc", _KEEPS_2_MIB]) for _ in range(PROCESSES)]
        for child in children:
            stack.callback(child.wait)
            stack.callback(child.kill)
            (group / "cgroup.procs").write_text(str(child.pid))
        yield group


def _rows(daemon: Daemon) -> list[Row]:
    answers_ms = []
    for _ in range(QUESTIONS):
        begun_ns = time.perf_counter_ns()
        status = ask(daemon.socket, "status")
        answers_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
        time.sleep(0.01)
    answers_ms.sort()
    assert len(status["targets"][0]["processes"]) >= PROCESSES
    working = _cpu_percent(daemon.pid, COST_S)
    ask(daemon.socket, "pause")
    daemon.sees(lambda status: status["paused"])
    return [
        row_at_most(f"status of {PROCESSES} processes, median of {QUESTIONS}", statistics.median(answers_ms), 10, "ms"),
        row_at_most("... 99 of 100 answers", answers_ms[len(answers_ms) * 99 // 100], 10, "ms"),
        Row("... the slowest", f"{answers_ms[-1]:.3g} ms", "none set", None),
        row_at_most(f"CPU of the daemon over {COST_S} s", working, 1, "%"),
        row_at_most(f"CPU of the daemon at rest, over {REST_S} s", _cpu_percent(daemon.pid, REST_S), 0.1, "%"),
        Row("resident memory of the daemon", f"{status['rss_bytes'] / (1 << 20):.1f} MiB", "none set", None),
    ]


def _cpu_percent(pid: int, duration_s: float) -> float:
    """Of one CPU, by the scheduler's own count."""
    begun = time.monotonic(), _cpu_s(pid)
    time.sleep(duration_s)
    return 100 * (_cpu_s(pid) - begun[1]) / (time.monotonic() - begun[0])


def _cpu_s(pid: int) -> float:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


if __name__ == "__main__":
    sys.exit(tool.run(main))
