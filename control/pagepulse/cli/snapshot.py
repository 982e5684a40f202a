# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse snapshot`: what a daemon last saw of processes."""

from __future__ import annotations

import argparse
import json
import shutil

from pagepulse.cli.asking import add_socket
from pagepulse.report.daemon import regions_lines, snapshots_text
from pagepulse.service.client import ask


class SnapshotVerb:
    """Show what a daemon last saw: a line for each process, or with --pid the regions of one.

    Nothing is read for it: it is the newest snapshot, and says how old it is.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Whom to ask, and of whom."""
        add_socket(parser)
        parser.add_argument("--target", metavar="NAME", help="only this target of the configuration")
        parser.add_argument("--pid", type=int, help="the regions of this process")

    def run(self, args: argparse.Namespace) -> int:
        """Ask and print."""
        answer = ask(args.socket, "snapshot", target=args.target, pid=args.pid)
        if args.json:
            print(json.dumps(answer))
        elif args.pid is None:
            print("\n".join(snapshots_text(answer["snapshots"])))
        else:
            width = shutil.get_terminal_size().columns
            print("\n".join(line for one in answer["snapshots"] for line in regions_lines(one, width)))
        return 0


COMMAND = SnapshotVerb()
