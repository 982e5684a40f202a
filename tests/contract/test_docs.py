# SPDX-License-Identifier: GPL-2.0-only
"""What the documents promise: commands that parse, targets that exist, files that are there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pagepulse.cli import VERBS, build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def fenced(text: str) -> list[str]:
    """Lines inside of fenced blocks."""
    return [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            for line in block.splitlines()]


def commands(text: str) -> list[str]:
    """Fenced lines that call pagepulse, without prompt, sudo and comment."""
    lines = (re.sub(r"^\$ ", "", line).removeprefix("sudo ") for line in fenced(text))
    return [line for line in lines if line.startswith("pagepulse ")]


COMMANDS = commands(README)


def test_the_readme_shows_every_verb():
    assert {shlex.split(command)[1] for command in COMMANDS} >= set(VERBS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_in_the_readme_parses(command):
    args = build_parser().parse_args(shlex.split(command, comments=True)[1:])
    assert args.verb in VERBS


@pytest.mark.parametrize("command", [c for c in COMMANDS if "schemes/" in c])
def test_each_scheme_file_that_the_readme_names_is_there(command):
    for word in shlex.split(command):
        if word.startswith("schemes/"):
            assert (ROOT / word).is_file()


def test_make_help_lists_every_target():
    printed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout
    listed = {line.split()[0] for line in printed.splitlines() if line.strip()}
    phony = set(re.findall(r"^\.PHONY: ([\w-]+)$", MAKEFILE, re.MULTILINE))
    assert listed == phony
    assert phony >= {"help", "setup", "demo", "test", "bench", "lint", "types", "format", "clean"}


def test_every_make_word_in_the_readme_is_a_target():
    words = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(fenced(README))))
    assert {"demo", "test"} <= words
    assert words <= set(re.findall(r"^\.PHONY: ([\w-]+)$", MAKEFILE, re.MULTILINE))


def test_ci_runs_a_target_of_the_makefile():
    script = (ROOT / ".ci/run").read_text()
    assert re.search(r"\bmake test\b", script)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "schemes/README.md",
                                      "vagrant/README.md"])
def test_every_link_to_a_file_leads_to_one(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (ROOT / document).parent.joinpath(target).exists(), target


def test_the_pictured_rooms_are_there():
    rooms = re.findall(r"^\| `(\w+)/` \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert rooms
    for room in rooms:
        assert (ROOT / "control/pagepulse" / room).is_dir(), room


def test_files_that_architecture_names_are_there():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in set(re.findall(r"\b((?:\w+/)+\w+(?:\.bpf)?\.(?:py|c|h))\b", text)):
        assert (ROOT / name).exists() or (ROOT / "control/pagepulse" / name).exists(), name
