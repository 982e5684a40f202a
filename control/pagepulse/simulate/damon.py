# SPDX-License-Identifier: GPL-2.0-only
"""Damon: DAMON's algorithm for virtual addresses (ops "vaddr") on simulated memory: the baseline of every comparison.

As the kernel's main loop: choose a page of each region and clear it, sleep, check it; at the end of an aggregation
interval merge, tune the intervals, report, forget the counts, split. What is idealised: no accessed bit hides in a
TLB, nobody else clears bits, the kernel never fails to take a lock, and no scheme acts. Mappings do not change, so an
update of them only recomputes the size limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pagepulse.errors import UsageError
from pagepulse.model.memory import PAGE
from pagepulse.simulate import damon_rules as rules
from pagepulse.simulate.damon_rules import Regions
from pagepulse.simulate.memory import SimulatedMemory


@dataclass(frozen=True, slots=True)
class IntervalsGoal:
    """Tune the intervals until this share of the samples finds an access (intervals_goal of Linux 6.15)."""

    access_bp: int = 400
    aggrs: int = 3
    """Aggregation intervals between two adjustments."""
    min_sample_us: int = 5_000
    max_sample_us: int = 10_000_000


@dataclass(frozen=True, slots=True)
class DamonConfig:
    """The kernel's attributes, with the defaults of damo, and what a check costs."""

    sample_us: int = 5_000
    aggr_us: int = 100_000
    update_us: int = 1_000_000
    min_nr_regions: int = 10
    max_nr_regions: int = 1000
    intervals_goal: IntervalsGoal | None = None
    modulo_4gib: bool = False
    """Sample large regions as kernels before mid-2026 did: see `sample_addresses`."""
    mkold_ns: float = 250
    """Clearing one accessed bit: a page walk under the lock of the mapping."""
    young_ns: float = 250
    """Checking one."""
    wake_ns: float = 2_000
    """Waking the kernel thread. An estimate."""

    def __post_init__(self) -> None:
        if not 0 < self.sample_us <= self.aggr_us:
            raise UsageError("DAMON wants a sampling interval above 0 and no longer than the aggregation interval")
        if not 3 <= self.min_nr_regions <= self.max_nr_regions:
            raise UsageError("DAMON wants at least 3 regions, and no more at least than at most")


@dataclass(frozen=True, slots=True)
class DamonSnapshot:
    """What DAMON reports at the end of an aggregation interval (the damon_aggregated trace event)."""

    start_ns: int
    end_ns: int
    samples: int
    """The largest possible nr_accesses."""
    regions: Regions
    """Shape (n,), dtype DAMON_REGION: after the merge, before the split."""


class Damon:
    """One monitoring context with one target. All chance comes from the seed."""

    def __init__(self, memory: SimulatedMemory, config: DamonConfig | None = None, *, seed: int = 0) -> None:
        self.config = config or DamonConfig()
        self.sample_us = self.config.sample_us
        self.aggr_samples = self.config.aggr_us // self.config.sample_us
        self._memory = memory
        self._rng = np.random.default_rng(seed)
        regions = rules.new_regions(rules.three_regions(memory.mappings()))
        limit_bytes = rules.size_limit(regions, self.config.min_nr_regions)
        self._limit_bytes = -(-limit_bytes // PAGE) * PAGE
        self.regions = rules.split_to_limit(regions, self._limit_bytes)
        self._last_nr_regions = 0
        self._began_ns = memory.now_ns()
        self._samples = 0
        self._next_aggregation = self.aggr_samples
        self._next_update = self._update_samples()
        self._next_tuning = self.aggr_samples * (self.config.intervals_goal.aggrs if self.config.intervals_goal else 0)

    def snapshots(self, duration_ns: int) -> Iterator[DamonSnapshot]:
        """Monitor for this long, or up to one sampling interval longer."""
        end_ns = self._memory.now_ns() + duration_ns
        while self._memory.now_ns() < end_ns:
            max_nr_accesses = self._sample()
            done = self._samples >= self._next_aggregation
            if done:
                yield self._aggregate(max_nr_accesses)
            if self._samples >= self._next_update:
                self._next_update += self._update_samples()
                self._limit_bytes = rules.size_limit(self.regions, self.config.min_nr_regions)

    def _update_samples(self) -> int:
        return max(self.config.update_us // self.sample_us, 1)

    def _sample(self) -> int:
        """One sampling interval; the largest count so far in this aggregation interval."""
        memory, config = self._memory, self.config
        addresses = rules.sample_addresses(self.regions, self._rng, modulo_4gib=config.modulo_4gib)
        since_ns = memory.now_ns()
        memory.advance(self.sample_us * 1000, wake=False)
        touched = memory.sample_pages(addresses, since_ns)
        self.regions["nr_accesses"] += touched
        self._samples += 1
        memory.charge(config.wake_ns + addresses.size * (config.mkold_ns + config.young_ns),
                      int(touched.sum()) * memory.prices.retouch_ns)
        return int(self.regions["nr_accesses"].max())

    def _aggregate(self, max_nr_accesses: int) -> DamonSnapshot:
        self.regions = rules.merge(self.regions, max_nr_accesses, self._limit_bytes, self.config.max_nr_regions,
                                   self.aggr_samples)
        if self.config.intervals_goal is not None and self._samples >= self._next_tuning:
            self._next_tuning += self.aggr_samples * self.config.intervals_goal.aggrs
            self._tune_intervals(self.config.intervals_goal)
        self._next_aggregation += self.aggr_samples
        now_ns = self._memory.now_ns()
        snapshot = DamonSnapshot(self._began_ns, now_ns, self.aggr_samples, self.regions.copy())
        self._began_ns = now_ns
        self._forget_and_split()
        return snapshot

    def _tune_intervals(self, goal: IntervalsGoal) -> None:
        """Stretch or shrink both intervals, their ratio kept; ages keep their meaning in time (damon_set_attrs)."""
        stretch_bp = rules.adaptation_bp(self.regions, goal.access_bp, self.aggr_samples)
        if stretch_bp == 10_000:
            return
        sample_us = max(goal.min_sample_us, min(goal.max_sample_us, self.sample_us * stretch_bp // 10_000))
        self.regions["age"] = self.regions["age"] * self.sample_us // sample_us
        self.sample_us = sample_us

    def _forget_and_split(self) -> None:
        self.regions["last_nr_accesses"] = self.regions["nr_accesses"]
        self.regions["nr_accesses"] = 0
        pieces = rules.pieces_wanted(self.regions.size, self._last_nr_regions, self.config.max_nr_regions)
        if pieces > 1:
            self._last_nr_regions = self.regions.size
            self.regions = rules.split(self.regions, pieces, self._rng)
