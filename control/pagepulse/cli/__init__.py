# SPDX-License-Identifier: GPL-2.0-only
"""The `pagepulse` command: one module for each verb, loaded when it is named."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from typing import Protocol

import pagepulse
from pagepulse.errors import PagepulseError

VERBS = ("doctor", "monitor", "record", "report", "run", "check", "simulate", "serve", "status", "top", "snapshot",
         "pause", "resume")

DESCRIPTION = "Tells which memory a running Linux program really uses, and gives back what it does not."
EXIT_CODES = """\
exit codes: 0 fine; 1 the work failed; 2 wrong usage or a refused file; 3 this kernel or these privileges cannot do it
(and -- COMMAND: its own exit status)"""


class Command(Protocol):
    """A verb. The docstring of the implementing class is its help."""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""


def build_parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """The parser with these verbs; all of them, unless only one is going to run."""
    parser = argparse.ArgumentParser(prog="pagepulse", description=DESCRIPTION, epilog=EXIT_CODES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"pagepulse {pagepulse.__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in verbs:
        command: Command = importlib.import_module(f"pagepulse.cli.{verb}").COMMAND
        help_text = inspect.cleandoc(command.__doc__ or "")
        subparser = subparsers.add_parser(verb, help=help_text.splitlines()[0].rstrip(".").lower(),
                                          description=help_text, epilog=EXIT_CODES,
                                          formatter_class=argparse.RawDescriptionHelpFormatter)
        command.prepare_parser(subparser)
        subparser.set_defaults(command=command)
    return parser


def _open_missing_streams() -> None:
    """Closed standard streams (`>&-`) become /dev/null, before a file of ours can take their number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _joined(argv: Sequence[str]) -> list[str]:
    """`--since -1h` as `--since=-1h`: argparse takes what begins with a dash for an option."""
    joined: list[str] = []
    for place, word in enumerate(argv):
        follows = joined and joined[-1] in {"--since", "--until"} and "--" not in argv[:place]
        if follows and re.match(r"-\d", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. The only place where errors are caught and printed."""
    argv = _joined(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy brings a thread for each CPU, and we never use them
    _open_missing_streams()
    try:
        args = build_parser(argv[:1] if argv and argv[0] in VERBS else VERBS).parse_args(argv)
        status: int = args.command.run(args)
        sys.stdout.flush()
    except PagepulseError as error:
        print(f"pagepulse: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:  # stdout on a full disk, for instance: other calls have words of their own
        print(f"pagepulse: the system refused a call\n  why:  {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered must not fail once more at the end
        return 1
    except KeyboardInterrupt:
        return 130
    return status
