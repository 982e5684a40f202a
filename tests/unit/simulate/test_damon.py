# SPDX-License-Identifier: GPL-2.0-only
"""The model of DAMON as a whole: what it finds, what it costs, and that it fails where DAMON is known to fail.

The known failures are Intel's (mail of 15 December 2023 to the DAMON list; Telescope, USENIX ATC'24): MASIM with a
known hot part, 10 % of 1, 10 and 100 GB, and 10 GB of 5 TB; sampling each 5 ms, aggregation each 200 ms, all else at
its default; hot is what has nr_accesses above 5, summed over 1 s. Profiling efficiency: above 90 %, below 50 %, about
0, 0. How the hot part lay, and how often a page of it was touched, was not published, and decides the result:

- in one piece, each page 100 times a second or more: the model finds 99 % up to 100 GB. Ten regions of 10 GB cannot
  miss one piece of 10 GB, so these numbers cannot come from such a workload;
- in spots of 8 MiB, 100 times a second: as published, if one counts what was found beyond chance. At 100 GB there are
  more spots than regions, everything looks a tenth as hot, and DAMON calls about half of all memory hot;
- in one piece, with 1 million page touches a second of the program as a whole: as published to the letter, because a
  page of a large hot set is then touched less than 5 times a second. It is the measure that fails there.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from pagepulse.errors import UsageError
from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.simulate import accuracy
from pagepulse.simulate.area import Area
from pagepulse.simulate.damon import Damon, DamonConfig, IntervalsGoal
from pagepulse.simulate.memory import SimulatedMemory
from pagepulse.simulate.pattern import Ranges, hot_set, hot_spots
from pagepulse.simulate.prices import Prices
from pagepulse.simulate.truth import hot

MIB = 2**20
GIB = 2**30
TIB = 2**40
MS = 1_000_000
SECOND = 1_000_000_000
BASE = 0x7F00_0000_0000
INTEL = DamonConfig(aggr_us=200_000)
FOOTPRINTS = {"1 GB": (GIB, GIB // 10 // CHUNK * CHUNK), "10 GB": (10 * GIB, GIB), "100 GB": (100 * GIB, 10 * GIB),
              "5 TB": (5 * TIB, 10 * GIB)}


def target(pattern, size, seed=1, **changes):
    return SimulatedMemory([Area(BASE, size, pattern, **changes)], seed=seed)


def efficiency(pattern, size, *, config=INTEL, seed=1, seconds=15, least_hz=0.01):
    """Mean precision and recall over windows of 1 s, the first five left out; nothing found has a precision of 0."""
    memory = target(pattern, size, seed)
    truth = hot(memory.truth(0, SECOND), least_hz)
    snapshots = Damon(memory, config, seed=seed).snapshots(seconds * SECOND)
    each = SECOND // (config.aggr_us * 1000)
    seen = []
    while window := list(islice(snapshots, each)):
        seen.append(accuracy.measure(accuracy.hot_ranges([one.regions for one in window]), truth))
    late = seen[5:]
    return float(np.mean([one.precision or 0 for one in late])), float(np.mean([one.recall or 0 for one in late]))


def in_spots(name, seed):
    size, hot_bytes = FOOTPRINTS[name]
    spots = hot_spots(size, 8 * MIB, hot_bytes // (8 * MIB), 100.0, seed=seed)
    precision, recall = efficiency(spots, size, seed=seed)
    return precision, recall, hot_bytes / size


def at_a_million_touches(name):
    size, hot_bytes = FOOTPRINTS[name]
    return efficiency(hot_set(size, hot_bytes, 1e6 / (hot_bytes / PAGE), seed=1), size)


# What is known of DAMON

def test_at_1_gb_hot_spots_are_found():
    precision, recall, _ = in_spots("1 GB", 1)
    assert precision > 0.9
    assert recall > 0.9


def test_at_10_gb_less_than_half_of_what_is_called_hot_is_hot():
    precision, _, chance = in_spots("10 GB", 1)
    assert chance < precision < 0.5


def test_at_100_gb_what_is_called_hot_is_no_hotter_than_chance():
    precision, _, chance = in_spots("100 GB", 1)
    assert (precision - chance) / (1 - chance) < 0.03


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_at_5_tb_nothing_is_found(seed):
    precision, recall, _ = in_spots("5 TB", seed)
    assert precision == recall == 0


@pytest.mark.parametrize(("name", "low", "high"), [("1 GB", 0.9, 1), ("10 GB", 0.01, 0.5), ("100 GB", 0, 0.01),
                                                   ("5 TB", 0, 0.01)])
def test_the_published_recall_comes_out_with_a_million_page_touches_a_second(name, low, high):
    _, recall = at_a_million_touches(name)
    assert low <= recall <= high


@pytest.mark.parametrize("name", ["1 GB", "10 GB", "100 GB"])
def test_a_hot_tenth_in_one_piece_that_is_touched_fast_is_found_at_every_size(name):
    size, hot_bytes = FOOTPRINTS[name]
    precision, recall = efficiency(hot_set(size, hot_bytes, 100.0, seed=1), size)
    assert precision > 0.95
    assert recall > 0.95


@pytest.mark.parametrize(("rate_hz", "low", "high"), [(1000.0, 0.9, 1), (20.0, 0.05, 0.75)])
def test_200_mb_in_160_gb_are_found_only_if_each_page_is_touched_very_often(rate_hz, low, high):
    """Issue 70 of damo: never found, all regions at 0 %. Not so here where a sample that hits the spot sees a touch.

    Then one hit in 100 ms keeps a region apart (the threshold is 0), its pieces are hit more often, and the spot is
    found within seconds. What is touched 20 times a second looks idle to nine samples in ten, and stays lost.
    """
    found = [efficiency(hot_spots(160 * GIB, 200 * MIB, 1, rate_hz, seed=seed), 160 * GIB, seed=seed, seconds=30,
                        config=DamonConfig())[1] for seed in (1, 2, 3)]
    assert low < np.mean(found) < high


# The loop

def test_the_same_seed_gives_the_same_snapshots_and_another_seed_others():
    def run(seed):
        memory = target(hot_set(GIB, 100 * MIB, 50.0, seed=1), GIB)
        return [one.regions.tolist() for one in Damon(memory, seed=seed).snapshots(SECOND)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_snapshot_comes_with_each_aggregation_and_covers_all_memory():
    memory = target(hot_set(GIB, 100 * MIB, 50.0, seed=1), GIB)
    snapshots = list(Damon(memory).snapshots(2 * SECOND))
    assert [one.end_ns for one in snapshots] == [at * 100 * MS for at in range(1, 21)]
    assert [one.start_ns for one in snapshots] == [at * 100 * MS for at in range(20)]
    for one in snapshots:
        assert one.samples == 20
        assert (one.regions["end"] - one.regions["start"]).sum() == GIB
        assert (one.regions["nr_accesses"] <= 20).all()
        assert one.regions.size <= 1000


def test_idle_memory_stays_at_no_accesses_and_grows_old():
    memory = target(Ranges([0, 1], [0.0]), GIB)
    last = list(Damon(memory).snapshots(2 * SECOND))[-1].regions
    assert (last["nr_accesses"] == 0).all()
    assert (last["age"] == 20).all()
    assert last.size >= 10  # no region exceeds a tenth


def test_memory_touched_all_the_time_is_seen_by_every_sample():
    memory = target(Ranges([0, GIB // PAGE], [1e5]), GIB)
    last = list(Damon(memory).snapshots(SECOND))[-1].regions
    assert (last["nr_accesses"] == 20).all()


def test_regions_stay_apart_where_mappings_have_large_gaps():
    idle = Ranges([0, 1], [0.0])
    memory = SimulatedMemory([Area(BASE + at * TIB, 64 * MIB, idle) for at in range(3)])
    for one in Damon(memory).snapshots(SECOND):
        assert (one.regions["end"] - one.regions["start"]).sum() == 3 * 64 * MIB


def test_a_sample_of_a_huge_page_sees_a_touch_anywhere_in_it():
    size = 64 * MIB
    every_chunk = np.arange(0, size // PAGE, CHUNK // PAGE)
    borders = np.stack([every_chunk, every_chunk + 1], axis=1).reshape(-1)
    rates = np.resize([1000.0, 0.0], borders.size - 1)
    seen = {}
    for huge in (False, True):
        last = list(Damon(target(Ranges(borders, rates), size, huge=huge)).snapshots(SECOND))[-1].regions
        seen[huge] = last["nr_accesses"].mean()
    assert seen[False] < 2
    assert seen[True] > 18


def test_it_costs_a_clear_and_a_check_for_each_region_and_sample():
    memory = SimulatedMemory([Area(BASE, GIB, Ranges([0, GIB // PAGE], [1e5]))], prices=Prices(retouch_ns=100))
    config = DamonConfig(min_nr_regions=10, max_nr_regions=10, mkold_ns=3, young_ns=4, wake_ns=5)
    list(Damon(memory, config).snapshots(SECOND))
    assert memory.cpu_ns == 200 * (5 + 10 * 7)
    assert memory.tax_ns == 200 * 10 * 100


# Tuned intervals

def tuned(pattern, goal, seconds=60):
    memory = target(pattern, GIB)
    damon = Damon(memory, DamonConfig(intervals_goal=goal), seed=1)
    return damon, list(damon.snapshots(seconds * SECOND))


def test_intervals_double_up_to_their_limit_while_nothing_is_seen():
    goal = IntervalsGoal(aggrs=3, max_sample_us=100_000)
    damon, snapshots = tuned(Ranges([0, 1], [0.0]), goal)
    lengths = [(one.end_ns - one.start_ns) // MS for one in snapshots]
    assert lengths[:16] == [100] * 3 + [200] * 3 + [400] * 3 + [800] * 3 + [1600] * 3 + [2000]
    assert set(lengths[15:]) == {2000}
    assert damon.sample_us == 100_000


def test_intervals_halve_down_to_their_limit_while_everything_is_hot():
    damon, _ = tuned(Ranges([0, GIB // PAGE], [1e5]), IntervalsGoal(min_sample_us=1_000), seconds=5)
    assert damon.sample_us == 1_000


def test_tuned_intervals_keep_the_meaning_of_ages():
    _, snapshots = tuned(Ranges([0, 1], [0.0]), IntervalsGoal(aggrs=4, max_sample_us=1_000_000), seconds=10)
    before, after = snapshots[3], snapshots[4]
    assert (snapshots[2].regions["age"] == 3).all()
    assert (before.regions["age"] == 2).all()  # 4 aggregations of 100 ms are 2 of 200 ms
    assert (after.regions["age"] == 3).all()


def test_tuning_finds_intervals_at_which_the_wanted_share_of_samples_sees_an_access():
    _, snapshots = tuned(Ranges([0, GIB // PAGE], [0.5]), IntervalsGoal(), seconds=120)
    late = [one for one in snapshots if one.end_ns > 60 * SECOND]
    sizes = [one.regions["end"] - one.regions["start"] for one in late]
    share = np.mean([(size * one.regions["nr_accesses"]).sum() / (size.sum() * one.samples)
                     for size, one in zip(sizes, late, strict=True)])
    assert 0.02 < share < 0.08


@pytest.mark.parametrize("wrong", [{"sample_us": 0}, {"sample_us": 200_000}, {"min_nr_regions": 2},
                                   {"max_nr_regions": 9}])
def test_attributes_that_the_kernel_refuses_are_refused(wrong):
    with pytest.raises(UsageError):
        DamonConfig(**wrong)
