# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse simulate`: its numbers as JSON and as text, and what it refuses."""

from __future__ import annotations

import json

import pytest

from pagepulse.cli import main

QUICK = ["simulate", "--size", "256MiB", "--hot", "32MiB", "--duration", "5s"]


def test_json_has_the_promised_keys(capsys):
    assert main([*QUICK, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() >= {"precision", "recall", "wss_error_percent", "cpu_percent", "target_tax_percent",
                              "seconds_to_recall_90", "regions"}
    assert (printed["size_bytes"], printed["hot_bytes"], printed["budget_percent"]) == (256 << 20, 32 << 20, 1.0)
    assert printed["recall"] > 0.9


def test_a_tenth_is_hot_unless_it_is_said(capsys):
    assert main(["simulate", "--size", "1GiB", "--duration", "2s", "--algorithm", "damon", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hot_bytes"] == 102 << 20


def test_text_says_what_each_number_is(capsys):
    assert main([*QUICK, "--algorithm", "damon"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("damon on 256 MiB, of which 32 MiB are hot (hot, 100 touches")
    assert any(line.split()[0] == "recall" and "found" in line for line in lines[1:])


@pytest.mark.parametrize("wrong", [
    ["--budget", "0%"], ["--duration", "1s"], ["--max-regions", "3"], ["--size", "100TiB"], ["--hot", "1GiB"],
    ["--hot", "5K"], ["--rate", "1"]])
def test_what_cannot_be_is_wrong_usage(wrong, capsys):
    assert main([*QUICK, *wrong]) == 2
    assert capsys.readouterr().err.startswith("pagepulse: ")


@pytest.mark.parametrize("wrong", [["--pattern", "none"], ["--algorithm", "none"], ["--rate", "often"],
                                   ["--size", "1PB5"]])
def test_what_argparse_refuses_is_wrong_usage(wrong, capsys):
    try:
        status = main([*QUICK, *wrong])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
