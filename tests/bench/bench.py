# SPDX-License-Identifier: GPL-2.0-only
"""The bench: speed, memory, overhead and accuracy on this machine, each beside its goal. It prints; it asserts nothing.

    python -m bench.bench [--quick] [--pairs N] [--write]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from bench import accuracy, overhead, reader, results
from bench.command import CommandError
from bench.kept import KEPT
from bench.machine import OtherWork, description
from bench.table import Row, as_markdown, as_text, verdict
from pagepulse.errors import PagepulseError
from pagepulse.units import format_share
from workload import ROOT, WorkloadError

NOISE = 0.03
"""Share of the machine from which on other programs disturb what is measured."""


def main() -> int:
    """Measure. The exit status: 0 whether goals are met or not, 1 if a measurement failed, 3 without the privileges."""
    args = _arguments()
    if os.geteuid() != 0:
        print("The bench watches another process's memory: it needs root. Try: sudo make bench", file=sys.stderr)
        return 3
    KEPT.mkdir(parents=True, exist_ok=True)
    print(f"{description()}\n", flush=True)
    others = OtherWork()
    rows: list[Row] = []
    try:
        for part in _parts(args):
            rows += part
            print(as_text(part), flush=True)
    except (CommandError, PagepulseError, WorkloadError) as error:
        print(f"The measurement failed: {error}", file=sys.stderr)
        return 1
    remarks = [verdict(rows), *_noise(others.share())]
    print("\n" + "\n".join(remarks))
    if args.write:
        _write(rows, remarks)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fast look: fewer pairs, shorter recordings")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs for the overhead (default: 20; quick: 3)")
    parser.add_argument("--write", action="store_true", help=f"write {results.RESULTS.relative_to(ROOT)}")
    args = parser.parse_args()
    if args.pairs is None:
        args.pairs = 3 if args.quick else 20
    if args.pairs < 2:
        parser.error("--pairs must be at least 2")
    return args


def _parts(args: argparse.Namespace) -> Iterator[Sequence[Row]]:
    """Rows in the order in which they are measured, as soon as they are there."""
    yield reader.measure(20 if args.quick else 200)
    settle_s, measure_s = (3, 3) if args.quick else (5, 5)
    yield overhead.rows(overhead.measure(overhead.Phases(args.pairs, settle_s, measure_s), KEPT))
    for share in ("10%", "50%"):
        yield [accuracy.pulse_row(share, 8 if args.quick else 20, KEPT)]
    yield [accuracy.stairs_row(KEPT)]
    yield accuracy.hot_rows(10 if args.quick else 20, KEPT)


def _noise(others_share: float) -> list[str]:
    if others_share <= NOISE:
        return []
    share = format_share(others_share)
    return [f"Other programs used {share} of this machine meanwhile: times and throughput are disturbed."]


def _write(rows: Sequence[Row], remarks: Sequence[str]) -> None:
    results.write_section("Speed, memory, overhead and accuracy on workloads of our own",
                          "\n".join([as_markdown(rows), "", *remarks]))


if __name__ == "__main__":
    sys.exit(main())
