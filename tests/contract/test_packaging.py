# SPDX-License-Identifier: GPL-2.0-only
"""What a package brings beside the program: made from the parser, and complete."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
from pathlib import Path

import pytest

from pagepulse.cli import VERBS, build_parser
from pagepulse.service.config import DaemonSettings, TargetSettings

PACKAGING = Path(__file__).parents[2] / "packaging"


@pytest.fixture(name="generate", scope="module")
def _generate():
    specification = importlib.util.spec_from_file_location("generate", PACKAGING / "generate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(name="generated", scope="module")
def _generated(generate, tmp_path_factory):
    directory = tmp_path_factory.mktemp("generated")
    generate.write_all(directory)
    return directory


def options():
    """Every long option of every verb and kind."""
    pending = [build_parser()]
    while pending:
        for action in pending.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                pending += action.choices.values()
            else:
                yield from (name for name in action.option_strings if name.startswith("--"))


def test_the_man_page_tells_every_verb_and_every_option(generated):
    page = (generated / "pagepulse.1").read_text()
    for verb in VERBS:
        assert f'.SS "pagepulse {verb}"' in page
    for option in options():
        if option != "--help":
            assert option.replace("-", r"\-") in page


@pytest.mark.parametrize("name", ["pagepulse", "_pagepulse", "pagepulse.fish"])
def test_completions_know_every_verb_and_option(generated, name):
    text = (generated / name).read_text()
    for option in {*options()} - {"--help"}:
        assert (option if name != "pagepulse.fish" else f"-l {option[2:]}") in text
    for verb in VERBS:
        assert verb in text


@pytest.mark.parametrize(("words", "expected"), [
    (["pagepulse", "rec"], {"record"}), (["pagepulse", "report", "w"], {"wss"}),
    (["pagepulse", "record", "--rot"], {"--rotate-size", "--rotate-every"}),
    (["pagepulse", "record", "--clear", ""], {"cold", "refs", "auto"}),
])
def test_bash_completes(generated, words, expected):
    line = " ".join(f"'{word}'" for word in words)
    script = (f". {generated / 'pagepulse'}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
              f"_shtab_pagepulse pagepulse '{words[-1]}' '{words[-2]}'; echo ${{COMPREPLY[@]}}")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_every_key_of_the_configuration_has_its_place_in_the_man_page_and_in_the_packaged_file():
    page = (PACKAGING / "man/pagepulse.toml.5").read_text()
    example = (PACKAGING / "pagepulse.toml").read_text()
    for model in (DaemonSettings, TargetSettings):
        for name, about in model.model_fields.items():
            key = about.alias or name
            assert rf"\fB{key}\fR" in page, key
            if key not in {"sample", "aggregate", "max_regions"}:
                assert key in example, key


def test_the_packages_need_what_the_program_needs():
    """The names of Debian's packages are those of PyPI's, after python3-."""
    text = (PACKAGING / "build-deb").read_text()
    needed = (PACKAGING.parent / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("]")[0]
    for line in needed.strip().splitlines():
        name, least = line.strip().split('"')[1].split(">=")
        assert f"python3-{name} (>= " in text
        assert least in text.partition(f"python3-{name} (>= ")[2].partition(")")[0]
        assert name in text.partition("libraries=(")[2].partition(")")[0]
