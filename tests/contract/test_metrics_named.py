# SPDX-License-Identifier: GPL-2.0-only
"""What rules, alerts and dashboard ask for is what the daemon tells: a series that does not exist alerts nobody."""

import json
import re
from pathlib import Path

import pytest

from pagepulse.service.metrics import StatusCollector
from unit.service.test_metrics import SCHEME
from unit.service.test_status import process, status, target

PACKAGING = Path(__file__).parents[2] / "packaging"
FILES = sorted([*PACKAGING.glob("prometheus/*.yml"), *PACKAGING.glob("grafana/*.json")])
_NAME = re.compile(r"(?<![:\w])pagepulse_\w+(?=[\s{\[)}]|$)", re.MULTILINE)
_RECORDED = re.compile(r"record: (\S+)")
_RULE = re.compile(r"\b(?:instance|fleet):pagepulse_\w+:\w+")


def told() -> dict[str, set[str]]:
    """Series -> their labels."""
    everything = status(target(process(1), schemes=(SCHEME,)))
    names: dict[str, set[str]] = {}
    for family in StatusCollector(lambda: everything).collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels}
        names[family.name + suffix] = labels
    return names


def test_there_are_such_files():
    assert [path.suffix for path in FILES] == [".json", ".yml", ".yml", ".yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_series_that_are_asked_for_exist(path):
    asked = set(_NAME.findall(path.read_text()))
    assert len(asked) >= 5
    assert asked <= told().keys(), "the daemon does not tell this"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_rules_that_are_asked_for_are_recorded(path):
    recorded = set(_RECORDED.findall((PACKAGING / "prometheus" / "pagepulse.recording.yml").read_text()))
    assert set(_RULE.findall(path.read_text())) <= recorded


def test_names_follow_the_conventions():
    for name in told():
        assert re.fullmatch(r"pagepulse_[a-z0-9_]+", name)
        assert not re.search(r"_(ms|us|ns|mib|kb|percent)(_|$)", name), "seconds, bytes and ratios"


def test_the_dashboard_fits_its_grid():
    board = json.loads((PACKAGING / "grafana" / "pagepulse.json").read_text())
    cells = [(x, y) for panel in board["panels"]
             for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
             for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["description"]
