# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse check`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pagepulse.errors import RefusedFile, UsageError
from pagepulse.policy.explain import sentence
from pagepulse.policy.load import load_document
from pagepulse.policy.parse import Document, parse_schemes, refusal, scheme_text
from pagepulse.service.config import Configuration, in_words, load_configuration, unwritable_recordings

Outcome = Document | Configuration | RefusedFile


class Check:
    """Validate scheme files, of pagepulse or of damo, and say in a sentence what each scheme does.

    A directory is the configuration of a daemon, such as /etc/pagepulse: pagepulse.toml, drop-ins and scheme files.
    Nothing is attached, and no privileges are needed. All files are checked, also after one that is refused.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Files and output."""
        parser.add_argument("files", nargs="+", metavar="FILE",
                            help="scheme files (JSON), or the directory of a daemon's configuration")
        output = parser.add_mutually_exclusive_group()
        output.add_argument("--json", action="store_true", help="print the schemes with all defaults, or the faults")
        output.add_argument("--convert", action="store_true",
                            help="print one scheme file with all the schemes, in pagepulse's language")

    def run(self, args: argparse.Namespace) -> int:
        """Check all files.

        Raises:
            RefusedFile: At least one of them was refused.
        """
        outcomes = {name: _outcome(name) for name in args.files}
        if args.json:
            print(json.dumps({"files": [_as_json(name, outcome) for name, outcome in outcomes.items()]}, indent=2))
        elif not args.convert:
            _print_text(outcomes)
        _raise_refusals([outcome for outcome in outcomes.values() if isinstance(outcome, RefusedFile)], len(outcomes))
        if args.convert:
            if any(isinstance(outcome, Configuration) for outcome in outcomes.values()):
                raise UsageError("--convert takes scheme files", why="a directory was given, too")
            print(_converted([outcome for outcome in outcomes.values() if isinstance(outcome, Document)]), end="")
        return 0


def _outcome(name: str) -> Outcome:
    try:
        return _configuration(Path(name)) if Path(name).is_dir() else load_document(name)
    except RefusedFile as error:
        return error


def _configuration(directory: Path) -> Configuration:
    """As strict as a daemon, where we are root as it is."""
    configuration = load_configuration(directory, frozenset({0}) if os.geteuid() == 0 else None)
    if faults := unwritable_recordings(configuration):
        raise refusal(str(directory), faults)
    return configuration


def _converted(documents: Sequence[Document]) -> str:
    """One file with all schemes, checked as such: names may clash."""
    text = scheme_text([scheme for document in documents for scheme in document.schemes])
    parse_schemes(text.encode(), "the converted file")
    return text


def _as_json(name: str, outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, RefusedFile):
        return {"path": name, "accepted": False, "faults": [line.strip() for line in outcome.why.splitlines()]}
    if isinstance(outcome, Configuration):
        return {"path": name, "accepted": True, "daemon": outcome.daemon.model_dump(), "targets": [
            {"name": plan.name, "selection": in_words(plan), "dry_run": plan.dry_run,
             "schemes": [sentence(scheme) for scheme in plan.schemes]} for plan in outcome.targets]}
    return {"path": name, "accepted": True, "notes": list(outcome.notes), "schemes": [
        {**scheme.model_dump(), "limit_bytes": scheme.limit_bytes, "sentence": sentence(scheme)}
        for scheme in outcome.schemes]}


def _print_text(outcomes: dict[str, Outcome]) -> None:
    for outcome in outcomes.values():
        if isinstance(outcome, Configuration):
            _print_configuration(outcome)
        elif not isinstance(outcome, RefusedFile):
            for scheme in outcome.schemes:
                print(sentence(scheme))
            for note in outcome.notes:
                print(f"  note: {note}")


def _print_configuration(configuration: Configuration) -> None:
    daemon = configuration.daemon
    print(f"listens on {daemon.socket}, for root{f' and the group {daemon.group}' if daemon.group else ' alone'}")
    if daemon.metrics is not None:
        print(f"tells metrics at http://{daemon.metrics}/metrics")
    for plan in configuration.targets:
        print(f"{plan.name}: watches {in_words(plan)}{'; a dry run' if plan.dry_run else ''}")
        for scheme in plan.schemes:
            print(f"  {sentence(scheme)}")
    if not configuration.targets:
        print("watches nothing: there is no [targets.NAME]")


def _raise_refusals(refusals: Sequence[RefusedFile], checked: int) -> None:
    """One error for all refused files: `main` prints it and knows the exit code."""
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise RefusedFile(f"{len(refusals)} of {checked} files are refused",
                          why="\n        ".join(f"{error.what}:\n          {error.why}" for error in refusals))


COMMAND = Check()
