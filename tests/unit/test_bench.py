# SPDX-License-Identifier: GPL-2.0-only
"""What the bench and the demo compute from what they measure."""

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bench import real_overhead, schemes, soak
from bench.kept import Table
from bench.naive_reclaim import unreferenced
from bench.paired import Change, brief, is_above, mean_of, paired_change, rate_between, rates_in_parts
from bench.programs.slices import Slices, percentile_us
from bench.results import with_section
from bench.truth import hot_found, newest
from workload import ROOT


def slices(*operations):
    return [{"start_ns": 100 * number, "end_ns": 100 * number + 100, "operations": count, "busy_ns": 10}
            for number, count in enumerate(operations)]


def snapshot(end_ns, *regions):
    keys = ("start", "end", "rate_hz")
    return {"end_ns": end_ns, "regions": [dict(zip(keys, region, strict=True)) for region in regions]}


def test_a_change_is_measured_pair_by_pair_so_that_drift_between_pairs_does_not_matter():
    drifting = np.geomspace(1, 100, 20)
    change = paired_change(drifting, drifting * 0.99)
    assert change.mean == pytest.approx(-0.01)
    assert change.low == pytest.approx(-0.01)
    assert change.high == pytest.approx(-0.01)
    assert change.pairs == 20


def test_the_confidence_interval_holds_the_mean_and_grows_with_the_noise():
    noise = np.random.default_rng(3).normal(0, 0.02, 40)
    quiet, loud = (paired_change(np.ones(40), 1 + scale * noise) for scale in (1, 4))
    assert quiet.low < quiet.mean < quiet.high
    assert loud.high - loud.low == pytest.approx(4 * (quiet.high - quiet.low), rel=0.1)


def test_noise_alone_neither_speeds_up_nor_slows_down():
    noisy = np.array([1.0, 3.0])
    assert paired_change(noisy, noisy[::-1]).mean == pytest.approx(0)


