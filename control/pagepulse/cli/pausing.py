# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse pause` and `resume`: a wish, and to wait until it came true."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, ClassVar

from pagepulse.cli.asking import add_socket
from pagepulse.errors import PagepulseError
from pagepulse.service.client import ask

_PATIENCE_S, _ASK_AGAIN_S = 10.0, 0.02


class Pausing:
    """One of the two verbs."""

    verb: ClassVar[str]

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Whom to ask, and which targets."""
        add_socket(parser)
        parser.add_argument("targets", nargs="*", metavar="TARGET", help="targets of the configuration (default: all)")

    def run(self, args: argparse.Namespace) -> int:
        """Ask, and wait until it is so."""
        answer = ask(args.socket, self.verb, targets=args.targets or None)
        end_s = time.monotonic() + _PATIENCE_S
        while not self._is_so(answer, ask(args.socket, "status")):
            if time.monotonic() > end_s:
                raise PagepulseError("the daemon has not done so yet", why="it is busy with something long",
                                     hint="`pagepulse status` shows when it has")
            time.sleep(_ASK_AGAIN_S)
        print(json.dumps(answer) if args.json else f"{', '.join(answer['targets']) or 'no target'}: {self.verb}d")
        return 0

    def _is_so(self, answer: dict[str, Any], status: dict[str, Any]) -> bool:
        return all((target["state"] == "paused") == answer["paused"]
                   for target in status["targets"] if target["name"] in answer["targets"])
