# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse simulate`."""

from __future__ import annotations

import argparse
import json

from pagepulse.cli.options import unit
from pagepulse.errors import UsageError
from pagepulse.model.memory import CHUNK
from pagepulse.simulate.scenario import PATTERNS, Scenario
from pagepulse.simulation import ALGORITHMS, SimulationOptions, SimulationResult, simulate
from pagepulse.units import format_size, parse_share, parse_size, parse_time_ns

_TIB = 1 << 40
_LARGEST = 64 * _TIB
_ABOUT = {"precision": "of what was called hot, the share that is",
          "recall": "of what is hot, the share that was found",
          "wss_error_percent": "of the working set, in the median snapshot",
          "wss_error_after_change_percent": "in the first whole snapshot after the program changed, median",
          "cpu_percent": "of one CPU, our own, at the prices of clears and reads",
          "target_tax_percent": "of one CPU, the target's: flushes, and pages marked young again",
          "busiest_10s_percent": "of one CPU, both together, in the costliest 10 s after the first 10",
          "seconds_to_recall_90": "until 90 % of what is hot was found",
          "regions": "in the last snapshot", "snapshots": "taken"}


class Simulate:
    """Watch a simulated program, whose truth is known, and say how right the monitor was and what it cost.

    The engine is the one that watches real programs; reads, clears and the clock are simulated. With
    --algorithm damon, a model of the kernel's DAMON watches the same program, at the intervals that spend
    the budget; damon-finer is the same with ten times the regions.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """The program, and how to watch it."""
        size, time, defaults = unit(parse_size), unit(parse_time_ns), SimulationOptions()
        parser.add_argument("--size", type=size, metavar="SIZE", default=10 << 30,
                            help="of the program (default: 10GiB)")
        parser.add_argument("--hot", type=size, metavar="SIZE", default=None,
                            help="how much of it is hot (default: a tenth)")
        parser.add_argument("--pattern", choices=tuple(PATTERNS), default="hot", metavar="NAME",
                            help=f"what it does: {', '.join(PATTERNS)} (default: hot, one piece)")
        parser.add_argument("--rate", type=_rate_hz, metavar="HZ", default=100.0,
                            help="touches a second of each hot page (default: 100)")
        parser.add_argument("--seed", type=int, metavar="N", default=0, help="another seed is another run (default: 0)")
        parser.add_argument("--algorithm", choices=ALGORITHMS, default="pagepulse", metavar="NAME",
                            help=f"{', '.join(ALGORITHMS)} (default: pagepulse)")
        parser.add_argument("--budget", type=unit(parse_share), metavar="SHARE", default=defaults.budget,
                            help="share of one CPU that monitoring may cost (default: 1%%)")
        parser.add_argument("--duration", type=time, metavar="TIME", default=defaults.duration_ns,
                            help="simulated time (default: 60s)")
        parser.add_argument("--max-regions", type=int, metavar="N", default=defaults.max_regions,
                            help="(default: 1000)")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def run(self, args: argparse.Namespace) -> int:
        """Simulate, and print what came of it.

        Raises:
            UsageError: There can be no such program, or it cannot be watched so.
        """
        scenario, options = _scenario(args), _options(args)
        result = simulate(scenario, options, args.algorithm)
        if args.json:
            print(json.dumps(_as_json(args, scenario, result), indent=2))
        else:
            _print_text(args.algorithm, scenario, result)
        return 0


def _rate_hz(text: str) -> float:
    try:
        return float(text.removesuffix("Hz"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a rate such as '100' or '100Hz', got {text!r}") from None


def _scenario(args: argparse.Namespace) -> Scenario:
    if args.size > _LARGEST:
        raise UsageError("the simulated program is too large", why=f"at most {format_size(_LARGEST)}",
                         hint="--size 5TiB")
    hot = args.size // 10 // CHUNK * CHUNK if args.hot is None else args.hot
    return Scenario(args.size, hot, args.pattern, args.rate, args.seed)


def _options(args: argparse.Namespace) -> SimulationOptions:
    if not 0 < args.budget <= 1:
        raise UsageError("--budget must be above 0% and at most 100% of one CPU")
    if args.duration < 2_000_000_000:
        raise UsageError("--duration must be at least 2s", why="what is hot is judged over whole seconds")
    if args.max_regions < 10:
        raise UsageError("--max-regions must be at least 10")
    return SimulationOptions(duration_ns=args.duration, budget=args.budget, max_regions=args.max_regions)


def _as_json(args: argparse.Namespace, scenario: Scenario, result: SimulationResult) -> dict[str, object]:
    return {"algorithm": args.algorithm, "pattern": scenario.pattern, "size_bytes": scenario.size_bytes,
            "hot_bytes": scenario.hot_bytes, "rate_hz": scenario.rate_hz, "seed": scenario.seed,
            "budget_percent": round(100 * args.budget, 4), "duration_s": args.duration / 1e9, **result.as_json()}


def _print_text(algorithm: str, scenario: Scenario, result: SimulationResult) -> None:
    print(f"{algorithm} on {format_size(scenario.size_bytes)}, of which {format_size(scenario.hot_bytes)} are hot "
          f"({scenario.pattern}, {scenario.rate_hz:g} touches a second of each page)")
    for name, value in result.as_json().items():
        print(f"  {name:<20} {'none' if value is None else f'{value:g}':>9}  {_ABOUT[name]}")


COMMAND = Simulate()
