# SPDX-License-Identifier: GPL-2.0-only
"""What the verbs that ask a daemon have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from pagepulse.service.places import SOCKET


def add_socket(parser: argparse.ArgumentParser) -> None:
    """`--socket` and `--json`."""
    parser.add_argument("--socket", type=Path, metavar="PATH", default=SOCKET,
                        help=f"where the daemon listens (default: {SOCKET})")
    parser.add_argument("--json", action="store_true", help="print the daemon's answer as JSON")
