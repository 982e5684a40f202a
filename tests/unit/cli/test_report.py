# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse report` from the command line: exit codes, what goes to which stream, what is written."""

from __future__ import annotations

import json
import os

import pytest

from builders import series
from pagepulse.capture import Recorder
from pagepulse.cli import main


@pytest.fixture(name="recording")
def _recording(tmp_path):
    path = tmp_path / "r.pulse"
    with Recorder(path, {"command": ["prog", "a b"]}) as recorder:
        for one in series([0, 1, 0], [.1, 1, 0], [0, 1, 0]):
            recorder.write(one)
        recorder.close({})
    return path


@pytest.mark.parametrize("kind", ["regions", "heatmap", "wss", "idle"])
def test_every_kind_prints_text_without_colour_codes_when_piped(recording, kind, capsys):
    assert main(["report", kind, str(recording)]) == 0
    output = capsys.readouterr()
    assert output.out
    assert "\x1b" not in output.out
    assert output.err == ""


@pytest.mark.parametrize("kind", ["regions", "heatmap", "wss", "idle"])
def test_every_kind_prints_json(recording, kind, capsys):
    assert main(["report", kind, "--json", str(recording)]) == 0
    assert json.loads(capsys.readouterr().out)


def test_last_gives_the_newest_snapshot_alone(recording, capsys):
    main(["report", "regions", "--json", str(recording)])
    every = json.loads(capsys.readouterr().out)["snapshots"]
    main(["report", "regions", "--json", "--last", str(recording)])
    assert json.loads(capsys.readouterr().out)["snapshots"] == every[-1:]
    assert len(every) == 3


@pytest.mark.parametrize(("suffix", "begin"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".html", b"<!DOCTYPE html>")])
def test_a_picture_is_written_in_the_format_that_its_name_says(recording, tmp_path, suffix, begin, capsys):
    assert main(["report", "heatmap", str(recording), "-o", str(tmp_path / f"picture{suffix}")]) == 0
    assert (tmp_path / f"picture{suffix}").read_bytes().startswith(begin)
    assert capsys.readouterr().out == ""


def test_the_picture_says_which_command_it_shows(recording, tmp_path):
    main(["report", "heatmap", str(recording), "-o", str(tmp_path / "p.html")])
    assert "prog &#x27;a b&#x27;, pid 4242" in (tmp_path / "p.html").read_text()


def test_an_unknown_suffix_is_refused_with_those_that_are_known(recording, tmp_path, capsys):
    assert main(["report", "heatmap", str(recording), "-o", str(tmp_path / "p.gif")]) == 2
    assert ".png, .svg, .html" in capsys.readouterr().err
    assert not (tmp_path / "p.gif").exists()


def test_json_and_a_picture_at_once_are_refused(recording, capsys):
    assert main(["report", "heatmap", "--json", "-o", "p.png", str(recording)]) == 2


def test_a_picture_that_cannot_be_written_is_a_failure_with_its_reason(recording, tmp_path, capsys):
    assert main(["report", "heatmap", str(recording), "-o", str(tmp_path / "no" / "p.html")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_truncated_recording_is_reported_on_and_says_so_once(recording, capsys):
    os.truncate(recording, recording.stat().st_size - 5)
    assert main(["report", "wss", "--json", str(recording)]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["snapshots"] == 3
    assert output.err.count("the 3 snapshots before it are read") == 1
    assert len(output.err.splitlines()) == 1


def test_what_is_no_recording_is_refused_with_exit_code_2(tmp_path, capsys):
    (tmp_path / "x").write_text("hello")
    assert main(["report", "wss", str(tmp_path / "x")]) == 2
    assert main(["report", "wss", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["regions", "heatmap", "wss", "idle"])
def test_a_recording_without_snapshots_fails_clearly(tmp_path, kind, capsys):
    with Recorder(tmp_path / "x", {}) as recorder:
        recorder.close({})
    assert main(["report", kind, str(tmp_path / "x")]) == 1
    assert "holds no snapshot" in capsys.readouterr().err


def test_the_heatmap_is_as_wide_and_high_as_asked(recording, capsys):
    main(["report", "heatmap", "--width", "40", "--height", "3", str(recording)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[1].startswith("[anon]")
    assert lines[4].strip().startswith("time")


@pytest.mark.parametrize("option", [["--width", "3"], ["--height", "x"]])
def test_a_size_that_makes_no_sense_is_wrong_usage(recording, option):
    with pytest.raises(SystemExit, match="2"):
        main(["report", "heatmap", *option, str(recording)])


def test_the_width_follows_the_terminal(recording, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for kind in ("heatmap", "wss", "idle"):
        main(["report", kind, str(recording)])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


@pytest.mark.parametrize(("options", "switches", "expected"), [
    ({"clear": "auto"}, 0, {"how": "cold"}), ({"clear": "auto"}, 1, {"how": "refs", "what": "memory with a file"}),
    ({"clear": "refs"}, 0, {"how": "refs", "what": "all"}), ("damaged", 0, {"how": "cold"})])
def test_every_report_says_if_accessed_bits_were_cleared_all_at_once(tmp_path, capsys, options, switches, expected):
    path = tmp_path / "r.pulse"
    with Recorder(path, {"options": options}) as recorder:
        for _ in range(switches):
            recorder.event("clear", {"how": "refs"})
        for one in series([0, 1, 0], [.1, 1, 0]):
            recorder.write(one)
        recorder.close({})
    for kind in ("wss", "idle"):
        main(["report", kind, "--json", str(path)])
        assert json.loads(capsys.readouterr().out)["clearing"] == expected
    for kind in ("regions", "heatmap", "wss", "idle"):
        main(["report", kind, str(path)])
        assert ("clear_refs" in capsys.readouterr().out) == (expected["how"] == "refs")


def test_so_long_ago_is_written_as_for_journalctl(recording, capsys):
    said = []
    for words in (["--since", "-1h"], ["--since=-1h"], ["--since", "1h ago"]):
        assert main(["report", "wss", str(recording), *words]) in {0, 1}
        said.append(capsys.readouterr())
    assert said[0] == said[1] == said[2]
    with pytest.raises(SystemExit):
        main(["report", "wss", str(recording), "--since", "--until"])
