# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse report`: recordings as tables, heatmaps, pictures and JSON."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pagepulse.capture import Recordings, TimeRange, When
from pagepulse.cli.times import EXPECTED, when
from pagepulse.errors import PagepulseError, UsageError
from pagepulse.model.clearing import COLD, REFS
from pagepulse.model.snapshot import Snapshot
from pagepulse.report.folding import fold
from pagepulse.report.heat import Heat, heat
from pagepulse.report.overview import Overview, overview
from pagepulse.report.words import CLEARED_TOGETHER, wrapped

PICTURE_SUFFIXES = (".png", ".svg", ".html")
_PICTURE_CELLS, _PICTURE_ROWS = 480, 800
_PAGE_CELLS, _PAGE_ROWS = 240, 400
_TEXT_LINES = 24


class Report:
    """Show what a recording says.

    regions   every region of every snapshot (--last: of the newest): address, size, accesses, age, mapping
    heatmap   how much of the memory was touched, by address and time; -o FILE.png, FILE.svg or FILE.html for a picture
    wss       working set: percentiles of the memory that is touched within an aggregation interval
    idle      how much memory has not been touched for how long
    schemes   what schemes came to, why they waited, and what their guards said (of `pagepulse run --record`)

    Several files, or the parts of one recording that was rotated, are read as one; also while they are written.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """One subcommand for each kind of report."""
        kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
        added = {kind: kinds.add_parser(kind, help=text, description=text.capitalize()) for kind, text in (
            ("regions", "a table of regions"), ("heatmap", "memory touched, by address and time"),
            ("wss", "percentiles of the working set"), ("idle", "memory not touched for how long"),
            ("schemes", "what schemes were up to"))}
        for subparser in added.values():
            subparser.add_argument("files", metavar="FILE", nargs="*", type=Path, default=[Path("pagepulse.data")],
                                   help="recordings; a folder stands for all in it (default: pagepulse.data)")
            for option, text in (("--since", "nothing from before then"), ("--until", "nothing from after then")):
                subparser.add_argument(option, type=when, metavar="TIME", default=When(), help=f"{text}: {EXPECTED}")
            subparser.add_argument("--pid", type=int, help="this process alone, of a recording with several")
            subparser.add_argument("--json", action="store_true", help="print JSON, with units in the keys")
        added["regions"].add_argument("--last", action="store_true", help="the newest snapshot alone")
        picture = added["heatmap"]
        picture.add_argument("-o", "--output", metavar="FILE", type=Path,
                             help="write a picture (.png, .svg) or a page with everything in it (.html)")
        picture.add_argument("--width", type=_at_least(20), metavar="COLUMNS", help="(default: the terminal's)")
        picture.add_argument("--height", type=_at_least(1), metavar="LINES",
                             help=f"lines for addresses (default: {_TEXT_LINES})")

    def run(self, args: argparse.Namespace) -> int:
        """Open the recording, say what is missing of it, print the report."""
        if args.kind == "heatmap":
            _check_output(args)
        with Recordings.open(args.files, TimeRange(args.since, args.until)) as recording:
            for complaint in recording.complaints:
                print(f"pagepulse: {complaint}", file=sys.stderr)
            recording.require_snapshots()
            args.pids = recording.pids()
            if args.pid is not None and args.pid not in args.pids:
                raise UsageError(f"{recording.path} holds no process {args.pid}", hint=f"it holds {_some(args.pids)}")
            _REPORTS[args.kind](recording, args)
        return 0


def _at_least(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a number of at least {least}, got {text!r}")
        return int(text)
    return convert


def _check_output(args: argparse.Namespace) -> None:
    """Refuse a picture that cannot be written before an hour of snapshots is read."""
    if args.output is None:
        return
    if args.output.suffix not in PICTURE_SUFFIXES:
        raise UsageError(f"cannot tell what kind of picture {args.output} shall be",
                         why=f"accepted are {', '.join(PICTURE_SUFFIXES)}")
    if args.json:
        raise UsageError("--json and -o contradict each other", hint="give one of them")


def _some(pids: list[int]) -> str:
    more = f" and {len(pids) - 8} more" if len(pids) > 8 else ""
    return ", ".join(map(str, pids[:8])) + more


def _summed(recording: Recordings, args: argparse.Namespace) -> Iterator[Snapshot]:
    """Snapshots of the process, or sums over all where there are several."""
    if len(args.pids) == 1 or args.pid is not None:
        return recording.snapshots(args.pid)
    from pagepulse.report.together import LONGEST_PAUSE_NS, together  # noqa: PLC0415
    events = recording.events()
    return together(recording.snapshots(lead_ns=LONGEST_PAUSE_NS),
                    [(event.at_ns, int(event.data["pid"])) for event in events if event.kind == "ended"],
                    [(event.at_ns, int(event.data["rss_bytes"])) for event in events if event.kind == "backlog"],
                    recording.since_ns)


def _clearing(recording: Recordings) -> dict[str, Any]:
    """How accessed bits were cleared: for JSON."""
    options = recording.header.get("options")
    if isinstance(options, dict) and options.get("clear") == REFS:
        return {"clearing": {"how": REFS, "what": "all"}}
    switches = [event.data for event in recording.events() if event.kind == "clear"]
    return {"clearing": {"how": REFS, "what": "memory with a file"} if switches else {"how": COLD}}


def _print_clearing(recording: Recordings) -> None:
    """Under a text: what limits all of its numbers, if anything does."""
    clearing = _clearing(recording)["clearing"]
    if clearing["how"] == REFS:
        _print(wrapped([f"{clearing['what']} was {CLEARED_TOGETHER}"], _terminal_width()))


def _regions(recording: Recordings, args: argparse.Namespace) -> None:
    from pagepulse.report.regions import regions_json, regions_text  # noqa: PLC0415 each report loads its own
    origin_ns = next(recording.snapshots()).start_ns
    snapshots: Iterable[Snapshot] = [recording.last(args.pid)] if args.last else recording.snapshots(args.pid)
    if args.json:
        sys.stdout.writelines(regions_json(snapshots))
    else:
        _print(regions_text(snapshots, origin_ns, _terminal_width()))
        _print_clearing(recording)


def _wss(recording: Recordings, args: argparse.Namespace) -> None:
    from pagepulse.report.totals import wss_json, wss_text  # noqa: PLC0415
    summed = overview(_summed(recording, args))
    if args.json:
        _print_json(wss_json(summed) | _clearing(recording))
    else:
        _print(wss_text(summed, _terminal_width()))
        _print_clearing(recording)


def _idle(recording: Recordings, args: argparse.Namespace) -> None:
    from pagepulse.report.totals import idle_json, idle_text  # noqa: PLC0415
    is_sum = len(args.pids) > 1 and args.pid is None
    newest = deque(_summed(recording, args), maxlen=1)[0] if is_sum else recording.last(args.pid)
    if args.json:
        _print_json(idle_json(newest) | _clearing(recording))
    else:
        watched_ns = newest.end_ns - next(recording.snapshots(args.pid)).start_ns
        _print(idle_text(newest, watched_ns, _terminal_width()))
        _print_clearing(recording)


def _schemes(recording: Recordings, args: argparse.Namespace) -> None:
    from pagepulse.report.scheme_states import states_json, states_text  # noqa: PLC0415
    states = [(event.at_ns, event.data) for event in recording.events()
              if event.kind == "scheme" and event.at_ns >= recording.since_ns]
    if not states:
        raise PagepulseError(f"{recording.path} tells of no scheme",
                             hint="`pagepulse run --record FILE` makes a recording that does")
    origin_ns = next(recording.snapshots()).start_ns
    if args.json:
        _print_json({"states": states_json(states, origin_ns)})
    else:
        _print(states_text(states, origin_ns))


def _heatmap(recording: Recordings, args: argparse.Namespace) -> None:
    if len(args.pids) > 1 and args.pid is None:
        raise UsageError(f"{recording.path} holds {len(args.pids)} processes, each with addresses of its own",
                         hint=f"draw one of them: --pid with one of {_some(args.pids)}")
    summed = overview(recording.snapshots(args.pid))
    if args.output is not None:
        _write_picture(recording, summed, args.output)
    elif args.json:
        from pagepulse.report.heat_json import heat_json  # noqa: PLC0415
        width, height = args.width or _PAGE_ROWS, args.height or _PAGE_CELLS
        _print_json(heat_json(_heat(recording, summed, cells=height, rows=min(width, summed.snapshots))))
    else:
        _print_heat(recording, summed, args)


def _heat(recording: Recordings, summed: Overview, *, cells: int, rows: int, min_cells: int = 1,
          max_groups: int | None = None) -> Heat:
    folding = fold(summed.spans, cells, min_cells=min_cells, max_groups=max_groups)
    return heat(recording.snapshots(summed.last.pid), folding, rows, summed.start_ns, summed.end_ns,
                summed.aggregation_ns)


def _print_heat(recording: Recordings, summed: Overview, args: argparse.Namespace) -> None:
    from rich.console import Console  # noqa: PLC0415 loading it takes longer than most reports

    from pagepulse.report.heat_text import heat_text, time_columns  # noqa: PLC0415
    from pagepulse.report.totals import costs_text  # noqa: PLC0415
    width, lines = args.width or _terminal_width(), args.height or _TEXT_LINES
    drawn = _heat(recording, summed, cells=lines, rows=time_columns(width), max_groups=max(lines // 2, 1))
    console = Console(width=width, highlight=False, markup=False, soft_wrap=True)
    for line in heat_text(drawn, width):
        console.print(line)
    for words in wrapped(costs_text(summed), width):
        console.print(words)
    _print_clearing(recording)


def _write_picture(recording: Recordings, summed: Overview, path: Path) -> None:
    title = _title(recording.header, summed)
    if path.suffix == ".html":
        from pagepulse.report.page import page  # noqa: PLC0415
        drawn = _heat(recording, summed, cells=_PAGE_CELLS, rows=min(_PAGE_ROWS, summed.snapshots), min_cells=8,
                      max_groups=20)
        content = page(drawn, summed, title).encode("utf-8", "replace")
    else:
        from pagepulse.report.picture import picture  # noqa: PLC0415 matplotlib takes a second to load
        drawn = _heat(recording, summed, cells=_PICTURE_CELLS, rows=min(_PICTURE_ROWS, summed.snapshots),
                      min_cells=14, max_groups=24)
        content = picture(drawn, title, path.suffix[1:])
    try:
        path.write_bytes(content)
    except OSError as error:
        raise PagepulseError(f"cannot write {path}", why=error.strerror or str(error)) from None


def _title(header: dict[str, Any], summed: Overview) -> str:
    """`workload --hot 128M, pid 4242`."""
    command = header.get("command")
    if isinstance(command, list):
        command = shlex.join(str(word) for word in command)
    return f"{command}, pid {summed.last.pid}" if command else f"pid {summed.last.pid}"


def _terminal_width() -> int:
    return max(shutil.get_terminal_size((80, 24)).columns, 20)


def _print(lines: Iterator[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value))


_REPORTS: dict[str, Callable[[Recordings, argparse.Namespace], None]] = {
    "regions": _regions, "heatmap": _heatmap, "wss": _wss, "idle": _idle,
    "schemes": _schemes}

COMMAND = Report()
