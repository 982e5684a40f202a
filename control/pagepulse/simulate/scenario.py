# SPDX-License-Identifier: GPL-2.0-only
"""Scenario: a simulated target by the name of what it does, as `pagepulse simulate` offers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pagepulse.errors import UsageError
from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.simulate.accuracy import HOT_ABOVE
from pagepulse.simulate.area import Area
from pagepulse.simulate.memory import SimulatedMemory
from pagepulse.simulate.pattern import Phases, Ranges, Stride, hot_set, hot_spots, moving_hot_set, zipf
from pagepulse.simulate.prices import Prices

BASE = 0x7F00_0000_0000
"""Where the target's memory begins."""

_SAMPLING_S = 0.005
HOT_HZ = float(-np.log1p(-HOT_ABOVE * _SAMPLING_S) / _SAMPLING_S)
"""Touches a second at which a page's nr_accesses, summed over one second of 5 ms samples, is expected to be 5."""

_SPOT = 4 * CHUNK
_ZIPF_PIECES = 2048
_ZIPF_EXPONENT = 0.99  # YCSB's
_PLACES = 16  # of a hot set that moves
_PHASE_NS = 10_000_000_000
_SHARED, _OFF_LRU = 0.2, 0.3  # of all pages
_LRU_AT_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a simulated target does. Sizes in bytes."""

    size_bytes: int
    hot_bytes: int
    pattern: str = "hot"
    """One of PATTERNS."""
    rate_hz: float = 100.0
    """Touches a second of each hot page (zipf: of the coldest that still counts as hot, HOT_HZ)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise UsageError(f"there is no pattern {self.pattern!r}", hint=f"one of: {', '.join(PATTERNS)}")
        if not CHUNK <= self.hot_bytes <= self.size_bytes or self.size_bytes % CHUNK or self.hot_bytes % CHUNK:
            raise UsageError("the size and its hot part must be multiples of 2 MiB, the part no larger than the whole")
        if self.rate_hz <= HOT_HZ:
            raise UsageError(f"a hot page must be touched more than {HOT_HZ:.1f} times a second",
                             why="nr_accesses above 5, summed over a second of 5 ms samples, is what hot means here")

    def memory(self, prices: Prices) -> SimulatedMemory:
        """The target."""
        return SimulatedMemory([PATTERNS[self.pattern](self)], seed=self.seed, prices=prices)


def _one_piece(scenario: Scenario) -> Ranges:
    return hot_set(scenario.size_bytes, scenario.hot_bytes, scenario.rate_hz, seed=scenario.seed)


def _spots(scenario: Scenario) -> Area:
    spot = min(_SPOT, scenario.hot_bytes)
    pattern = hot_spots(scenario.size_bytes, spot, scenario.hot_bytes // spot, scenario.rate_hz, seed=scenario.seed)
    return Area(BASE, scenario.size_bytes, pattern)


def _zipf(scenario: Scenario) -> Area:
    """Touches fall as 1 / rank; so many in all that just the hot bytes are touched HOT_HZ times a second or more."""
    piece = max(-(-scenario.size_bytes // _ZIPF_PIECES // CHUNK), 1) * CHUNK
    ranks = np.arange(1, -(-scenario.size_bytes // piece) + 1, dtype=np.float64)
    coldest_hot = scenario.hot_bytes / piece + 0.5
    touches_hz = HOT_HZ * piece / PAGE * float((ranks**-_ZIPF_EXPONENT).sum()) * coldest_hot**_ZIPF_EXPONENT
    return Area(BASE, scenario.size_bytes, zipf(scenario.size_bytes, touches_hz, exponent=_ZIPF_EXPONENT,
                                                chunk_bytes=piece, seed=scenario.seed))


def _moving(scenario: Scenario) -> Area:
    return Area(BASE, scenario.size_bytes, moving_hot_set(
        scenario.size_bytes, scenario.hot_bytes, scenario.rate_hz, dwell_ns=_PHASE_NS,
        step_bytes=max(scenario.size_bytes // _PLACES // PAGE * PAGE, scenario.hot_bytes)))


def _phases(scenario: Scenario) -> Area:
    """The hot part is in use for a while, and only half of it for as long."""
    whole = _one_piece(scenario)
    half = hot_set(scenario.size_bytes, scenario.hot_bytes // 2, scenario.rate_hz, seed=scenario.seed)
    return Area(BASE, scenario.size_bytes, Phases(((_PHASE_NS, whole), (_PHASE_NS, half))))


def _stride(scenario: Scenario) -> Area:
    stride = scenario.size_bytes // scenario.hot_bytes
    return Area(BASE, scenario.size_bytes, Stride(scenario.size_bytes // PAGE, stride, scenario.rate_hz))


PATTERNS: dict[str, Callable[[Scenario], Area]] = {
    "hot": lambda s: Area(BASE, s.size_bytes, _one_piece(s)),
    "spots": _spots,
    "zipf": _zipf,
    "moving": _moving,
    "phases": _phases,
    "stride": _stride,
    "huge": lambda s: Area(BASE, s.size_bytes, _one_piece(s), huge=True),
    "shared": lambda s: Area(BASE, s.size_bytes, _one_piece(s), shared=_SHARED),
    "off-lru": lambda s: Area(BASE, s.size_bytes, _one_piece(s), off_lru=_OFF_LRU, lru_at_ns=_LRU_AT_NS),
}
"""What a target can do, by name: one piece that is hot; spots of 8 MiB; pieces by rank; a hot set that moves each 10 s;
one that halves for every other 10 s; every n-th page; huge pages; a fifth of all pages mapped by others, too; three
tenths of them not clearable in the first 5 s."""
