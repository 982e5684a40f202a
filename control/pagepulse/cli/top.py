# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse top`: all processes that a daemon watches, live."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time

from pagepulse.cli.asking import add_socket
from pagepulse.cli.options import unit
from pagepulse.kernel.terminal import Keys
from pagepulse.report.daemon import KEYS, SORTS, top_lines
from pagepulse.service.client import ask
from pagepulse.units import parse_time_ns

_HELP = "sort: w in use, r resident, i idle, g given back, c cost; p pause, q quit"


class Top:
    """Show all processes that a daemon watches, sorted, as top(1) does.

    w, r, i, g and c sort by memory in use, resident, idle or given back, and by cost; p stops the picture, q ends.
    Where standard output is no terminal, one table is printed.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Whom to ask, and how to show it."""
        add_socket(parser)
        parser.add_argument("--sort", choices=SORTS, default="rss", help="what to sort by (default: rss)")
        parser.add_argument("--delay", type=unit(parse_time_ns), metavar="TIME", default=1_000_000_000,
                            help="how often to ask (default: 1s)")

    def run(self, args: argparse.Namespace) -> int:
        """Show until q, or once."""
        if args.json:
            print(json.dumps(ask(args.socket, "status")))
        elif sys.stdout.isatty():
            _live(args)
        else:
            width = shutil.get_terminal_size((120, 24)).columns
            print("\n".join(line.rstrip() for line in top_lines(ask(args.socket, "status"), args.sort, width, 1 << 20)))
        return 0


def _live(args: argparse.Namespace) -> None:
    status, by, is_stopped = ask(args.socket, "status"), args.sort, False
    due_s = time.monotonic() + args.delay / 1e9
    with Keys() as keys:
        sys.stdout.write("\033[?1049h\033[?25l")  # the other screen, and no cursor
        try:
            while True:
                _draw(status, by, is_stopped=is_stopped)
                pressed = keys.wait(max(due_s - time.monotonic(), 0))
                if "q" in pressed or "\x03" in pressed:
                    return
                by = next((KEYS[key] for key in reversed(pressed) if key in KEYS), by)
                is_stopped ^= pressed.count("p") % 2 == 1
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + args.delay / 1e9
                    status = status if is_stopped else ask(args.socket, "status")
        except KeyboardInterrupt:
            return
        finally:
            sys.stdout.write("\033[?25h\033[?1049l")
            sys.stdout.flush()


def _draw(status: dict[str, object], by: str, *, is_stopped: bool) -> None:
    width, height = shutil.get_terminal_size()
    note = f"{_HELP}{'  STOPPED' if is_stopped else ''}"
    lines = list(top_lines(status, by, width, height - 1, note=note))
    sys.stdout.write("\033[H" + "".join(f"{line}\033[K\n" for line in lines) + "\033[J")
    sys.stdout.flush()


COMMAND = Top()
