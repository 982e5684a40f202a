# SPDX-License-Identifier: GPL-2.0-only
"""What a daemon tells: sums over processes, ages instead of times, and JSON whose keys carry their units."""

import json
from dataclasses import replace

from builders import MIB, SECOND, snapshot
from pagepulse.model.snapshot import IDLE_EDGES_NS
from pagepulse.model.system import Evictions
from pagepulse.policy.guards import Verdict
from pagepulse.policy.result import SchemeResult
from pagepulse.report.together import Summed
from pagepulse.service.status import (
    ProcessFacts,
    ReloadStatus,
    Status,
    TargetStatus,
    process_status,
    scheme_status,
)
from pagepulse.service.written import Written

NOW = 100 * SECOND


def process(pid=1, **changes):
    seen = snapshot(pid=pid, start_ns=NOW - 2 * SECOND, rss_bytes=8 * MIB, wss_bytes=2 * MIB,
                    idle_bytes=(7 * MIB, 6 * MIB, 5 * MIB, 4 * MIB, 0))
    return process_status(ProcessFacts("redis", "/system.slice/redis", NOW - 50 * SECOND, **changes), seen)


def target(*processes, **changes):
    facts = {"name": "redis", "selection": "cgroup redis", "state": "watching", "why": "", "budget_share": 0.01,
             "cpu_ns": SECOND, "tax_ns": SECOND // 10, "since_ns": 0, "snapshots": 3, "lost_samples": 0,
             "evictions": Evictions(5 * MIB, MIB)}
    return TargetStatus(**({"together": together(processes)} | facts | changes), processes=processes)


def together(processes):
    """Of processes that share nothing."""
    idle = [sum(one.idle[place].size_bytes for one in processes) for place in range(len(IDLE_EDGES_NS))]
    names = ("rss_bytes", "working_set_bytes", "unknown_bytes", "unclearable_bytes")
    return Summed(*(sum(getattr(one, name) for one in processes) for name in names), tuple(idle))


def status(*targets):
    return Status("1.0", 4711, started_ns=0, at_ns=NOW, paused=False, cpu_ns=2 * SECOND, rss_bytes=60 * MIB,
                  targets=targets, reload=ReloadStatus(NOW - SECOND))


def as_told(told, now_ns):
    """A status as it is read at the other end."""
    return json.loads(Written().text(told, now_ns))


def test_a_target_is_the_sum_of_its_processes():
    both = target(process(1), process(2, swap_bytes=MIB))
    assert (both.rss_bytes, both.working_set_bytes, both.swap_bytes) == (16 * MIB, 4 * MIB, MIB)
    assert [bracket.size_bytes // MIB for bracket in both.idle] == [14, 12, 10, 8, 0]


def test_a_target_without_processes_has_all_brackets_and_nothing_in_them():
    assert [bracket.size_bytes for bracket in target().idle] == [0] * len(IDLE_EDGES_NS)


def test_shares_are_of_the_time_since_it_is_watched():
    alone = status(target())
    assert (alone.cpu_share, alone.tax_share, alone.budget_share) == (0.02, 0.001, 0.01)
    assert status(target(), target(name="other")).budget_share == 0.02


def test_ages_count_to_the_moment_of_the_answer():
    told = as_told(status(target(process())), NOW + 3 * SECOND)
    assert (told["uptime_s"], told["age_s"]) == (103.0, 3.0)
    assert told["targets"][0]["processes"][0]["snapshot_age_s"] == 4.9


def test_a_refused_configuration_is_told_with_its_age():
    assert as_told(status(), NOW)["reload"]["error_age_s"] is None
    refused = replace(status(), reload=ReloadStatus(0, error="redis.toml: expected ...", failed_ns=NOW, failures=1))
    assert as_told(refused, NOW + SECOND)["reload"] == {
        "loaded_age_s": 101.0, "loads": 1, "error": "redis.toml: expected ...", "error_age_s": 1.0, "failures": 1,
        "needs_restart": False}


def test_a_scheme_tells_why_it_waits_and_what_had_no_effect():
    result = SchemeResult("idle", "pageout", 10 * MIB, 9 * MIB, 4, 1, {"no swap space": MIB})
    told = scheme_status(result, [Verdict("psi", "stops", 0, "some programs wait")], "some programs wait").as_json()
    assert told["not_applied_bytes"] == {"no swap space": MIB}
    assert told["guards"] == [{"guard": "psi", "stance": "stops", "limit_bytes": 0, "reason": "some programs wait"}]
    assert (told["refused_calls"], told["waits_for"]) == (1, "some programs wait")


def test_all_of_it_is_json():
    told = as_told(status(target(process(), refused={7: "a kernel thread"})), NOW)
    assert json.loads(json.dumps(told)) == told
    assert told["targets"][0]["refused"] == {"7": "a kernel thread"}


def test_numbers_of_sizes_times_and_shares_say_their_unit():
    plain = {"version", "pid", "paused", "loads", "failures", "snapshots", "lost_samples", "waiting_processes"}

    def check(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, int | float) and not isinstance(inner, bool) and key not in plain:
                    assert key.endswith(("_bytes", "_s", "_percent")), key
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    check(as_told(status(target(process())), NOW))
