# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse check`."""

from __future__ import annotations

import json

import pytest

from pagepulse.cli import main

GOOD = '{"schemes": [{"name": "count", "action": "stat", "access_pattern": {}}]}'


@pytest.fixture(name="good")
def _good(tmp_path):
    return file_in(tmp_path, "good.json", GOOD)


@pytest.fixture(name="bad")
def _bad(tmp_path):
    return file_in(tmp_path, "bad.json", '{"schemes": [{"name": "x", "action": "pagout", "access_pattern": {}}]}')


def file_in(folder, name, text) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_a_sound_file_is_told_in_sentences(good, capsys):
    assert main(["check", good]) == 0
    assert capsys.readouterr().out == "count: counts memory; changes nothing.\n"


def test_a_refused_file_gives_exit_code_2_and_its_fault(bad, capsys):
    assert main(["check", bad]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"pagepulse: {bad} is refused\n"
                   "  why:  schemes[0].action: expected an action, got 'pagout'; did you mean 'pageout'?\n")


def test_every_file_is_checked_also_after_a_bad_one(tmp_path, bad, good, capsys):
    missing = str(tmp_path / "none.json")
    assert main(["check", bad, missing, good]) == 2
    out, err = capsys.readouterr()
    assert out == "count: counts memory; changes nothing.\n"
    assert "2 of 3 files are refused" in err
    assert "did you mean 'pageout'?" in err
    assert f"{missing} is refused:\n          No such file" in err


def test_json_has_the_schemes_in_canonical_units_and_the_faults_as_a_list(bad, good, capsys):
    assert main(["check", "--json", good, bad]) == 2
    accepted, refused = json.loads(capsys.readouterr().out)["files"]
    assert (accepted["path"], accepted["accepted"]) == (good, True)
    scheme, = accepted["schemes"]
    assert scheme["access_pattern"]["age"] == {"min_ns": 0, "max_ns": None}
    assert scheme["sentence"] == "count: counts memory; changes nothing."
    assert refused == {"path": bad, "accepted": False, "faults": [
        "schemes[0].action: expected an action, got 'pagout'; did you mean 'pageout'?"]}


def test_without_a_file_the_usage_is_wrong(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check"])
    assert caught.value.code == 2
    assert "FILE" in capsys.readouterr().err


def test_a_file_of_damo_is_told_in_sentences_with_notes(tmp_path, capsys):
    pattern = {"sz_bytes": {"min": "0 B", "max": "max"}, "nr_accesses": {"min": "0 %", "max": "0 %"},
               "age": {"min": "5 s", "max": "max"}}
    path = file_in(tmp_path, "damo.json", json.dumps([{"action": "stat", "access_pattern": pattern}]))
    assert main(["check", path]) == 0
    assert capsys.readouterr().out == (
        "stat-0: counts memory in regions that are touched in at most 5% of sampling intervals and whose pattern has "
        "held for 5 s or more; changes nothing.\n"
        "  note: [0].access_pattern.nr_accesses.max: 0 of 20 samples, in DAMON less than 1, is taken as 5%\n")


def test_converted_files_are_one_scheme_file_that_says_the_same(tmp_path, good, capsys):
    other = file_in(tmp_path, "other.json", '[{"action": "stat"}]')
    assert main(["check", "--convert", good, other]) == 0
    converted = file_in(tmp_path, "converted.json", capsys.readouterr().out)
    assert main(["check", converted]) == 0
    told = ["count: counts memory; changes nothing.", "stat-0: counts memory; changes nothing."]
    assert capsys.readouterr().out.splitlines() == told


def test_schemes_of_one_name_do_not_become_one_file(tmp_path, good, capsys):
    other = file_in(tmp_path, "other.json", GOOD)
    assert main(["check", "--convert", good, other]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "expected a name of its own" in err


def test_an_empty_name_is_no_directory(capsys):
    assert main(["check", ""]) == 2
    assert capsys.readouterr().err == (
        "pagepulse: '' is refused\n  why:  expected a file or a directory, got an empty name\n")


def test_a_fault_in_the_current_directory_is_told_with_its_path(tmp_path, monkeypatch, capsys):
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "."]) == 2
    assert capsys.readouterr().err.startswith(f"pagepulse: {tmp_path}/pagepulse.toml is refused\n")
