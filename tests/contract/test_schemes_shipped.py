# SPDX-License-Identifier: GPL-2.0-only
"""What `schemes/` ships is sound, says what it is for, and is what its README says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pagepulse.policy.fields import ACTIONS
from pagepulse.policy.json_schema import schema_text
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.scheme import Scheme, SchemeFile

SCHEMES = Path(__file__).parents[2] / "schemes"
SHIPPED = sorted(path for path in SCHEMES.glob("*.json") if path.name != "scheme.schema.json")
README = (SCHEMES / "README.md").read_text()


def shipped(name: str) -> tuple[Scheme, ...]:
    return parse_schemes((SCHEMES / name).read_bytes(), name)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_is_accepted_and_every_scheme_in_it_has_a_comment(path):
    assert json.loads(path.read_text())["comment"]
    assert all(scheme.comment for scheme in parse_schemes(path.read_bytes(), path.name))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_can_be_written_by_its_owner_alone(path):
    assert not path.stat().st_mode & 0o002


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_names_its_schema_and_stands_in_the_readme(path):
    assert json.loads(path.read_text())["$schema"] == "./scheme.schema.json"
    assert f"| `{path.name}` |" in README


def test_every_shipped_scheme_that_acts_is_limited():
    acting = [scheme for path in SHIPPED for scheme in shipped(path.name) if scheme.acts]
    assert acting
    assert all(scheme.limit_bytes is not None for scheme in acting)


def test_observe_only_observes_only():
    assert {scheme.action for scheme in shipped("observe-only.json")} == {"stat"}


def test_prcl_pages_out_what_was_idle_for_five_seconds():
    prcl, = shipped("prcl.json")
    assert (prcl.action, prcl.access_pattern.age.min_ns) == ("pageout", 5_000_000_000)


def test_the_schema_file_is_current():
    # Mend it: python -m pagepulse.policy.json_schema > schemes/scheme.schema.json
    assert (SCHEMES / "scheme.schema.json").read_text() == schema_text()


def test_the_schema_knows_every_action_and_every_key_as_the_readme_does():
    schema = json.loads(schema_text())
    assert schema["$defs"]["Scheme"]["properties"]["action"]["enum"] == list(ACTIONS)
    keys = {"quotas" if key == "quotas" else key for key in schema["$defs"]["Scheme"]["properties"]}
    assert all(f"`{key}" in README for key in keys)
    assert all(f"| `{action}` |" in README for action in ACTIONS)


def test_the_example_in_the_readme_is_accepted():
    example, = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert parse_schemes(example.encode(), "README.md")
    assert SchemeFile.model_validate(json.loads(example))
