# SPDX-License-Identifier: GPL-2.0-only
"""A daemon's status for people: in words, and as the table of `top`. From the JSON that it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pagepulse.report.words import plain, shortened
from pagepulse.units import format_size, format_time_ns

Answer = Mapping[str, Any]

SORTS = {"wss": "working_set_bytes", "rss": "rss_bytes", "idle": "idle", "given": "given_back_bytes",
         "cost": "cpu_percent"}
"""What `top` can sort by -> key of a process."""
KEYS = {"w": "wss", "r": "rss", "i": "idle", "g": "given", "c": "cost"}

_IDLE_S = 10.0
_REASONS = 3


def idle_bytes(entry: Answer, at_least_s: float = _IDLE_S) -> int:
    """Of a process or target: not touched for at least so long."""
    return sum(bracket["size_bytes"] for bracket in entry["idle"] if bracket["at_least_s"] == at_least_s)


def status_text(status: Answer) -> Iterator[str]:
    """The whole status, a few lines for each target."""
    paused = ", paused" if status["paused"] else ""
    yield (f"pagepulse {status['version']}, pid {status['pid']}, up {_time(status['uptime_s'])}{paused}; "
           f"{format_size(status['rss_bytes'])} resident")
    yield (f"cost {status['cpu_percent']:.2f} % of a CPU (budget {status['budget_percent']:g} %), "
           f"the targets {status['tax_percent']:.2f} %")
    reload = status["reload"]
    if reload["error"]:
        yield f"configuration: REFUSED {_time(reload['error_age_s'])} ago: {plain(reload['error'])}"
        yield f"  in force is what was loaded {_time(reload['loaded_age_s'])} ago"
    else:
        yield f"configuration: loaded {_time(reload['loaded_age_s'])} ago"
    if reload.get("needs_restart"):  # a daemon that was started before an upgrade says nothing of it
        yield "  [daemon] has changed: that takes effect when the daemon is started again"
    for target in status["targets"]:
        yield ""
        yield from _target_text(target)


def _target_text(target: Answer) -> Iterator[str]:
    why = f" ({plain(target['why'])})" if target["why"] else ""
    yield f"{target['name']}: {target['state']}{why}; {plain(target['selection'])}"
    refused = f", {len(target['refused'])} refused" if target["refused"] else ""
    yield (f"  {len(target['processes'])} processes{refused}: {format_size(target['rss_bytes'])} resident, "
           f"{format_size(target['working_set_bytes'])} in use, {format_size(idle_bytes(target))} idle for 10 s, "
           f"{format_size(target['swap_bytes'])} swapped")
    not_known = target["unknown_bytes"] + target["unclearable_bytes"]
    if not_known:
        yield (f"  not known: {format_size(target['unknown_bytes'])} never yet seen untouched, "
               f"{format_size(target['unclearable_bytes'])} that the kernel does not clear")
    yield (f"  cost {target['cpu_percent']:.2f} % of a CPU (budget {target['budget_percent']:g} %), its processes "
           f"{target['tax_percent']:.2f} %; {target['snapshots']} snapshots, {target['lost_samples']} samples lost")
    if target["schemes"]:
        yield (f"  given back {format_size(target['given_back_bytes'])}, of that "
               f"{format_size(target['returned_bytes'])} came back{'; dry run' if target['dry_run'] else ''}")
    for scheme in target["schemes"]:
        yield from _scheme_text(scheme)
    for pid, reason in list(target["refused"].items())[:_REASONS]:
        yield f"  process {pid} is not watched: {plain(reason)}"
    if target.get("deaf"):
        yield f"  new processes are looked for now and then: {plain(target['deaf'])}"
    if target["recording"] is not None:
        recording = target["recording"]
        error = f": {plain(recording['error'])}" if recording["error"] else ""
        lost = f", {recording['lost_snapshots']} snapshots lost" if recording["lost_snapshots"] else ""
        yield f"  recording {plain(recording['path'])}, {format_size(recording['size_bytes'])}{lost}{error}"


def _scheme_text(scheme: Answer) -> Iterator[str]:
    refused = f", {scheme['refused_calls']} refused" if scheme["refused_calls"] else ""
    yield (f"  {scheme['name']}: {scheme['action']} tried on {format_size(scheme['tried_bytes'])}, done on "
           f"{format_size(scheme['applied_bytes'])} ({scheme['calls']} calls{refused})")
    if scheme["saved_bytes"]:
        yield f"    left {format_size(scheme['saved_bytes'])} of the same regions, page by page: they are in use"
    if scheme["restored_bytes"]:
        yield f"    made {format_size(scheme['restored_bytes'])} huge again: it had been when it went"
    if scheme["waits_for"]:
        yield f"    waits: {plain(scheme['waits_for'])}"
    for guard in scheme["guards"]:
        if guard["stance"] == "limits":
            yield f"    guard {guard['guard']}: {plain(guard['reason'])}"
    for reason, size in scheme["not_applied_bytes"].items():
        yield f"    no effect on {format_size(size)}: {plain(reason)}"


def top_lines(status: Answer, by: str, width: int, height: int, *, note: str = "") -> Iterator[str]:
    """All processes of all targets, sorted.

    Args:
        status: The daemon's answer.
        by: A key of SORTS.
        width: Of the terminal.
        height: At most so many lines.
        note: Stands in the first line's place for help.
    """
    targets = status["targets"]
    processes = [(target["name"], process) for target in targets for process in target["processes"]]
    sums = [format_size(sum(amounts)) for amounts in zip(*(
        (t["rss_bytes"], t["working_set_bytes"], idle_bytes(t), t["given_back_bytes"]) for t in targets),
        strict=True)] or ["0 B"] * 4
    state = "  PAUSED" if status["paused"] else "  CONFIGURATION REFUSED" if status["reload"]["error"] else ""
    head = [
        (f"pagepulse {status['version']}  up {_time(status['uptime_s'])}  {len(targets)} targets, {len(processes)} "
         f"processes  cost {status['cpu_percent']:.2f} % of {status['budget_percent']:g} %{state}"),
        f"resident {sums[0]}  in use {sums[1]}  idle for 10 s {sums[2]}  given back {sums[3]}",
        *(f"{target['name']}: {target['state']}, {plain(target['why'])}"
          for target in targets if target["state"] != "watching"),
        note,
    ]
    yield from (line[:width] for line in head[:max(height - 1, 1)])
    yield _top_head(by, width)
    ordered = sorted(processes, key=lambda entry: -_value(entry[1], by))
    yield from (_top_line(*entry, width) for entry in ordered[:max(height - len(head) - 1, 0)])


class _Column(NamedTuple):
    title: str
    cell: Callable[[Answer], str]
    sort: str = ""
    """Key of SORTS that it shows."""
    needs: int = 0
    """Width of the terminal below which it is left out."""
    width: int = 10


_COLUMNS = (
    _Column("PID", lambda p: str(p["pid"]), width=8),
    _Column("RESIDENT", lambda p: format_size(p["rss_bytes"]), "rss"),
    _Column("IN USE", lambda p: format_size(p["working_set_bytes"]), "wss"),
    _Column("IDLE 10s", lambda p: format_size(idle_bytes(p)), "idle"),
    _Column("SWAP", lambda p: format_size(p["swap_bytes"]), needs=110),
    _Column("GIVEN", lambda p: format_size(p["given_back_bytes"]), "given"),
    _Column("RETURNED", lambda p: format_size(p["returned_bytes"]), needs=100),
    _Column("COST %", lambda p: f"{p['cpu_percent'] + p['tax_percent']:.2f}", "cost", width=8),
    _Column("SEEN", lambda p: _time(p["snapshot_age_s"]), needs=90, width=9),
)


def _top_head(by: str, width: int) -> str:
    titles = "".join(f"{one.title + ('*' if one.sort == by else ''):>{one.width}}"
                     for one in _COLUMNS if one.needs <= width)
    return f"{titles}  TARGET/NAME"[:width]


def _top_line(target: str, process: Answer, width: int) -> str:
    cells = "".join(f"{one.cell(process):>{one.width}}" for one in _COLUMNS if one.needs <= width) + "  "
    return cells[:width] + shortened(f"{target}/{plain(process['name'])}", max(width - len(cells), 0))


def _value(process: Answer, by: str) -> float:
    value: float = idle_bytes(process) if by == "idle" else process[SORTS[by]]
    return value


def _time(time_s: float) -> str:
    return format_time_ns(round(time_s * 1e9)) if time_s < 60 else format_time_ns(round(time_s) * 1_000_000_000)


def snapshots_text(snapshots: Sequence[Answer]) -> Iterator[str]:
    """A line for each process."""
    yield f"{'PID':>8}{'RESIDENT':>10}{'IN USE':>10}{'WITHIN':>9}{'SEEN':>9}  TARGET"
    for snapshot in snapshots:
        yield (f"{snapshot['pid']:>8}{format_size(snapshot['rss_bytes']):>10}"
               f"{format_size(snapshot['working_set_bytes']):>10}{_time(snapshot['interval_s']):>9}"
               f"{_time(snapshot['age_s']):>9}  {snapshot['target']}")


def regions_lines(snapshot: Answer, width: int) -> Iterator[str]:
    """The regions of one process, as it was last seen."""
    yield f"{'ADDRESS':>14}{'RESIDENT':>10}{'IN USE':>10}{'RATE/s':>9}{'AGE':>11}  MAPPING"
    for region in snapshot["regions"]:
        rate = "?" if region["rate_hz"] is None else f"{region['rate_hz']:.3g}"
        yield (f"{region['start']:>14x}{format_size(region['present_bytes']):>10}"
               f"{format_size(region['touched_bytes']):>10}{rate:>9}{_time(region['age_us'] / 1e6):>11}  "
               f"{shortened(region['mapping'], max(width - 56, 8))}")
