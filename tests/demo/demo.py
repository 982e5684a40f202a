# SPDX-License-Identifier: GPL-2.0-only
"""The demo: watch a program on real memory, draw what it uses, give back what it does not. Under two minutes.

Everything is done through the `pagepulse` command, and every number is measured while you watch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.command import CommandError, answer, show, start
from bench.machine import OtherWork
from bench.paired import paired_change, rates_in_parts
from bench.truth import hot_found, newest
from demo.swap import Swap, temporary_swap
from pagepulse.model.memory import PAGE
from pagepulse.units import format_share, format_size, format_time_ns
from workload import ROOT, Event, Workload, WorkloadError, major_faults, now_ns, resident_bytes, status_bytes

SWAP_BYTES = 2 << 30
RECORD_S = 20
HOT_HZ = 5.0
"""From here on a region is called hot. The workload touches its hot pages at 80 Hz, its warm ones at 0.5 Hz."""
SETTLED_S = 5
"""Of the recording, its end: what the monitor says once it knows the program."""
ROUNDS, REST_S, RUN_S = 2, 5, 25
PARTS = 5
"""Pairs in each round: the rest and the run are cut into as many parts each."""
NOISE = 0.03
"""Share of the machine from which on other programs disturb a comparison."""
SCHEMES = ROOT / "schemes" / "prcl.json"
PLACE = ROOT / "build" / "demo"
RECORDING = PLACE / "office.data"


def main() -> int:
    """Run the demo. The exit status: 0 if all went well, 1 if something failed, 3 without the privileges."""
    if os.geteuid() != 0:
        print("The demo watches another process's memory: it needs root. Try: sudo make demo", file=sys.stderr)
        return 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begun_ns = now_ns()
    try:
        PLACE.mkdir(parents=True, exist_ok=True)
        with temporary_swap(SWAP_BYTES) as swap, _office(swap) as office:
            _watch(office)
            _reclaim(office, swap)
            lost_words = _end(office)
    except (CommandError, WorkloadError, OSError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: the workload has ended.")
        return 130
    _say(f"That took {format_time_ns(now_ns() - begun_ns)}. The recording and the picture are in "
         f"{PLACE.relative_to(ROOT)}/.")
    return 1 if lost_words else 0


def _title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _command(*words: str | Path) -> tuple[str | Path, ...]:
    """Print a command as the user would type it, before it is run."""
    shown = [str(word.relative_to(ROOT)) if isinstance(word, Path) else word for word in words]
    print(f"  $ pagepulse {' '.join(shown)}", flush=True)
    return words


@contextmanager
def _office(swap: Swap) -> Iterator[Workload]:
    """The workload, with its idle area where this machine can give it back."""
    _title("A program with 1 GiB and more, most of it idle")
    file = PLACE / "idle.area"
    _say_swap(swap)
    try:
        with Workload("office", *(() if swap.device else ("--file", str(file)))) as office:
            _say(f"tests/workloads/office runs as process {office.pid}, {format_size(resident_bytes(office.pid))} "
                 "resident, and tells us what it does:")
            for name, use in (("hot", "random records, all the time"), ("warm", "every page once in 2 s"),
                              ("idle", "filled, then left alone")):
                first, last = office.area(name)
                _say(f"    {name:<5} {format_size(last - first):>8}  {first:#x}-{last:#x}  {use}")
            yield office
    finally:
        file.unlink(missing_ok=True)


def _say_swap(swap: Swap) -> None:
    if swap.device is None:
        _say(f"No swap is active, and none could be made ({swap.why}): the idle memory is a file's.")
    elif swap.is_ours:
        _say(f"No swap is active: made one of {format_size(SWAP_BYTES)} on {swap.device}, compressed memory. It is "
             "removed at the end.")
    else:
        _say(f"Swap: this machine's own, {swap.device}.")


def _watch(office: Workload) -> None:
    _title(f"Watch it for {RECORD_S} s")
    summary = answer(*_command("record", "--force", "-o", RECORDING, "--duration", f"{RECORD_S}s",
                               "--pid", str(office.pid)))
    _say(f"{summary['snapshots']} snapshots; it cost {summary['cpu_percent']:.2f} % of one CPU, and the program "
         f"{summary['target_tax_percent']:.2f} %.")
    _title("What did it use?")
    show(*_command("report", "heatmap", RECORDING))
    show(*_command("report", "heatmap", RECORDING, "-o", RECORDING.with_suffix(".png")))
    show(*_command("report", "idle", RECORDING))
    show(*_command("report", "wss", RECORDING))
    _judge(office)


def _judge(office: Workload) -> None:
    """Compare what was called hot with what the workload knows to be hot."""
    _title("Is that true?")
    snapshots = newest(answer("report", "regions", RECORDING)["snapshots"], SETTLED_S)
    found = hot_found(snapshots, [office.area("hot")], HOT_HZ)
    _say(f"Called hot (from {HOT_HZ:g} touches a second on) in the last {SETTLED_S} s, against the program's own "
         f"word:\n  precision {found.precision * 100:.1f} %, recall {found.recall * 100:.1f} %.")


def _reclaim(office: Workload, swap: Swap) -> None:
    _title(f"Give back what it does not use: {ROUNDS} rounds of {REST_S} s in peace, {RUN_S} s of pagepulse")
    rested: list[float] = []
    reclaimed: list[float] = []
    first_bytes, others = resident_bytes(office.pid), OtherWork(office.pid)
    for number in range(1, ROUNDS + 1):
        rested_ns, begun_ns, ended_ns = _round(office, swap, number)
        slices = office.events("slice")
        rested += rates_in_parts(slices, rested_ns, begun_ns, PARTS, per="busy_ns")
        reclaimed += rates_in_parts(slices, begun_ns, ended_ns, PARTS, per="busy_ns")
    _title("What it brought, and what it cost")
    _say(f"Resident: {format_size(first_bytes)} before, {format_size(resident_bytes(office.pid))} after"
         + (f"; {format_size(status_bytes(office.pid, 'VmSwap'))} of it in swap.{_compressed(swap)}"
            if swap.device else "."))
    _say(f"The program's own throughput with pagepulse at work: {paired_change(rested, reclaimed)}.")
    if others.share() > NOISE:
        _say(f"Other programs used {format_share(others.share())} of this machine meanwhile: do not trust that number.")


def _compressed(swap: Swap) -> str:
    """What the zram swap itself holds of memory."""
    if not swap.is_ours or swap.device is None:
        return ""
    used = Path("/sys/block", Path(swap.device).name, "mm_stat").read_text().split()[2]
    return f" The swap holds it in {format_size(int(used))}."


def _round(office: Workload, swap: Swap, number: int) -> tuple[int, int, int]:
    """Rest, then run the scheme. Returns when the rest began, when the run began and when it ended (CLOCK_MONOTONIC).

    In the second round the program wants a part of its idle memory again.
    """
    rested_ns = now_ns()
    time.sleep(REST_S)
    begun_ns, faults = now_ns(), major_faults(office.pid)
    words = _command("run", "--schemes", SCHEMES, "--duration", f"{RUN_S}s", "--pid", str(office.pid))
    with start(*words, "--json") as running:
        try:
            if number == 2:
                time.sleep(RUN_S / 2)
                office.signal(signal.SIGUSR1)
                _say_comeback(office.wait_for("comeback"))
            out, complaint = running.communicate()
        except BaseException:
            running.terminate()
            raise
    if running.returncode:
        raise CommandError(complaint.strip())
    _say_round(json.loads(out), major_faults(office.pid) - faults if swap.device else None)
    return rested_ns, begun_ns, now_ns()


def _say_comeback(event: Event) -> None:
    _say(f"  meanwhile: the program wants {format_size(event['bytes'])} of its idle memory after all, and has it in "
         f"{format_time_ns(event['end_ns'] - event['begin_ns'])}")


def _say_round(summary: dict[str, Any], faults: int | None) -> None:
    """A fault brings one page from swap. From a file it brings more than it says, so there we do not."""
    returned = "" if faults is None else f", came back {format_size(faults * PAGE)}"
    applied = sum(scheme["applied_bytes"] for scheme in summary["schemes"])
    _say(f"  resident {format_size(summary['rss_before_bytes'])} -> {format_size(summary['rss_after_bytes'])}; "
         f"paged out {format_size(applied)}{returned}; "
         f"cost {summary['cpu_percent']:.2f} % of one CPU")


def _end(office: Workload) -> int:
    """Let the workload read back every byte. Returns how many words are not what they were."""
    _title("Nothing lost?")
    account = office.finish()
    lost_words = int(account["lost_words"])
    _say(f"The program did {account['operations']:,} operations, then read back all its memory: "
         + (f"{lost_words} words are LOST." if lost_words else "every word is what it should be."))
    return lost_words


if __name__ == "__main__":
    sys.exit(main())
