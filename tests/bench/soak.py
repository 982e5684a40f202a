# SPDX-License-Identifier: GPL-2.0-only
"""Soak: a daemon through bad weather for an hour. Its memory, its descriptors and its recordings are held to account.

    python -m bench.soak [--length 1h] [--write]

Three targets are recorded: one whose processes stay, one whose processes come and go all the time, and a control
group that itself comes and goes. The configuration changes each quarter of a minute, bad files among them; every child
of the daemon is killed in every other minute; the disk of the recordings is full for a minute. Ends with 1 if a limit
is broken.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench import tool
from bench.machine import OtherWork
from bench.results import write_section
from bench.table import Row, as_markdown, as_text, row_at_most, verdict
from bench.weather import FullDisk, Killer, Reloads, Visitor, children_of, churn, group, scheme
from live.daemon import Daemon
from live.machine import small_disk, wait_until
from live.recorder import line
from pagepulse.capture import Recordings
from pagepulse.units import format_time_ns, parse_time_ns
from workload import Workload

MIB = 1 << 20
TARGETS = ("steady", "churning", "visiting")
RECORDINGS = tuple(f"/{name}.data" for name in TARGETS)
WARM_UP_S, ROUND_S = 300, 120
"""The first five minutes are for growing; all kinds of weather but the full disk come once in a round."""
FULL_S, BACK_S = 60, 65
"""So long is the disk full; so much later at the latest the daemon records again."""
_STARVED_S = 3
"""So long can other programs keep a daemon from a processor; what a lost snapshot leaves is counted, however short."""
_EVERY_S = {"reload": 15, "visit": 30, "anger": 60, "read": 60}
_DISK_BYTES_PER_HOUR = 512 * MIB


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at a moment."""

    at_s: float
    """Since the soak began."""
    rss_bytes: int
    threads: int
    lost_snapshots: int
    """As it says itself."""
    watched: int
    """Processes."""


@dataclass(slots=True)
class Course:
    """What was seen."""

    samples: list[Sample] = field(default_factory=list)
    descriptors: list[Counter[str]] = field(default_factory=list)
    """Before the weather and after it, while the same processes are watched and nothing else happens."""
    full_s: tuple[float, float] = (0, 0)
    reloads: int = 0
    refused: int = 0
    visits: int = 0
    killed: int = 0
    reports: int = 0
    bad_reports: list[str] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    """Snapshots of each target, by the daemon's own count."""
    lost: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    """Snapshots of each target that are in its recordings."""
    gap_s: float = 0.0
    """The longest time of a process that stayed that no snapshot covers, but for the time when the disk was full."""
    cpu_percent: float = 0.0
    processes: int = 0
    exit_status: int = 0
    traceback: bool = False


def main() -> int:
    """Soak, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--length", type=parse_time_ns, default=parse_time_ns("1h"), help="10 minutes at least (1h)")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    args = parser.parse_args()
    length_s = args.length / 1e9
    if length_s < 2 * WARM_UP_S:
        parser.error(f"--length must be at least {format_time_ns(2 * WARM_UP_S * 10**9)}")
    others = OtherWork()
    course = soak(length_s)
    rows = judged(course)
    print(f"\n{as_text(rows)}\n\n{verdict(rows)}")
    if args.write:
        write_section("Soak", f"{_words(course, length_s, others.share())}\n\n{as_markdown(rows)}\n\n{verdict(rows)}")
    return int(not all(row.is_met for row in rows))


def soak(length_s: float) -> Course:
    """All of it."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk = stack.enter_context(small_disk(place / "disk", 64 * MIB + int(_DISK_BYTES_PER_HOUR * length_s / 3600)))
        steady, busy = stack.enter_context(group("steady")), stack.enter_context(group("churn"))
        other = stack.enter_context(group("other"))
        for size, where in (("16MiB", steady), ("32MiB", steady), ("8MiB", other)):
            pulse = stack.enter_context(Workload("pulse", "--size", size))
            (where / "cgroup.procs").write_text(str(pulse.pid))
        visitor = Visitor()
        stack.callback(visitor.close)
        places = dict(zip(TARGETS, (steady, busy, visitor.place), strict=True))
        daemon = stack.enter_context(Daemon(place / "daemon", _targets(places, disk), f"127.0.0.1:{_free_port()}"))
        daemon.write("cold.json", scheme("10 s"))
        _lose_the_compiler(daemon)
        daemon.start()
        course, reloads = Course(), Reloads(daemon, other)
        _visit_once(daemon, visitor)
        course.descriptors.append(_descriptors_at_rest(daemon))
        with churn(busy):
            _through_the_weather(course, reloads, visitor, disk, length_s)
        visitor.close()
        reloads.take_back()
        course.descriptors.append(_descriptors_at_rest(daemon))
        _to_the_end(course, daemon, disk)
    return course


