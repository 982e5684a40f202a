# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse check`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from pagepulse.errors import RefusedFile
from pagepulse.policy.explain import sentence
from pagepulse.policy.load import load_document
from pagepulse.policy.parse import Document, parse_schemes, scheme_text

Outcome = Document | RefusedFile


class Check:
    """Validate scheme files, of pagepulse or of damo, and say in a sentence what each scheme does.

    Nothing is attached, and no privileges are needed. All files are checked, also after one that is refused.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Files and output."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="scheme files (JSON)")
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
            print(_converted([outcome for outcome in outcomes.values() if isinstance(outcome, Document)]), end="")
        return 0


def _outcome(name: str) -> Outcome:
    try:
        return load_document(name)
    except RefusedFile as error:
        return error


def _converted(documents: Sequence[Document]) -> str:
    """One file with all schemes, checked as such: names may clash."""
    text = scheme_text([scheme for document in documents for scheme in document.schemes])
    parse_schemes(text.encode(), "the converted file")
    return text


def _as_json(name: str, outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, RefusedFile):
        return {"path": name, "accepted": False, "faults": [line.strip() for line in outcome.why.splitlines()]}
    return {"path": name, "accepted": True, "notes": list(outcome.notes), "schemes": [
        {**scheme.model_dump(), "limit_bytes": scheme.limit_bytes, "sentence": sentence(scheme)}
        for scheme in outcome.schemes]}


def _print_text(outcomes: dict[str, Outcome]) -> None:
    for outcome in outcomes.values():
        if not isinstance(outcome, RefusedFile):
            for scheme in outcome.schemes:
                print(sentence(scheme))
            for note in outcome.notes:
                print(f"  note: {note}")


def _raise_refusals(refusals: Sequence[RefusedFile], checked: int) -> None:
    """One error for all refused files: `main` prints it and knows the exit code."""
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise RefusedFile(f"{len(refusals)} of {checked} files are refused",
                          why="\n        ".join(f"{error.what}:\n          {error.why}" for error in refusals))


COMMAND = Check()
