# SPDX-License-Identifier: GPL-2.0-only
"""Engine: from reads of a target's memory to snapshots. It does not know where its reads come from.

An aggregation interval is `sweep()`, `begin()`, some `tick()`s, `finish()`:

    sweep    clear what is unknown or went idle
    begin    clear the probes
    tick     read the probes: which pages were touched since the last tick
    finish   read the probes once more, patrol, and say what each region did: a Snapshot

The working set is counted, not extrapolated, where pages are watched: their touches are seen. Of a dirty page only the
past is known; what share of dirty pages is touched in an interval comes from the probes of its region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagepulse.model import regions as region_model
from pagepulse.model.estimate import Estimate, estimate, watch_time_ns
from pagepulse.model.heritage import Heritage
from pagepulse.model.idle import idle_bytes
from pagepulse.model.layout import NO_CHUNKS, among, spread
from pagepulse.model.memory import CHUNK, WINDOW, WINDOW_PAGES, Addresses, Mapping, Memory
from pagepulse.model.observation import Indices, Observation
from pagepulse.model.patrol import Patrol
from pagepulse.model.placement import Placement
from pagepulse.model.plan import (
    choose_probes,
    choose_sweep,
    nearest_watched,
    pages_of,
    ranges_of,
    slices_of,
    without_cut_huge_pages,
)
from pagepulse.model.probe import Probe
from pagepulse.model.refused import FEW, ask_again
from pagepulse.model.regions import Rows
from pagepulse.model.snapshot import IDLE_EDGES_NS, Cost, Snapshot
from pagepulse.model.structure import Scale, between_regions, edges_of, owners, restructured, scale_of
from pagepulse.model.summary import rows_of, working_set_bytes
from pagepulse.model.wakes import Wakes
from pagepulse.model.windows import Windows, popcount
from pagepulse.model.work import Work

_NEWER = 0.1  # weight of older evidence when a window is probed
_SLICE_WINDOWS = 128  # a sweep is read back each 32 MiB: much later, hot pages would be young again
_RESTRUCTURE_NEWS_NS, _RESTRUCTURE_NS = 200_000_000, 4_000_000_000  # regions are cut and merged this often
_CLOSER_NS = 3_000_000_000  # for so long it is news what windows find that were laid between regions
_WAKE_READS, _WAKE_READS_EACH = 4096, 64  # windows read at once because neighbours woke, and because one did


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine measures. Times in nanoseconds."""

    sampling_ns: int
    aggregation_ns: int
    min_regions: int
    max_regions: int
    window_limit: int = 81920
    """20 GiB with every page watched; above, windows lie apart but where regions meet."""


