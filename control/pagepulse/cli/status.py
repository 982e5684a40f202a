# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse status`: how a daemon is."""

from __future__ import annotations

import argparse
import json

from pagepulse.cli.asking import add_socket
from pagepulse.report.daemon import status_text
from pagepulse.service.client import ask


class StatusVerb:
    """Say how a daemon is: its targets, what schemes did, what it costs, and whether its configuration is in force.

    Root and the members of the daemon's group may ask.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Whom to ask."""
        add_socket(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Ask and print."""
        status = ask(args.socket, "status")
        print(json.dumps(status) if args.json else "\n".join(status_text(status)))
        return 0


COMMAND = StatusVerb()
