# SPDX-License-Identifier: GPL-2.0-only
"""What a package brings beside the program, made from the program's own parser: nothing here can grow old.

    python packaging/generate.py DIRECTORY

writes pagepulse.1 and completions for bash (`pagepulse`), zsh (`_pagepulse`) and fish (`pagepulse.fish`).
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab

import pagepulse
from pagepulse.cli import DESCRIPTION, EXIT_CODES, build_parser

Verbs = dict[str, argparse.ArgumentParser]
_FILES = {"FILE", "FILES", "DIRECTORY", "PATH"}
"""Metavariables that stand for something in the file system."""

SEE_ALSO = "pagepulse.toml(5), process_madvise(2), pidfd_open(2), proc_pid_smaps(5), systemd.service(5), prometheus(1)"
EXAMPLES = (
    ("Watch a process for a minute, and see when its memory is used", (
        "pagepulse record --pid 1234 --duration 60s", "pagepulse report heatmap")),
    ("Record for weeks, and read yesterday", (
        "pagepulse record --pid 1234 -o /var/lib/pagepulse/db.data --rotate-every 1d --keep 14",
        "pagepulse report wss /var/lib/pagepulse --since yesterday --until today")),
    ("Give back what is idle: look first, then do it", (
        "pagepulse run --schemes /usr/share/pagepulse/schemes/prcl.json --dry-run --pid 1234",
        "pagepulse run --schemes /usr/share/pagepulse/schemes/prcl.json --live --pid 1234")),
)


def subparsers_of(parser: argparse.ArgumentParser) -> Verbs:
    """The verbs of a parser, or the kinds of a verb; empty if it has none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Those with a dash, without --help."""
    return [action for action in parser._actions if action.option_strings
            and not isinstance(action, argparse._HelpAction)]


# --- the man page --------------------------------------------------------------------------------------------------

def man_page() -> str:
    """pagepulse.1, in the man macros."""
    parser = build_parser()
    parts = [f'.TH PAGEPULSE 1 "{_date()}" "pagepulse {pagepulse.__version__}" "System administration"',
             ".SH NAME", f"pagepulse \\- {_roff(DESCRIPTION[0].lower() + DESCRIPTION[1:].rstrip('.'))}",
             ".SH SYNOPSIS", ".B pagepulse", r"\fIVERB\fR [\fIOPTION\fR...]",
             ".SH DESCRIPTION", *_paragraphs(DESCRIPTION),
             ".SH OPTIONS", *_options(parser), ".SH VERBS"]
    for verb, command in subparsers_of(parser).items():
        parts += [f'.SS "pagepulse {verb}"', *_usage(command), *_paragraphs(command.description or "")]
        parts += _options(command)
        for kind, inner in subparsers_of(command).items():
            parts += [".PP", f"\\fBpagepulse {verb} {kind}\\fR: {_roff(inner.description or '')}", *_options(inner)]
    parts += [".SH EXAMPLES"]
    for about, lines in EXAMPLES:
        parts += [".TP", _roff(about), *(f"\\fB{_roff(line)}\\fR\n.br" for line in lines)]
    parts += [".SH EXIT STATUS", *_paragraphs(EXIT_CODES.removeprefix("exit codes: ")),
              ".SH FILES", ".TP", r"\fI/etc/pagepulse/pagepulse.toml\fR", "what the daemon watches and does",
              ".TP", r"\fI/usr/share/pagepulse/schemes\fR", "schemes to begin with, and their language (README.md)",
              ".TP", r"\fI/run/pagepulse/pagepulse.sock\fR", "where the daemon answers", ".SH SEE ALSO", SEE_ALSO]
    return "\n".join(parts) + "\n"


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    text = " ".join(parser.format_usage().removeprefix("usage: ").split())
    return [".PP", f"\\fI{_roff(text)}\\fR"]


def _paragraphs(text: str) -> Iterator[str]:
    """Blank lines end paragraphs; what is laid out in columns stays so."""
    for block in re.split(r"\n\s*\n", text.strip()):
        yield ".PP"
        if re.search(r"^\S+ {2,}\S", block, re.MULTILINE):
            yield from (".nf", *map(_roff, block.splitlines()), ".fi")
        else:
            yield _roff(" ".join(block.split()))


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in options_of(parser):
        names = ", ".join(f"\\fB{_roff(name)}\\fR" for name in action.option_strings)
        yield ".TP"
        yield names + ("" if action.nargs == 0 else f" \\fI{_roff(_metavar(action))}\\fR")
        yield _roff(_help(parser, action))


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def _roff(text: str) -> str:
    """Nothing of it is taken for a request or an escape."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def _date() -> str:
    """Of the sources where they say so (reproducible-builds.org), else of today."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch else dt.datetime.now(dt.UTC)
    return f"{day:%Y-%m-%d}"


# --- completions ---------------------------------------------------------------------------------------------------

def _with_files(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same; shtab is told where a file's name belongs."""
    for action in parser._actions:
        if action.metavar in _FILES or action.dest == "argv":
            is_folder = action.metavar == "DIRECTORY"
            action.complete = shtab.DIRECTORY if is_folder else shtab.FILE  # type: ignore[attr-defined]
    for inner in subparsers_of(parser).values():
        _with_files(inner)
    return parser


def shell_completion(shell: str) -> str:
    """For `bash` or `zsh`."""
    return shtab.complete(_with_files(build_parser()), shell)


def fish_completion() -> str:
    """For fish: one command for each word that may come, and when."""
    verbs = subparsers_of(build_parser())
    lines = ["complete -c pagepulse -f", "complete -c pagepulse -n __fish_use_subcommand -l version -d 'its version'"]
    for verb, parser in verbs.items():
        about = (parser.description or "").splitlines()[0]
        lines.append(f"complete -c pagepulse -n __fish_use_subcommand -a {verb} -d {_quoted(about)}")
        here = f"__fish_seen_subcommand_from {verb}"
        kinds = subparsers_of(parser)
        for kind, inner in kinds.items():
            none_yet = f"{here}; and not __fish_seen_subcommand_from {' '.join(kinds)}"
            about = _quoted(inner.description or "")
            lines.append(f"complete -c pagepulse -n {_quoted(none_yet)} -a {kind} -d {about}")
            lines += _fish_options(inner, f"{here}; and __fish_seen_subcommand_from {kind}")
        lines += _fish_options(parser, here)
        if any(action.metavar in _FILES for inner in (parser, *kinds.values()) for action in inner._actions
               if not action.option_strings):
            lines.append(f"complete -c pagepulse -n {_quoted(here)} -F")
    return "\n".join(lines) + "\n"


def _fish_options(parser: argparse.ArgumentParser, condition: str) -> Iterator[str]:
    for action in options_of(parser):
        names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                         for name in action.option_strings)
        takes = "" if action.nargs == 0 else " -r -F" if action.metavar in _FILES else " -x"
        if action.choices is not None:
            takes += f" -a {_quoted(' '.join(map(str, action.choices)))}"
        yield f"complete -c pagepulse -n {_quoted(condition)} {names}{takes} -d {_quoted(_help(parser, action))}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write_all(directory: Path) -> None:
    """All files, into a folder that is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in (("pagepulse.1", man_page()), ("pagepulse", shell_completion("bash")),
                          ("_pagepulse", shell_completion("zsh")), ("pagepulse.fish", fish_completion())):
        (directory / name).write_text(content)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