class Engine:
    """Measures one target.

    Args:
        pid: The target, for the snapshots.
        memory: Its memory.
        options: How to measure.
        seed: Of the choice of windows.
    """

    def __init__(self, pid: int, memory: Memory, options: EngineOptions, seed: int = 0) -> None:
        self.pid = pid
        self.memory = memory
        self.options = options
        self.work = Work()
        self._rng = np.random.default_rng(seed)
        self._placement = Placement(options.window_limit)
        self.windows = Windows([], spread([], NO_CHUNKS, 1))
        self.regions: Rows = np.empty(0, region_model.STATE)
        self._edges: Indices = np.zeros(1, np.intp)
        self._owner: Indices = np.empty(0, np.intp)
        self._scale = Scale(*np.empty((4, 0)))
        self._swept_ns = np.empty(0, np.int64)
        self._rounds = Patrol(self.windows, self._rng)
        self._probe = Probe.none()
        self._wakes = Wakes(0)
        self._begun_ns = memory.now_ns()
        self._idle_bytes: tuple[int, ...] = tuple(0 for _ in IDLE_EDGES_NS)
        self._names: tuple[str, ...] = ()
        self._asked, self._restructured_ns, self._closer_ns = FEW, 0, -_CLOSER_NS
        self._is_news, self._has_woken = True, False  # probes contradict what was known; what slept woke
        self.heritage = Heritage.none()

    # --- the address space -----------------------------------------------------------------------------------------

    def update(self) -> bool:
        """Look at the target's mappings again; keep all that is known of what is still there.

        Returns:
            Whether anything was different.
        """
        mappings = self.memory.mappings()
        spans = np.array([(m.start, m.end) for m in mappings], np.uint64).reshape(-1, 2)
        chunks = self.memory.populated(spans)
        now_ns = self.memory.now_ns()
        changed = self._placement.follow(mappings, chunks, now_ns)
        if changed:
            self._tile_areas(mappings)
        if changed or self._placement.grow(self.windows, now_ns):
            self._place_windows()
        self._asked = ask_again(self.windows, self.memory, self._asked, self._rng)
        self._idle_bytes = idle_bytes(self.windows, IDLE_EDGES_NS, self.memory.now_ns())
        return changed

    def _tile_areas(self, mappings: list[Mapping]) -> None:
        areas = region_model.areas_of(mappings, max(self.options.max_regions // 2, 1))
        names = tuple(mappings[index].name for index in areas["mapping"])
        self._names = tuple(dict.fromkeys(names))
        position_of = {name: index for index, name in enumerate(self._names)}
        self._area_name = np.array([position_of[name] for name in names], np.uint32)
        now_ns = self.memory.now_ns()
        fitted = region_model.fit(self.heritage.onto(self.regions, mappings, now_ns), areas, now_ns)
        self.regions = region_model.split_to_minimum(fitted, self.options.min_regions, WINDOW)

    def _place_windows(self) -> None:
        old, self.windows = self.windows, self._placement.windows_after(self.windows)
        swept = np.zeros(len(self.windows), np.int64)
        if len(old) and len(swept):
            position = np.minimum(np.searchsorted(old.first, self.windows.first), len(old) - 1)
            same = old.first[position] == self.windows.first
            swept[same] = self._swept_ns[position[same]]
        self._swept_ns, self._wakes = swept, Wakes(len(self.windows))
        self._set_regions(self.regions)
        self._rounds = Patrol(self.windows, self._rng)
        self._probe = Probe.none()
        self._read(np.flatnonzero(self.windows.read_ns == 0))

    def _set_regions(self, regions: Rows) -> None:
        self.regions = regions
        self._edges = edges_of(regions, self.windows)
        self._owner = owners(self._edges)
        self._scale = scale_of(self.windows, regions, self._edges, *self._placement.target)

    # --- an aggregation interval -----------------------------------------------------------------------------------

    def sweep(self, pages: int, range_pages: float = 0.0) -> None:
        """Start an aggregation interval: clear memory that is unknown, or that went idle.

        Args:
            pages: At most so many.
            range_pages: What a range costs, in pages: windows that lie apart are dearer.
        """
        now_ns = self._begun_ns = self.memory.now_ns()
        chosen = choose_sweep(self.windows, self.regions, self._owner, self._swept_ns, now_ns, pages, range_pages)
        self._swept_ns[chosen] = now_ns
        for part in slices_of(self.windows, chosen, _SLICE_WINDOWS):
            self._sweep(part)

    def _sweep(self, part: Indices) -> None:
        # The clear takes the trace of what was touched since the last read, and would split a new huge page.
        before = self._read(part)
        self._count_wakes(before)
        dirty = before.windows[(before.young & ~self.windows.refused[before.windows]) != 0]
        ready = without_cut_huge_pages(self.windows, dirty)
        if len(ready):
            self._clear(ready)
            self._count_wakes(self._read(ready))

    def begin(self, probes: int) -> int | None:
        """Clear the probes.

        Args:
            probes: How many windows.

        Returns:
            When they were cleared: ticks count from there. None if there is nothing to tick for.
        """
        chosen = choose_probes(self.windows, self.regions, self._owner, probes, self._rng)
        self._probe = self._start_probe(chosen)
        return self._probe.begun_ns if len(self._probe.windows) else None

    def tick(self) -> None:
        """Read the probes."""
        probe = self._probe
        if len(probe.windows):
            probe.tick(self.memory.read_windows(probe.tiles))
            self.work.windows_read += len(probe.windows)

    def hint(self, addresses: Addresses) -> bool:
        """Windows where something happened (page faults): the next patrol reads them.

        Returns:
            Whether any of them lies where no memory was known yet: it is time for an update.
        """
        self._rounds.hinted = addresses
        chunks = addresses // np.uint64(CHUNK) * np.uint64(CHUNK)
        return len(among(chunks, self._placement.chunks)) < len(chunks)

    def evicted(self, runs: Addresses, idle_since_ns: int) -> None:
        """Pages, shape (n, 2), start and end, were paged out, idle since then: from now on their return is counted."""
        self.windows.mark_evicted(runs, idle_since_ns, self.memory.now_ns())

    def look_for_returned(self, limit: int | None = None) -> None:
        """See what came back in windows from which something was paged out: in so many, or in all."""
        self._read(self.windows.with_evicted(limit))

    def take_work(self) -> Work:
        """What was done since this was last asked."""
        work, self.work = self.work, Work()
        return work

    def finish(self, patrol: int, *, others_clear: bool = False) -> Snapshot:
        """End the aggregation interval. What it cost is for the caller to fill in.

        Args:
            patrol: How many watched windows to read; if others clear, of all.
            others_clear: We do not.
        """
        ended_ns = self.memory.now_ns()
        self.tick()
        self._learn_from_probe(self.memory.now_ns())
        self._read_back_along()
        self.patrol(patrol, ended_ns, also_dirty=others_clear)
        now_ns = self.memory.now_ns()
        if self._has_woken:  # where a part of a region woke, the rest still sleeps: that is to be told apart at once
            self._restructure_if_due(now_ns, _RESTRUCTURE_NEWS_NS)
        snapshot = self._snapshot(self._estimate(now_ns), now_ns)
        self._wakes.clear()
        is_news = self._is_news or self._has_woken or now_ns - self._closer_ns < _CLOSER_NS
        self._restructure_if_due(now_ns, _RESTRUCTURE_NEWS_NS if is_news else _RESTRUCTURE_NS)
        if self._restructured_ns == now_ns:
            self._look_closer(now_ns)
        return snapshot

    def _read(self, chosen: Indices) -> Observation:
        read = self.memory.read_windows(self.windows.tile[chosen])
        observation = self.windows.observe(chosen, read)
        self.work.windows_read += len(chosen)
        self.work.windows_lost += observation.lost
        self.work.saw_back(int(popcount(observation.returned).sum()), int(popcount(observation.returned_soon).sum()))
        return observation

    def _clear(self, chosen: Indices) -> None:
        ranges = ranges_of(self.windows, chosen)
        self.memory.clear(ranges)
        self.work.ranges_cleared += len(ranges)
        self.work.pages_cleared += pages_of(self.windows, chosen)

    # --- probe -----------------------------------------------------------------------------------------------------

    def _start_probe(self, chosen: Indices) -> Probe:
        if not len(chosen):
            return Probe.none()
        along = self._read_along(chosen)
        before = self._read(chosen)
        self._count_wakes(before)
        dirty = before.young & ~self.windows.refused[before.windows]
        chosen = without_cut_huge_pages(self.windows, before.windows[dirty != 0])
        if not len(chosen):
            return Probe.none()
        dirty = dirty[np.searchsorted(before.windows, chosen)]
        before_ns = self.memory.now_ns()
        self._clear(chosen)
        cleared_ns = (before_ns + self.memory.now_ns()) // 2
        after = self._read(chosen)
        if after.lost:
            dirty = dirty[np.isin(chosen, after.windows)]
        return self._judge_clear(after, dirty, along, cleared_ns)

    def _judge_clear(self, after: Observation, dirty: npt.NDArray[np.uint64], along: Indices, cleared_ns: int) -> Probe:
        """What is young right after the clear was skipped by the kernel, or was touched again at once: ask which."""
        chosen, windows = after.windows, self.windows
        still = dirty & after.young
        asked = np.flatnonzero(still)
        refused = np.zeros_like(still)
        if len(asked):
            refused[asked] = self.memory.unclearable(windows.tile[chosen[asked]], still[asked])
        windows.refuse(chosen, refused)
        windows.know(chosen, still & ~refused)
        return Probe(chosen, windows.tile[chosen], dirty & ~refused, still & ~refused, cleared_ns, along)

    def _learn_from_probe(self, now_ns: int) -> None:
        probe = self._probe
        if not len(probe.windows):
            return
        self.work.windows_lost += self.windows.observe(probe.windows, probe.whole_read).lost
        outcome = probe.outcome(self.options.sampling_ns, self.options.aggregation_ns)
        self.work.pages_retouched += int(outcome.hits.sum())
        # A huge page is one witness, not 512.
        weight = np.where(self.windows.huge[probe.windows], 1 / WINDOW_PAGES, 1.0).astype(np.float64)
        owner = self._owner[probe.windows]
        self.regions, contradicted = region_model.learn(self.regions, owner, outcome, weight, now_ns)
        if contradicted.any():
            self._is_news = True
            self.windows.forget_rates(np.flatnonzero(contradicted[self._owner]))
        self.windows.probed_ns[probe.windows] = now_ns
        self.windows.book(probe.windows, outcome.hits * weight, outcome.exposure_ns * weight,
                          np.where(self.windows.bounded[probe.windows], 0.0, _NEWER))
        self.windows.bounded[probe.windows] = False

    def _read_along(self, chosen: Indices) -> Indices:
        """What will be cleared along with these: its trace goes, too."""
        if not self.windows.together[chosen].any():
            return np.empty(0, np.intp)
        along = np.setdiff1d(np.flatnonzero(self.windows.together), chosen, assume_unique=True)
        self._count_wakes(self._read(along))
        return along

    def _read_back_along(self) -> None:
        """Of pages that were cleared along with the probes: which stayed clear, and which were touched again."""
        along, windows = self._probe.along, self.windows
        if not len(along):
            return
        before = windows.dirty(along)
        seen = self._read(along)
        self._count_wakes(seen)
        index = seen.windows
        before = before[np.searchsorted(along, index)]
        cleared, again = popcount(before), popcount(before & seen.young)
        windows.know(index, windows.present[index])
        self.work.pages_retouched += round(float((again * windows.weight[index]).sum()))
        windows.book_wakes(index, cleared, again, watch_time_ns(cleared, again, seen.taken_ns - seen.since_ns))

    # --- patrol ----------------------------------------------------------------------------------------------------

    def patrol(self, count: int, since_ns: int, *, also_dirty: bool = False) -> None:
        """Read so many windows in turn, watched or also dirty ones, but for those that were read since then."""
        chosen = self._rounds.next(count, since_ns, also_dirty=also_dirty)
        if not len(chosen):
            return
        seen = self._read(chosen)
        self._count_wakes(seen)
        woke = np.sort(seen.windows[seen.woken != 0])
        if not len(woke):
            return
        neighbours = nearest_watched(self.windows, woke, chosen, min(_WAKE_READS, _WAKE_READS_EACH * len(woke)))
        if len(neighbours):
            self._count_wakes(self._read(neighbours))

    def _count_wakes(self, seen: Observation) -> None:
        woken, is_news = self._wakes.book(seen, self.windows, self._owner, self.regions)
        self.work.pages_woken += woken
        self._has_woken |= is_news

    # --- what it means ---------------------------------------------------------------------------------------------

    def _estimate(self, now_ns: int) -> Estimate:
        interval_ns = now_ns - self._begun_ns
        woken = self._wakes.by_region(self._edges)
        regions, result = estimate(self.regions, self.windows, self._edges, woken,
                                   interval_ns / self.options.sampling_ns, interval_ns, self.options.aggregation_ns,
                                   now_ns)
        self.regions = regions
        return result

    def _snapshot(self, result: Estimate, now_ns: int) -> Snapshot:
        rows = rows_of(self.regions, result, self._scale)
        rows["mapping"] = self._area_name[self.regions["area"]] if len(rows) else 0
        return Snapshot(
            pid=self.pid, start_ns=self._begun_ns, end_ns=now_ns, sampling_ns=self.options.sampling_ns, regions=rows,
            mappings=self._names, rss_bytes=self.memory.rss_bytes(),
            wss_bytes=working_set_bytes(self.regions, result, self._scale), idle_bytes=self._idle_bytes,
            unknown_bytes=int(rows["unknown_bytes"].sum()), unclearable_bytes=int(rows["unclearable_bytes"].sum()),
            dropped=self.work.windows_lost, cost=Cost(0, 0))

    def _restructure_if_due(self, now_ns: int, pause_ns: int) -> None:
        if now_ns - self._restructured_ns <= pause_ns:
            return
        self._is_news, self._has_woken, self._restructured_ns = False, False, now_ns
        bounds = (self.options.min_regions, self.options.max_regions)
        regions = restructured(self.regions, self.windows, bounds, now_ns)
        if len(regions) != len(self.regions) or not np.array_equal(regions["start"], self.regions["start"]):
            self._set_regions(regions)

    def _look_closer(self, now_ns: int) -> None:
        if self._placement.look_closer(between_regions(self.windows, self._owner, self._placement.dense_limit)):
            self._place_windows()
            self._closer_ns = now_ns
