# SPDX-License-Identifier: GPL-2.0-only
"""Simulation: the engine under its budget, or DAMON's algorithm, on a simulated target; and how right each was."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.plan import tick_times_ns
from pagepulse.model.prices import Prices
from pagepulse.policy.budget import Budget
from pagepulse.simulate.accuracy import Accuracy, hot_ranges, measure, seconds_to_recall_90, wss_error
from pagepulse.simulate.damon import Damon, DamonConfig, DamonSnapshot
from pagepulse.simulate.memory import SimulatedMemory
from pagepulse.simulate.prices import Prices as SimulatedPrices
from pagepulse.simulate.scenario import HOT_HZ, Scenario
from pagepulse.simulate.truth import hot

ALGORITHMS = ("pagepulse", "damon", "damon-finer")
"""The engine; DAMON's with the limits of regions that are its defaults, and with ten times as many. DAMON has no
budget: it is given the intervals that spend ours."""

_SECOND_NS = 1_000_000_000
_FINER = 10
_TRIES, _NEAR = 6, 0.1  # until DAMON's cost is so little below the budget
_START_NS = 10_000_000_000  # getting to know the program
_SETTLED = 0.5  # accuracy is that of the last half of a run


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """How to watch a simulated target. Times in nanoseconds, the budget as a fraction of one CPU."""

    duration_ns: int = 60 * _SECOND_NS
    budget: float = 0.01
    sampling_ns: int = 5_000_000
    aggregation_ns: int = 100_000_000
    update_ns: int = _SECOND_NS
    min_regions: int = 10
    max_regions: int = 1000


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What `pagepulse simulate --json` prints. None: there was nothing to divide by, or it never came."""

    precision: float | None
    """Of hot bytes, the mean over the last half of the run, as is recall."""
    recall: float | None
    wss_error_percent: float | None
    """Of the median snapshot in the last half."""
    wss_error_after_change_percent: float | None
    """Of each first snapshot that lies wholly after a change of what the program does: its median, without its sign."""
    cpu_percent: float
    """Of one CPU, over the whole run."""
    target_tax_percent: float
    busiest_10s_percent: float | None
    """Of one CPU, tax included, in the costliest 10 s after the first 10."""
    seconds_to_recall_90: float | None
    regions: int
    """In the last snapshot."""
    snapshots: int

    def as_json(self) -> dict[str, float | int | None]:
        """Rounded to what has a meaning."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


class _Seen(NamedTuple):
    """One snapshot of either algorithm."""

    start_ns: int
    end_ns: int
    sampling_ns: int
    regions: npt.NDArray[np.void]
    wss_bytes: int
    spent_ns: float
    """Cost until the end of this snapshot: our CPU, and the tax as far as the algorithm itself knows it."""


def simulate(scenario: Scenario, options: SimulationOptions, algorithm: str) -> SimulationResult:
    """Run one algorithm on one target.

    Args:
        scenario: The target.
        options: How to watch.
        algorithm: One of ALGORITHMS.
    """
    memory = scenario.memory(SimulatedPrices())
    if algorithm == "pagepulse":
        return _judge(memory, _pagepulse(memory, options, scenario.seed), options.duration_ns)
    return _damon_at_cost(scenario, options, algorithm)


# --- the algorithms --------------------------------------------------------------------------------------------------


def _pagepulse(memory: SimulatedMemory, options: SimulationOptions, seed: int) -> Iterator[_Seen]:
    prices, simulated = _as_calibrated(memory.prices), memory.prices
    engine = Engine(1, memory, EngineOptions(options.sampling_ns, options.aggregation_ns, options.min_regions,
                                             options.max_regions), seed)
    budget = Budget(options.budget, options.aggregation_ns, prices, pinned=False)
    update_due_ns, known_tax_ns = 0, 0.0
    while memory.now_ns() < options.duration_ns:
        begun_ns, before_ns = memory.now_ns(), memory.cpu_ns
        if begun_ns >= update_due_ns:
            engine.update()
            memory.charge(simulated.update_ns)
            update_due_ns = begun_ns + options.update_ns
        limits = budget.limits(len(engine.windows))
        sweep_begun_ns = memory.cpu_ns
        engine.sweep(limits.sweep_pages, limits.range_pages)
        swept, sweep_ns = engine.take_work(), memory.cpu_ns - sweep_begun_ns
        budget.swept(swept.pages_cleared, swept.ranges_cleared)
        probed_ns = engine.begin(limits.probes)
        if probed_ns is not None:
            for after_ns in tick_times_ns(options.sampling_ns, begun_ns + budget.aggregation_ns - probed_ns):
                memory.advance(probed_ns + after_ns - memory.now_ns())
                engine.tick()
        memory.advance(begun_ns + budget.aggregation_ns - memory.now_ns())
        snapshot = engine.finish(limits.patrol)
        memory.charge(simulated.interval_ns + simulated.estimate_ns * len(engine.windows)
                      + simulated.region_ns * len(engine.regions))
        work = engine.take_work()
        tax_ns, sweep_tax_ns = work.tax_ns(prices), swept.tax_ns(prices)
        wake_tax_ns = work.wake_tax_ns(prices) + swept.wake_tax_ns(prices)
        budget.spent(snapshot.end_ns - snapshot.start_ns, memory.cpu_ns - before_ns - sweep_ns + tax_ns,
                     sweep_ns + sweep_tax_ns, wake_tax_ns)
        known_tax_ns += tax_ns + sweep_tax_ns + wake_tax_ns
        yield _Seen(snapshot.start_ns, snapshot.end_ns, snapshot.sampling_ns, snapshot.regions, snapshot.wss_bytes,
                    memory.cpu_ns + known_tax_ns)


def _as_calibrated(prices: SimulatedPrices) -> Prices:
    """What a calibration would find on the simulated machine."""
    return Prices(prices.window_ns, prices.bulk_page_ns, prices.iovec_ns, prices.retouch_ns)


def _damon_at_cost(scenario: Scenario, options: SimulationOptions, algorithm: str) -> SimulationResult:
    """DAMON with the shortest intervals, of several tries, that keep to the budget.

    Its cost jumps: where intervals are so short that chance makes equal regions look different, there are as many as
    there may be. So the way is a bisection, and its end may be well below the budget.
    """
    finer = _FINER if algorithm == "damon-finer" else 1
    stretch, too_short, long_enough = 1.0, 0.0, math.inf
    best: SimulationResult | None = None
    tried = 0
    while best is None or tried < _TRIES:
        tried += 1
        memory = scenario.memory(SimulatedPrices())
        result = _judge(memory, _damon(memory, options, stretch, finer, scenario.seed), options.duration_ns)
        of_budget = (result.cpu_percent + result.target_tax_percent) / (100 * options.budget)
        if 1 - _NEAR < of_budget <= 1:
            return result
        if of_budget > 1:
            too_short = stretch
        else:
            long_enough, best = stretch, result
        is_between = too_short > 0 and long_enough < math.inf
        stretch = math.sqrt(too_short * long_enough) if is_between else stretch * of_budget / (1 - _NEAR / 2)
    return best


def _damon(memory: SimulatedMemory, options: SimulationOptions, stretch: float, finer: int,
           seed: int) -> Iterator[_Seen]:
    """DAMON with its sampling and aggregation intervals stretched, and its limits of regions multiplied."""
    sample_us = max(round(stretch * options.sampling_ns / 1000), 1)
    aggr_us = sample_us * (options.aggregation_ns // options.sampling_ns)
    config = DamonConfig(sample_us, aggr_us, max(options.update_ns // 1000, aggr_us), finer * options.min_regions,
                         finer * options.max_regions)
    for snapshot in Damon(memory, config, seed=seed).snapshots(options.duration_ns):
        yield _Seen(snapshot.start_ns, snapshot.end_ns, sample_us * 1000, snapshot.regions, _damon_wss(snapshot),
                    memory.cpu_ns)


def _damon_wss(snapshot: DamonSnapshot) -> int:
    """As `damo report wss`: the size of all regions that were accessed at all."""
    rows = snapshot.regions[snapshot.regions["nr_accesses"] > 0]
    return int((rows["end"] - rows["start"]).sum())


# --- the judgement ---------------------------------------------------------------------------------------------------


def _judge(memory: SimulatedMemory, run: Iterator[_Seen], duration_ns: int) -> SimulationResult:
    last_second: deque[_Seen] = deque()
    judged: list[tuple[int, Accuracy]] = []
    errors: list[float] = []
    after_change: list[float] = []
    has_changed = False
    spent: list[tuple[int, float]] = []
    snapshots = regions = 0
    for seen in run:
        snapshots, regions = snapshots + 1, len(seen.regions)
        last_second.append(seen)
        spent.append((seen.end_ns, seen.spent_ns))
        if seen.end_ns > _SETTLED * duration_ns:
            errors += _wss_error(memory, seen)
        changes, has_changed = has_changed, memory.changed(seen.start_ns, seen.end_ns + 1)
        if changes and not has_changed and seen.end_ns > _START_NS:
            after_change += _wss_error(memory, seen)
        if seen.end_ns - last_second[0].start_ns >= _SECOND_NS:
            judged.append((seen.end_ns, _accuracy(memory, last_second)))
            last_second.clear()
    late = [accuracy for end_ns, accuracy in judged if end_ns > _SETTLED * duration_ns]
    found = seconds_to_recall_90(judged, 0)
    return SimulationResult(
        precision=_mean([accuracy.precision for accuracy in late]),
        recall=_mean([accuracy.recall for accuracy in late]),
        wss_error_percent=100 * float(np.median(errors)) if errors else None,
        wss_error_after_change_percent=100 * float(np.median(np.abs(after_change))) if after_change else None,
        cpu_percent=100 * memory.cpu_ns / memory.now_ns(), target_tax_percent=100 * memory.tax_ns / memory.now_ns(),
        busiest_10s_percent=busiest_percent(spent),
        seconds_to_recall_90=found, regions=regions, snapshots=snapshots)


def _wss_error(memory: SimulatedMemory, seen: _Seen) -> list[float]:
    truth = memory.truth(seen.start_ns, seen.end_ns)
    error = wss_error(seen.wss_bytes, float(truth["touched_bytes"].sum()))
    return [] if error is None else [error]


def _accuracy(memory: SimulatedMemory, second: deque[_Seen]) -> Accuracy:
    """Hot is what exceeds HOT_ABOVE in a second of 5 ms samples, whatever intervals the algorithm uses."""
    begin_ns, end_ns = second[0].start_ns, second[-1].end_ns
    found = hot_ranges([seen.regions for seen in second], _threshold(second))
    return measure(found, hot(memory.truth(begin_ns, end_ns), HOT_HZ))


def busiest_percent(spent: list[tuple[int, float]], span_ns: int = 10 * _SECOND_NS) -> float | None:
    """Percent of one CPU in the costliest stretch of about `span_ns` that begins after the first one.

    Args:
        spent: When, and what had been spent in all by then, in ascending order.
        span_ns: A stretch ends with the first entry at least so much later than its begin.

    Returns:
        None if there is no such stretch.
    """
    times, costs = np.array([at for at, _ in spent]), np.array([cost for _, cost in spent])
    begin = np.flatnonzero(times >= span_ns)
    end = np.searchsorted(times, times[begin] + span_ns)
    begin, end = begin[end < len(times)], end[end < len(times)]
    if not len(begin):
        return None
    return float((100 * (costs[end] - costs[begin]) / (times[end] - times[begin])).max())


def _threshold(second: deque[_Seen]) -> float:
    expected = [(seen.end_ns - seen.start_ns) / seen.sampling_ns * -np.expm1(-HOT_HZ * seen.sampling_ns * 1e-9)
                for seen in second]
    return float(sum(expected))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