def _targets(places: dict[str, Path], disk: Path) -> str:
    tables = []
    for name, place in places.items():
        (disk / name).mkdir()
        tables.append(f'[targets.{name}]\ncgroup = "{place}"\nbudget = "2%"\nrotate_size = "128KiB"\nkeep = 1000000\n'
                      f'recording = "{disk}/{name}/{name}.data"\n')
    return "".join(tables).replace("[targets.steady]\n", '[targets.steady]\nschemes = "cold.json"\n')


def _visit_once(daemon: Daemon, visitor: Visitor) -> None:
    """A target whose control group has been there once is listening for its processes from then on."""
    visitor.come_or_go()
    assert daemon.tells("visiting", lambda target: len(target["processes"]) == 1), daemon.status()
    visitor.come_or_go()


def _descriptors_at_rest(daemon: Daemon) -> Counter[str]:
    """What is open once those who stay are watched, and nobody else: two, all in the first target."""
    def rests(status: dict[str, Any]) -> bool:
        return [len(target["processes"]) for target in status["targets"]] == [2] + [0] * (len(TARGETS) - 1)

    assert daemon.sees(rests), daemon.status()
    return min((_descriptors(daemon) for _ in range(20)), key=Counter.total)  # one more while it answers somebody


def _descriptors(daemon: Daemon) -> Counter[str]:
    """By what they are, numbers left out. Not counted is a target's recording: open from its first process on."""
    time.sleep(0.1)
    found: Counter[str] = Counter()
    for fd in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[re.sub(r"\d+", "N", str(fd.readlink()))] += 1
    return Counter({kind: count - kind.endswith(RECORDINGS) for kind, count in found.items()})


def _grown(course: Course) -> str:
    """Of which kinds there are more."""
    more = course.descriptors[1] - course.descriptors[0]
    return f" ({', '.join(f'{count} {kind}' for kind, count in more.items())})" if more else ""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _lose_the_compiler(daemon: Daemon) -> None:
    """The child that compiles is killed: the daemon says so and ends, and nothing is left of it."""
    with subprocess.Popen(line("serve", "--config", daemon.directory), stderr=subprocess.PIPE, text=True) as doomed:
        assert wait_until(lambda: bool(children_of(doomed.pid)))
        for child in children_of(doomed.pid):
            os.kill(child, signal.SIGKILL)
        _, said = doomed.communicate(timeout=60)
    assert doomed.returncode == 1, said
    assert "could not be compiled" in said, said
    assert "Traceback" not in said, said


