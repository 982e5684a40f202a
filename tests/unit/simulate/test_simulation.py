# SPDX-License-Identifier: GPL-2.0-only
"""The engine under its budget on simulated targets: how right it is, and at what cost."""

from __future__ import annotations

import pytest

from pagepulse.errors import UsageError
from pagepulse.model.memory import CHUNK
from pagepulse.simulate.prices import Prices
from pagepulse.simulate.scenario import BASE, HOT_HZ, PATTERNS, Scenario
from pagepulse.simulate.truth import hot
from pagepulse.simulation import SimulationOptions, busiest_percent, simulate

MIB, GIB = 1 << 20, 1 << 30
SECOND = 1_000_000_000
SHORT = SimulationOptions(duration_ns=20 * SECOND)


# --- scenarios -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pattern", sorted(set(PATTERNS) - {"moving", "phases", "stride", "huge"}))
def test_as_much_as_was_asked_for_is_hot(pattern):
    memory = Scenario(4 * GIB, 512 * MIB, pattern, seed=3).memory(Prices())
    truth = hot(memory.truth(0, SECOND), HOT_HZ)
    hot_bytes = float(((truth["end"] - truth["start"]) * truth["share"]).sum())
    assert hot_bytes == pytest.approx(512 * MIB, abs=2 * CHUNK)


def test_a_stride_is_hot_everywhere_by_the_share_of_its_pages():
    memory = Scenario(GIB, 128 * MIB, "stride").memory(Prices())
    [truth] = hot(memory.truth(0, SECOND), HOT_HZ)
    assert (truth["start"], truth["end"], truth["share"]) == (BASE, BASE + GIB, 1 / 8)


def test_a_moving_hot_set_is_at_another_place_after_its_phase():
    memory = Scenario(4 * GIB, 64 * MIB, "moving").memory(Prices())
    first, second = (hot(memory.truth(at * SECOND, (at + 1) * SECOND), HOT_HZ)["start"].tolist() for at in (0, 15))
    assert first != second


def test_in_phases_half_of_what_is_hot_sleeps_now_and_then():
    memory = Scenario(4 * GIB, 64 * MIB, "phases").memory(Prices())
    sizes = [sum((t["end"] - t["start"]) for t in hot(memory.truth(at * SECOND, (at + 1) * SECOND), HOT_HZ))
             for at in (0, 15)]
    assert sizes == [64 * MIB, 32 * MIB]


@pytest.mark.parametrize("facts", [{"pattern": "unknown"}, {"hot_bytes": 0}, {"hot_bytes": 2 * GIB}, {"rate_hz": 5.0},
                                   {"size_bytes": GIB + 4096}, {"hot_bytes": CHUNK + 4096}])
def test_a_program_that_cannot_be_is_refused(facts):
    with pytest.raises(UsageError):
        Scenario(**({"size_bytes": GIB, "hot_bytes": 128 * MIB} | facts))


# --- how right -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("size", "hot_bytes"), [(GIB, 100 * MIB), (10 * GIB, GIB), (160 * GIB, 200 * MIB)])
def test_what_is_hot_is_found_at_any_size(size, hot_bytes):
    result = simulate(Scenario(size, hot_bytes, seed=1), SHORT, "pagepulse")
    assert min(result.precision, result.recall) >= 0.95
    assert result.seconds_to_recall_90 <= 10
    assert abs(result.wss_error_percent) <= 3


@pytest.mark.parametrize("pattern", ["spots", "huge", "off-lru"])
def test_what_is_hot_is_found_whatever_the_memory_is_like(pattern):
    result = simulate(Scenario(4 * GIB, 256 * MIB, pattern, seed=1), SHORT, "pagepulse")
    assert min(result.precision, result.recall) >= 0.95


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_working_set_is_right_one_interval_after_it_changed(seed):
    options = SimulationOptions(duration_ns=45 * SECOND)
    result = simulate(Scenario(GIB, 128 * MIB, "phases", seed=seed), options, "pagepulse")
    assert result.wss_error_after_change_percent <= 10


def test_a_program_that_never_changes_has_no_working_set_after_a_change():
    assert simulate(Scenario(GIB, 128 * MIB), SHORT, "pagepulse").wss_error_after_change_percent is None


def test_the_cost_stays_in_the_budget_once_the_target_is_known():
    for size in (64 * MIB, GIB, 16 * GIB):
        result = simulate(Scenario(size, 32 * MIB, seed=1), SimulationOptions(duration_ns=60 * SECOND), "pagepulse")
        assert result.busiest_10s_percent <= 1.1


def test_damon_spends_the_budget_by_longer_or_shorter_intervals():
    scenario = Scenario(GIB, 256 * MIB, "spots", seed=1)
    rich, poor = (simulate(scenario, SimulationOptions(duration_ns=10 * SECOND, budget=share), "damon")
                  for share in (0.02, 0.002))
    assert 1 < rich.cpu_percent + rich.target_tax_percent <= 2
    assert 0.1 < poor.cpu_percent + poor.target_tax_percent <= 0.2
    assert poor.snapshots < rich.snapshots


def test_ten_times_the_regions_are_found():
    options = SimulationOptions(duration_ns=10 * SECOND)
    plain, finer = (simulate(Scenario(GIB, 128 * MIB, seed=1), options, name) for name in ("damon", "damon-finer"))
    assert finer.regions >= 100
    assert plain.regions < finer.regions


@pytest.mark.parametrize("algorithm", ["pagepulse", "damon"])
def test_the_same_seed_gives_the_same_result_and_another_seed_another(algorithm):
    results = [simulate(Scenario(GIB, 100 * MIB, "spots", seed=seed), SHORT, algorithm) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


def test_the_busiest_stretch_begins_after_the_first_and_may_begin_anywhere():
    spent = [(at * SECOND, cost) for at, cost in ((5, 9e9), (10, 9e9), (15, 9.1e9), (20, 9.3e9), (25, 9.4e9))]
    assert busiest_percent(spent) == pytest.approx(100 * 0.3 / 10)
    assert busiest_percent(spent[:3]) is None