def test_no_effect_is_claimed_from_a_single_pair_or_from_halves_of_pairs():
    with pytest.raises(ValueError, match="at least two whole pairs"):
        paired_change([1.0], [0.5])
    with pytest.raises(ValueError, match="at least two whole pairs"):
        paired_change([1.0, 1.0, 1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="above 0"):
        paired_change([1.0, 0.0], [0.5, 0.5])


def test_a_rate_counts_only_slices_that_lie_wholly_inside():
    assert rate_between(slices(1000, 10, 10, 1000), 50, 350) == 20 * 1e9 / 200
    assert rate_between(slices(1000, 10, 10, 1000), 50, 350, per="busy_ns") == 20 * 1e9 / 20
    with pytest.raises(ValueError, match="said nothing"):
        rate_between(slices(1, 1), 50, 149)


def test_parts_of_a_time_are_equal_and_in_order():
    assert rates_in_parts(slices(1, 1, 2, 2), 0, 400, parts=2) == [1e7, 2e7]


def test_hot_bytes_called_hot_count_for_recall_and_cold_ones_against_precision():
    seen = [snapshot(1, (0, 40, 9.0), (40, 100, 0.1)), snapshot(2, (0, 20, 9.0), (20, 100, 2.9))]
    found = hot_found(seen, [(10, 30)], threshold_hz=3)
    assert found.precision == (20 + 10) / (40 + 20)
    assert found.recall == (20 + 10) / (20 + 20)


def test_with_nothing_called_hot_the_recall_is_zero():
    assert hot_found([snapshot(1, (0, 100, 0.0))], [(10, 30)], threshold_hz=3) == (1.0, 0.0)


def test_the_newest_snapshots_are_those_of_the_last_seconds():
    seen = [snapshot(end * 10**9) for end in range(1, 11)]
    assert [one["end_ns"] for one in newest(seen, 3)] == [8 * 10**9, 9 * 10**9, 10 * 10**9]


_MEASURES = """
import pathlib, sys, time
from contextlib import ExitStack
from bench import tool

def main():
    with ExitStack() as stack:
        stack.callback(pathlib.Path(sys.argv[1]).unlink)
        print("set up", flush=True)
        time.sleep(60)

sys.exit(tool.run(main, needs_root=False))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_bench_that_is_ended_undoes_what_it_set_up(tmp_path, number):
    (left := tmp_path / "left").touch()
    line = [sys.executable, "-c", _MEASURES, left]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests") as bench:
        assert bench.stdout.readline() == "set up\n"
        bench.send_signal(number)
        assert bench.wait(10) == 128 + number
    assert not left.exists()


# --- results ---------------------------------------------------------------------------------------------------------

def test_a_section_is_replaced_where_it_is_and_added_where_it_is_not():
    document = "# Results\n\nIntroduction.\n\n## One\n\nold\n\n## Two\n\nother\n"
    replaced = with_section(document, "One", "new\n")
    assert replaced == "# Results\n\nIntroduction.\n\n## One\n\nnew\n\n## Two\n\nother\n"
    assert with_section(replaced, "Three", "third").endswith("## Two\n\nother\n\n## Three\n\nthird\n")
    assert with_section(replaced, "Two", r"\1") == replaced.replace("other", r"\1")


# --- real programs ----------------------------------------------------------------------------------------------------

def table(*rows):
    return Table("Any", "What was done.", ("a", "b"), rows, ["A remark."])


def test_a_table_for_the_terminal_has_straight_columns():
    assert table(("long cell", "x"), ("s", "y")).text().splitlines() == [
        "a          b", "long cell  x", "s          y", "A remark."]


def test_a_table_is_a_section_of_the_results_in_markdown():
    assert table(("1", "2")).body() == "What was done.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nA remark."


def test_what_a_load_says_is_read_back_with_its_latencies(tmp_path, monkeypatch):
    clock = iter(range(0, 10**12, 10_000_000))
    monkeypatch.setattr("bench.programs.slices.time.monotonic_ns", lambda: next(clock))
    slices = Slices(tmp_path / "slices")
    for _ in range(20):
        slices.did(16, begun_ns=0)
    said = [json.loads(line) for line in (tmp_path / "slices").read_text().splitlines()]
    assert [part["operations"] for part in said] == [16 * 5] * 4
    assert said[0]["start_ns"] == 0
    assert all(before["end_ns"] == after["start_ns"] for before, after in pairwise(said))
    assert percentile_us(said, 1.0) == pytest.approx(200_000, rel=0.025)
    assert percentile_us(said, 0.5) == pytest.approx(100_000, rel=0.025)


def test_without_requests_there_is_no_latency():
    assert percentile_us([{"latencies": {}}], 0.99) is None


def test_a_goal_is_shown_only_by_enough_pairs_and_an_interval_within_it():
    assert real_overhead.is_shown(Change(-0.001, -0.005, 0.003, 20)) is True
    assert real_overhead.is_shown(Change(-0.001, -0.02, 0.018, 20)) is None
    assert real_overhead.is_shown(Change(-0.02, -0.03, -0.01, 20)) is False
    assert real_overhead.is_shown(Change(0.001, 0.0, 0.002, 2)) is None
    assert real_overhead.is_shown(Change(0.03, 0.01, 0.05, 20)) is None


def overhead_of(program, change, key=None):
    ones = [1.0] * 20
    return {"key": key or program, "program": program, "without": ones, "with": [1 + change] * 20, "cpu_without": ones,
            "cpu_with": [1 + change / 2] * 20, "p99_without_us": [None] * 20, "p99_with_us": [None] * 20,
            "cpu_share": 0.005, "tax_share": 0.0001, "rss_bytes": 48 << 20, "measured": "2026-01-01 00:00",
            "others_share": 0.03, "load": "1.2"}


def test_the_program_that_suffers_most_comes_first_and_the_contrast_last_and_not_into_the_mean():
    made = real_overhead.table_of([overhead_of("a", 0.0), overhead_of("b", -0.004),
                                   overhead_of("a", -0.14, real_overhead.NAIVE)], [])
    assert [row[0] for row in made.rows] == ["b", "a", "naive loop on a"]
    assert "mean of 2 programs: -0.20 % (-0.20 to -0.20)" in made.remarks[0]
    assert made.remarks[0].endswith(": met.")


def test_a_change_in_brief_says_its_interval_in_percent():
    assert brief(Change(-0.0021, -0.005, 0.0007, 20)) == "-0.21 % (-0.50 to +0.07)"


def run(rate=100.0, rss=1000.0, p99_us=None):
    return {"rate": rate, "per_cpu_s": 2 * rate, "p99_us": p99_us, "rss_bytes": rss, "used_bytes": rss,
            "major_faults": 3, "applied_bytes": 5 << 20, "returned_bytes": 1 << 20}


def treated(program, way="prcl", **after):
    return {"program": program, "way": way, "without": [run()] * 3, "with": [run(**after)] * 3,
            "measured": "2026-01-01 00:00", "others_share": 0.0, "load": "0.5"}


def test_of_a_way_the_program_that_suffers_most_comes_first():
    made = schemes.table_of([treated("a", rate=99.0), treated("b", rate=90.0), treated("c", "monitor", rate=50.0)])
    assert [row[:2] for row in made.rows] == [["monitor", "c"], ["prcl", "b"], ["prcl", "a"]]
    assert made.rows[1][2] == "-10.00 % (-10.00 to -10.00)"
    assert "The worst is b: -10.00 % (-10.00 to -10.00) (goal: above -5 %: MISSED)" in made.remarks[1]


def test_the_goal_for_a_mostly_idle_program_asks_for_memory_and_speed_at_once():
    said = schemes.table_of([treated("numpy-idle", rss=40.0, rate=97.0)]).remarks[2]
    assert "RSS -96.00 % (-96.00 to -96.00) (goal: -95 %: met)" in said
    assert "-3.00 % (-3.00 to -3.00) (goal: above -1 %: MISSED)" in said


def test_one_round_has_no_interval_and_what_has_no_requests_no_latency():
    once = treated("a", rate=99.0) | {"without": [run()], "with": [run(rate=99.0)]}
    made = schemes.table_of([once])
    assert made.rows[0][2:5] == ["-1.00 %", "-1.00 %", "-"]
    assert "(goal: above -5 %: not shown)" in made.remarks[1]


def test_a_way_that_is_refused_is_told_and_not_shown_as_a_row():
    made = schemes.table_of([{"program": "a", "way": "ethp", "refused": "pagepulse: no hugepage"}])
    assert made.rows == []
    assert made.remarks[0] == "ethp: not measured: pagepulse: no hugepage"


def test_the_naive_rival_sees_mappings_as_smaps_tells_of_them():
    entry = "{} rw-p 00000000 00:00 0 {}\nSize:  8 kB\nRss:  8 kB\nReferenced:  {} kB\nAnonymous: 8 kB\n"
    smaps = (entry.format("1000-3000", "", 0) + entry.format("4000-6000", "[heap]", 8)
             + entry.format("7000-9000", "", 0).replace("rw-p", "r-xp"))
    assert unreferenced(smaps) == [(0x1000, 0x3000)]


def test_huge_pages_are_judged_by_the_speed_that_is_kept_and_the_memory_that_is_removed():
    never = {"per_cpu_s": 100.0, "rss_bytes": 300 << 20, "huge_bytes": 0}
    always = {"per_cpu_s": 200.0, "rss_bytes": 1000 << 20, "huge_bytes": 900 << 20}
    said = schemes.huge_pages_paid(never, always, {"per_cpu_s": 190.0, "rss_bytes": 510 << 20, "huge_bytes": 99 << 20})
    assert said == ("THP always is +100.0 % faster than never; ethp keeps 90 % of that with 99 of 900 MiB in huge "
                    "pages (goal: 80 %: met); of the 700 MiB more that THP always takes, ethp removes 70 % (goal: "
                    "90 %: MISSED).")
    assert schemes.huge_pages_paid(never, always | {"rss_bytes": 301 << 20}, never).endswith("worth speaking of.")


# --- soak ----------------------------------------------------------------------------------------------------------

def course(**changes):
    """Ten minutes in good order: the disk was full from the sixth on."""
    def sample(at_s):
        lost = 0 if at_s < 360 else min(at_s - 360, 60)
        return soak.Sample(at_s, (70 << 20) + min(at_s, 100) * 4096, 3, lost, 5)
    seen = soak.Course([sample(at_s) for at_s in range(600)], [Counter(socket=50), Counter(socket=50)],
                       full_s=(360, 420), refused=2, killed=3,
                       told=dict.fromkeys(soak.TARGETS, 100), lost=dict.fromkeys(soak.TARGETS, 20),
                       read=dict.fromkeys(soak.TARGETS, 80))
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def changed(number, **changes):
    samples = course().samples
    return {"samples": [*samples[:number], *(replace(one, **changes) for one in samples[number:])]}


@pytest.mark.parametrize(("changes", "broken"), [
    ({}, []),
    (changed(599, rss_bytes=72 << 20), ["resident memory"]),
    ({"descriptors": [Counter(socket=50), Counter(socket=50, pidfd=1)]}, ["descriptors"]),
    (changed(300, threads=4), ["threads"]),
    ({"read": {"steady": 80, "churning": 79, "visiting": 80}}, ["snapshots neither"]),
    ({"read": {"steady": 81, "churning": 79, "visiting": 80}}, ["snapshots neither"]),
    (changed(599, lost_snapshots=61), ["told as lost once"]),
    (changed(200, lost_snapshots=60), ["told as lost before"]),
    ({"gap_s": 3.1}, ["longest time"]),
    ({"killed": 0}, ["children"]),
    ({"refused": 0}, ["changes of the configuration"]),
    ({"bad_reports": ["no"]}, ["reports"]),
    ({"exit_status": 1, "traceback": True}, ["exit status", "tracebacks"]),
])
def test_a_soak_names_each_limit_that_was_broken(changes, broken):
    missed = [row.what for row in soak.judged(course(**changes)) if not row.is_met]
    assert len(missed) == len(broken)
    assert all(what.startswith(words) for what, words in zip(missed, broken, strict=True))


def test_a_gap_is_what_no_snapshot_covers_and_the_longest_is_that_of_the_full_disk():
    spans = [(0, 10 ** 9), (10 ** 9, 3 * 10 ** 9), (90 * 10 ** 9, 91 * 10 ** 9), (93 * 10 ** 9, 94 * 10 ** 9)]
    assert soak.longest_gap_s(spans, was_full=True) == 2
    assert soak.longest_gap_s(spans, was_full=False) == 87
    assert soak.longest_gap_s(spans[:1], was_full=False) == 0


def test_the_mean_over_programs_has_an_interval_as_much_narrower_as_there_are_more_of_them():
    one = Change(-0.02, -0.05, 0.01, 3)
    mean = mean_of([one] * 9)
    assert mean == pytest.approx((-0.02, -0.03, -0.01, 3))


@pytest.mark.parametrize(("low", "high", "expected"), [(-0.01, 0.03, True), (-0.09, -0.03, False), (-0.03, 0.01, None)])
def test_a_goal_is_met_where_all_of_the_interval_is_above_it(low, high, expected):
    assert is_above(Change(0.0, low, high, 3), -0.02) is expected