def _through_the_weather(course: Course, reloads: Reloads, visitor: Visitor, disk: Path, length_s: float) -> None:
    daemon, full = reloads.daemon, FullDisk(disk)
    begun_s = time.monotonic()
    due_s = dict.fromkeys(_EVERY_S, 0.0)
    full_s = course.full_s = length_s * 0.6, length_s * 0.6 + FULL_S
    with Killer(daemon.pid) as killer:
        for now_s in _ticks(begun_s, length_s):
            due = [what for what, when_s in due_s.items() if now_s >= when_s]
            for what in due:
                due_s[what] = now_s + _EVERY_S[what]
            if "reload" in due:
                reloads.change()
            if "visit" in due:
                visitor.come_or_go()
            if "anger" in due:
                killer.is_angry = not killer.is_angry
            if full_s[0] <= now_s < full_s[1]:
                full.fill()
            elif full.is_full:
                full.free()
            elif "read" in due and now_s > _EVERY_S["read"]:
                _read_while_written(course, disk)
            course.samples.append(_sample(daemon, now_s))
    course.reloads, course.refused = reloads.done, reloads.refused
    course.visits, course.killed = visitor.visits, killer.killed


def _ticks(begun_s: float, length_s: float) -> Iterator[float]:
    """Each second, the time since the beginning; each minute a word to whoever waits."""
    said = 0
    while (now_s := time.monotonic() - begun_s) < length_s:
        yield now_s
        if now_s >= 60 * said:
            print(f"{now_s / 60:.0f} of {length_s / 60:.0f} minutes", flush=True)
            said += 1
        time.sleep(max(0.0, 1 - (time.monotonic() - begun_s - now_s)))


def _sample(daemon: Daemon, now_s: float) -> Sample:
    status = daemon.status()
    urllib.request.urlopen(f"http://{daemon.metrics}/metrics", timeout=20).read()
    proc = Path(f"/proc/{daemon.pid}")
    facts = dict(row.split(":\t", 1) for row in (proc / "status").read_text().splitlines() if ":\t" in row)
    lost = sum(target["recording"]["lost_snapshots"] for target in status["targets"] if target["recording"])
    watched = sum(len(target["processes"]) for target in status["targets"])
    return Sample(now_s, int(facts["VmRSS"].split()[0]) << 10, int(facts["Threads"]), lost, watched)


def _read_while_written(course: Course, disk: Path) -> None:
    course.reports += 1
    done = subprocess.run(line("report", "wss", disk / "steady", "--since=-30s", "--json"), capture_output=True,
                          text=True, check=False)
    if done.returncode:
        course.bad_reports.append(done.stderr.strip())
        print(f"a report failed: {course.bad_reports[-1]}", flush=True)


def _to_the_end(course: Course, daemon: Daemon, disk: Path) -> None:
    """Let it rest, ask what it wrote, end it, and read that."""
    pause = subprocess.run(line("pause", "--socket", daemon.socket), check=True, stdout=subprocess.DEVNULL)
    assert pause.returncode == 0
    assert daemon.sees(lambda status: status["paused"])
    status = daemon.status()
    course.cpu_percent = status["cpu_percent"]
    for target in status["targets"]:
        if target["name"] in TARGETS:
            course.told[target["name"]] = target["snapshots"]
            course.lost[target["name"]] = target["recording"]["lost_snapshots"]
    course.exit_status = daemon.end()
    course.traceback = "Traceback" in daemon.log
    seen: set[int] = set()
    for name in TARGETS:
        with Recordings.open([disk / name]) as recordings:
            spans: dict[int, list[tuple[int, int]]] = {}
            for snapshot in recordings.snapshots():
                spans.setdefault(snapshot.pid, []).append((snapshot.start_ns, snapshot.end_ns))
        course.read[name] = sum(map(len, spans.values()))
        seen |= spans.keys()
        if name == "steady":
            course.gap_s = max(longest_gap_s(of_one, bool(course.lost[name])) for of_one in spans.values())
    course.processes = len(seen)


def longest_gap_s(spans_ns: list[tuple[int, int]], was_full: bool) -> float:
    """The longest time between the end of a snapshot and the start of the next one.

    Args:
        spans_ns: Start and end of each, in order.
        was_full: Something was lost while the disk was full: the longest gap of all is that.
    """
    gaps_ns = sorted(late[0] - early[1] for early, late in pairwise(spans_ns))
    return max(gaps_ns[:-1] if was_full else gaps_ns, default=0) / 1e9


