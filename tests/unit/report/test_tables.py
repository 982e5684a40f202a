# SPDX-License-Identifier: GPL-2.0-only
"""Text and JSON reports: the promised shapes, 80 columns, and no number where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from builders import BASE, MIB, SECOND, region, series, snapshot, touched_region
from pagepulse.errors import PagepulseError
from pagepulse.report.folding import fold
from pagepulse.report.heat import heat
from pagepulse.report.heat_json import heat_json
from pagepulse.report.heat_text import heat_text, time_columns
from pagepulse.report.overview import overview
from pagepulse.report.regions import regions_json, regions_text
from pagepulse.report.totals import idle_json, idle_text, wss_json, wss_text
from pagepulse.report.words import percent, plain, shortened

GOLDEN = Path(__file__).parents[2] / "golden"


def drawn(snapshots, rows, cells):
    summed = overview(snapshots)
    return heat(snapshots, fold(summed.spans, cells, max_groups=max(cells // 2, 1)), rows, summed.start_ns,
                summed.end_ns, summed.aggregation_ns)


def heat_lines(snapshots, width, cells):
    return [line.plain.rstrip() for line in heat_text(drawn(snapshots, time_columns(width), cells), width)]


REPORTS = {
    "regions": lambda taken, width: regions_text(taken[-1:], taken[0].start_ns, width),
    "heatmap": lambda taken, width: heat_lines(taken, width, 16),
    "wss": lambda taken, width: wss_text(overview(taken), width),
    "idle": lambda taken, width: idle_text(taken[-1], 3 * SECOND, width),
}


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("report", REPORTS)
def test_the_report_looks_as_it_always_did(taken, report, width):
    expected = (GOLDEN / f"{report}-{width}.txt").read_text()
    assert "\n".join(line.rstrip() for line in REPORTS[report](taken, width)) + "\n" == expected


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("report", ["heatmap", "wss", "idle", "regions"])
def test_no_line_is_wider_than_the_terminal(taken, report, width):
    lines = list(REPORTS[report](taken, width))
    assert max(len(line) for line in lines) <= width + (report == "regions" and width == 40)  # its narrowest table


def test_regions_json_has_the_promised_keys():
    taken = [snapshot(touched_region(share=.5, since_ns=9 * SECOND))]
    document = json.loads("".join(regions_json(taken)))
    [only] = document["snapshots"]
    assert (only["start_ns"], only["end_ns"]) == (taken[0].start_ns, taken[0].end_ns)
    assert only["regions"] == [{
        "pid": 4242, "start": BASE, "end": BASE + 2 * MIB, "nr_accesses": 10.0,
        "nr_accesses_error": 0.5, "rate_hz": 5.0, "age_us": 1_100_000, "mapping": "[anon]",
        "present_bytes": 2 * MIB, "touched_bytes": MIB, "unknown_bytes": 0, "unclearable_bytes": 0,
        "faults": None}]


def test_that_nothing_was_cleared_is_said():
    spared = replace(snapshot(touched_region()), spared=True)
    cleared = [one["cleared"] for one in json.loads("".join(regions_json([snapshot(), spared])))["snapshots"]]
    assert cleared == [True, False]
    assert "nothing was cleared" in " ".join(regions_text([spared], 0, 80))
    assert "nothing was cleared" not in " ".join(regions_text([snapshot()], 0, 80))


def test_page_faults_have_a_column_where_a_probe_counts_them_and_there_is_room():
    faulting = replace(snapshot(touched_region(share=.5), touched_region(BASE + 2 * MIB, share=.5)),
                       faults=np.array([7, 0], np.uint64))
    [only] = json.loads("".join(regions_json([faulting])))["snapshots"]
    assert [row["faults"] for row in only["regions"]] == [7, 0]
    wide = list(regions_text([faulting], 0, 100))
    assert [line.split()[-2] for line in wide[-3:]] == ["FAULTS", "7", "0"]
    assert "7 page faults" in " ".join(wide)
    for lines in (regions_text([faulting], 0, 80), regions_text([replace(faulting, faults=None)], 0, 100)):
        assert "FAULTS" not in " ".join(lines)


def test_regions_json_of_no_or_many_snapshots_is_json():
    assert json.loads("".join(regions_json([]))) == {"snapshots": []}
    assert len(json.loads("".join(regions_json(series([0], [1], [0]))))["snapshots"]) == 3


def test_a_rate_that_is_not_a_number_is_null_in_json():
    text = "".join(regions_json([snapshot(region(rate_hz=float("nan"), nr_accesses=float("inf")))]))
    [row] = json.loads(text)["snapshots"][0]["regions"]
    assert row["rate_hz"] is None
    assert row["nr_accesses"] is None


def test_wss_json_has_the_promised_shape():
    taken = [snapshot(wss_bytes=wss, start_ns=wss * SECOND) for wss in (10, 20, 30, 40, 50)]
    assert wss_json(overview(taken)) == {"wss_bytes": {"p0": 10, "p25": 20, "p50": 30, "p75": 40, "p100": 50},
                                         "snapshots": 5}


def test_wss_text_of_a_target_that_touches_nothing_has_empty_bars():
    assert not any("*" in line for line in wss_text(overview(series([0], [0]))))


def test_idle_json_has_the_promised_shape():
    assert idle_json(snapshot(idle_bytes=(5, 4, 3, 2, 1), rss_bytes=6)) == {
        "idle_bytes": {"0s": 5, "1s": 4, "10s": 3, "60s": 2, "600s": 1}, "rss_bytes": 6}


def test_idle_text_does_not_call_memory_busy_that_it_had_no_time_to_watch():
    text = "\n".join(idle_text(snapshot(idle_bytes=(MIB, MIB, 0, 0, 0)), watched_ns=3 * SECOND))
    assert "not touched for 10 s: watched only for 3 s" in text
    assert "60" not in text


@pytest.mark.parametrize(("changes", "word"), [
    ({"present_bytes": 0}, "not there"), ({"unknown_bytes": 2 * MIB}, "unknown"),
    ({"unclearable_bytes": 2 * MIB}, "no clear")])
def test_a_region_that_cannot_be_watched_shows_no_numbers(changes, word):
    row = list(regions_text([snapshot(region(**changes))], 0))[3]
    assert word in row
    assert row.count("?") == 3
    assert " 0.0 " not in row


def test_what_is_not_known_or_was_lost_is_said_in_every_report():
    taken = [snapshot(unknown_bytes=MIB, unclearable_bytes=MIB, dropped=1234)]
    for lines in (regions_text(taken, 0), wss_text(overview(taken)), idle_text(taken[0], SECOND)):
        text = "\n".join(lines)
        assert "unknown" in text
        assert "unclearable" in text
        assert "1,234" in text


def test_heat_json_has_null_where_nothing_is_known():
    document = heat_json(drawn([snapshot(region(present_bytes=0), touched_region(BASE + 2 * MIB))], rows=1, cells=2))
    assert document["touched_share"] == [[None, 1.0]]
    assert document["cells"] == [BASE, BASE + 2 * MIB]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_heatmap_shows_its_characters_only_where_there_are_no_colours():
    line = list(heat_text(drawn(series([1, 0]), rows=10, cells=2)))[1]
    assert line.plain.endswith("@" * 10)
    console = Console(force_terminal=True, color_system="truecolor", width=80, _environ={})
    with console.capture() as capture:
        console.print(line)
    assert "\x1b[38;2;252;255;164;48;2;252;255;164m@" in capture.get()


def test_a_name_cannot_send_commands_to_the_terminal():
    evil = snapshot(mappings=("\x1b]0;owned\x07\n[red]\udc80",))
    texts = ["\n".join(regions_text([evil], 0, 120)), *heat_lines([evil], 80, 4)]
    assert not any(letter in text for text in texts for letter in "\x1b\x07\udc80")
    assert "[red]" in texts[0]


@pytest.mark.parametrize(("name", "width", "expected"), [
    ("[heap]", 10, "[heap]"), ("/usr/lib/libc.so.6", 10, "libc.so.6"), ("/usr/lib/libverylong.so", 8, "libver.."),
    ("abcdef", 1, "."), ("a\nb", 9, "a?b")])
def test_names_are_shortened_to_what_tells_most(name, width, expected):
    assert shortened(name, width) == expected


@pytest.mark.parametrize(("part", "whole", "expected"), [
    (8, 10, "80 %"), (3, 1000, "0.3 %"), (0, 5, "0 %"), (1, 10**7, "<0.01 %"), (0, 0, "? %"), (5, 5, "100 %")])
def test_percents_are_short_and_never_round_something_to_nothing(part, whole, expected):
    assert percent(part, whole) == expected


def test_printable_names_stay_as_they_are():
    assert plain("[anon: naïve 表]") == "[anon: naïve 表]"


def test_an_overview_of_nothing_is_refused():
    with pytest.raises(PagepulseError, match="no snapshot"):
        overview([])
