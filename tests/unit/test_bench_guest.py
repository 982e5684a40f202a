# SPDX-License-Identifier: GPL-2.0-only
"""Benches in machines: what they make of what DAMON said, and of pressure."""

import numpy as np

from bench import damon, pressure, tmo, tmo_reclaim
from bench.damon_trace import Told, aggregations
from bench.inside.pressure import WITH, WITHOUT

TRACE = """\
 kdamond.0-9 [000] ..... 10.000000: damon_aggregated: target_id=0 nr_regions=2 4096-8192: 3 7
 kdamond.0-9 [000] ..... 10.000001: damon_aggregated: target_id=0 nr_regions=2 8192-20480: 0 1
 kdamond.0-9 [000] ..... 10.100000: damon_aggregated: target_id=0 nr_regions=3 4096-8192: 20 8
 kdamond.0-9 [000] ..... 10.200000: damon_aggregated: target_id=0 nr_regions=2 4096-8192: 0 0
 kdamond.0-9 [000] ..... 10.200001: damon_aggregated: target_id=0 nr_regions=2 8192-20480: 1 2
"""
PATTERN = "some avg10=0.04 avg60={} avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def told(start_ns: int, end_ns: int, regions: list[tuple[int, int, int]], wss: int) -> Told:
    rows = np.array(regions, [("start", "<u8"), ("end", "<u8"), ("nr_accesses", "<u4")])
    return Told(start_ns, end_ns, rows, wss, 0.5)


def test_an_aggregation_of_which_a_line_was_lost_is_left_out(tmp_path):
    path = tmp_path / "trace"
    path.write_text(TRACE)
    only, = aggregations(path)
    assert (only.start_ns, only.end_ns) == (10_000_001_000, 10_200_001_000)
    assert only.regions["nr_accesses"].tolist() == [0, 1]
    assert only.wss_bytes == 12288


def test_what_is_called_hot_is_judged_by_seconds_and_the_working_set_by_intervals():
    run = {"hot": [[0, [[0, 8192]]]], "wss_bytes": {}}
    found = damon.judged(run, [told(10**9, 2 * 10**9, [(0, 4096, 9), (4096, 12288, 0)], 4096),
                               told(2 * 10**9, 3 * 10**9, [(0, 16384, 9)], 16384)])
    assert (found["called"], found["right"], found["hot"]) == (4096 + 16384, 4096 + 8192, 2 * 8192)
    assert found["errors"] == [-0.5, 1.0]
    assert found["interval_ms"] == 1000


def test_time_in_which_the_truth_changed_is_not_judged():
    run = {"hot": [[0, [[0, 4096]]], [15 * 10**8, [[8192, 12288]]]], "wss_bytes": {}}
    found = damon.judged(run, [told(10**9, 2 * 10**9, [(0, 4096, 9)], 4096),
                               told(2 * 10**9, 3 * 10**9, [(0, 4096, 9)], 8192)])
    assert (found["right"], found["hot"], found["errors"]) == (0, 4096, [-0.5, 1.0])


def test_a_working_set_that_was_asked_of_the_kernel_is_that_of_the_intervals_length():
    run = {"hot": [], "wss_bytes": {"100": 1 << 20, "400": 4 << 20}}
    found = damon.judged(run, [told(0, 200_000_000, [(0, 4096, 9)], 2 << 20)])
    assert abs(found["errors"][0]) < 1e-9
    assert damon.judged(run, [told(0, 800_000_000, [(0, 4096, 9)], 2 << 20)])["errors"] == []


def test_tmos_controller_asks_for_a_hundredth_and_for_nothing_under_pressure(tmp_path):
    (tmp_path / "memory.current").write_text("409600000\n")
    for name, avg60, asked in (("memory", "0.09", 4096000), ("io", "0.10", 0)):
        (tmp_path / "memory.pressure").write_text(PATTERN.format("0.00"))
        (tmp_path / "io.pressure").write_text(PATTERN.format("0.00"))
        (tmp_path / f"{name}.pressure").write_text(PATTERN.format(avg60))
        assert tmo_reclaim.step(tmp_path) == asked
    assert (tmp_path / "memory.reclaim").read_text() == "4096000"


MEASURED = {"measured": "today", "others_share": 0.0, "load": "1.0", "kernel": "6.1.0"}


def parts(faults: list[int]) -> list[dict[str, float]]:
    return [{"rate": 1000.0, "faults": count, "seconds": 20, "p99_us": 5.0, "cpu": 0.01, "tax": 0.0}
            for count in faults]


def pressure_remark(faults: list[int]) -> str:
    one = {**MEASURED, "mglru": "0x0000", WITHOUT: parts([100, 200]), WITH: parts(faults)}
    return pressure.table_of([one]).remarks[0]


def test_faults_under_pressure_are_judged_by_their_interval():
    assert "1.020 times" in pressure_remark([102, 204])
    assert pressure_remark([102, 204]).endswith("at most 1.05: met).")
    assert pressure_remark([110, 220]).endswith("MISSED).")
    assert pressure_remark([90, 240]).endswith("not shown).")  # 1.04, of 0.9 and 1.2


def test_what_a_controller_gave_back_is_told_against_the_program_alone():
    run = {"rate": 100.0, "per_cpu_s": 100.0, "p99_us": None, "rss_bytes": 1000.0, "major_faults": 0}
    ways = {"nothing": [run, run], "TMO, 6 s": [{**run, "rss_bytes": 900.0, "major_faults": 7}] * 2}
    (row,) = tmo.table_of([{**MEASURED, "program": "redis-idle", "ways": ways}]).rows
    assert row[:4] == ["redis-idle", "TMO, 6 s", "-10.00 % (-10.00 to -10.00)", "+0.00 % (+0.00 to +0.00)"]
    assert row[5:7] == ["-", "0 to 7"]