# --- judgement -----------------------------------------------------------------------------------------------------

def judged(course: Course) -> list[Row]:
    """Each limit, and whether it was kept."""
    settled = [sample for sample in course.samples if WARM_UP_S - ROUND_S <= sample.at_s < WARM_UP_S]
    after = [sample for sample in course.samples if sample.at_s >= WARM_UP_S]
    grown = max(one.rss_bytes for one in after) - max(one.rss_bytes for one in settled)
    full = (course.full_s[0], course.full_s[1] + BACK_S)
    before = max(one.lost_snapshots for one in course.samples if one.at_s < full[0])
    later = [one.lost_snapshots for one in course.samples if one.at_s >= full[1]]
    missing = sum(abs(course.told[name] - course.lost[name] - course.read[name]) for name in TARGETS)
    return [
        row_at_most("resident memory: most after five minutes, above the most in two minutes before", grown / MIB, 1,
                    "MiB"),
        row_at_most(f"descriptors, the same processes being watched: more after all of it than before{_grown(course)}",
                    course.descriptors[1].total() - course.descriptors[0].total(), 0, ""),
        row_at_most("threads more than then", max(one.threads for one in after) - max(one.threads for one in settled),
                    0, ""),
        row_at_most(f"snapshots neither in the recordings nor told as lost, of {sum(course.told.values())}", missing,
                    0, ""),
        row_at_most("told as lost before the disk was full", before, 0, ""),
        row_at_most("told as lost once it had space again for a minute", later[-1] - later[0], 0, ""),
        _row_that_happened("told as lost while it was full", sum(course.lost.values())),
        row_at_most("longest time of a process that stays that no snapshot covers, otherwise", course.gap_s,
                    _STARVED_S, "s"),
        _row_that_happened("children of ours that were killed", course.killed),
        _row_that_happened("changes of the configuration that were refused, and said so", course.refused),
        row_at_most("reports of the growing recording that failed", len(course.bad_reports), 0, ""),
        row_at_most("exit status at SIGTERM", course.exit_status, 0, ""),
        row_at_most("tracebacks", course.traceback, 0, ""),
    ]


def _row_that_happened(what: str, times: int) -> Row:
    """A row that is met if it happened at all: weather that did not come proves nothing."""
    return Row(what, str(times), "> 0", times > 0)


def _words(course: Course, length_s: float, others: float) -> str:
    rss = np.array([(one.at_s / 3600, one.rss_bytes / MIB) for one in course.samples if one.at_s >= WARM_UP_S])
    slope = np.polyfit(rss[:, 0], rss[:, 1], 1)[0]
    most_at_s, most = rss[rss[:, 1].argmax()] * (3600, 1)
    watched = [one.watched for one in course.samples if one.at_s >= WARM_UP_S]
    watched_then = [one.watched for one in course.samples if most_at_s - 10 <= one.at_s <= most_at_s]
    return (f"`make soak`, {format_time_ns(round(length_s * 1e9))}: {course.processes} processes were recorded, "
            f"{course.reloads} times the configuration changed or was to be read again, {course.visits} times a "
            f"control group came or went, {course.reports} reports were made of the growing recording. The daemon took "
            f"{course.cpu_percent:.2f} % of a CPU and {rss[-1, 1]:.1f} MiB, by least squares {slope:+.2f} MiB an "
            f"hour after the first five minutes (lowest {rss[:, 1].min():.1f}, highest {most:.1f} in minute "
            f"{most_at_s / 60:.0f}). It watched {np.median(watched):.0f} processes, {max(watched)} at most, and up to "
            f"{max(watched_then)} in the 10 s before its memory was highest. Other programs, the weather included, "
            f"used {others:.0%} of the machine.")


if __name__ == "__main__":
    sys.exit(tool.run(main))
