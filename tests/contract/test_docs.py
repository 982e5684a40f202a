# SPDX-License-Identifier: GPL-2.0-only
"""What the documents tell users to type works: README's commands parse, `make help` lists every word."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pagepulse.cli import VERBS, build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [line.removeprefix("$ ").removeprefix("sudo ") for block in re.findall(r"```\n(.*?)```", README, re.DOTALL)
            for line in block.splitlines() if re.match(r"(\$ )?(sudo )?pagepulse ", line)]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_shows_commands_that_parse(command):
    args = build_parser().parse_args(shlex.split(command)[1:])

    assert args.verb in VERBS


def test_the_readme_shows_every_verb():
    assert {shlex.split(command)[1] for command in COMMANDS} == set(VERBS)


def test_files_that_the_readme_points_to_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    assert all((ROOT / link).exists() for link in links)


def test_make_help_lists_every_word():
    makefile = (ROOT / "Makefile").read_text()
    words = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    shown = subprocess.run(["make", "-C", ROOT, "--no-print-directory", "help"], check=True, capture_output=True,
                           text=True).stdout

    assert {"help", "setup", "demo", "test", "bench", "lint", "types", "format", "clean"} <= words
    assert words == set(re.findall(r"^  (\S+)", shown, re.MULTILINE))


def test_ci_runs_what_the_readme_says():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in README
