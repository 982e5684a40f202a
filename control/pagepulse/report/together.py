# SPDX-License-Identifier: GPL-2.0-only
"""Together: the snapshots of several processes as if they were one, whose memory is the sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.snapshot import IDLE_EDGES_NS, REGION, Snapshot

_SUMMED = ("rss_bytes", "wss_bytes", "unknown_bytes", "unclearable_bytes")
LONGEST_PAUSE_NS = 1_200_000_000_000
"""Between two snapshots of a process that sleeps: 10 minutes, and by its place in the round up to twice that."""

_RSS, _WSS, _UNKNOWN = range(3)
_COLUMNS = ("present_bytes", "touched_bytes", "unknown_bytes", "unclearable_bytes")

Sizes = npt.NDArray[np.int64]
"""Shape (9,): _SUMMED, then bytes idle for each of IDLE_EDGES_NS."""
_NOTHING: Sizes = np.zeros(len(_SUMMED) + len(IDLE_EDGES_NS), np.int64)


class Part(NamedTuple):
    """A part of a file that is the same memory in every process that maps it."""

    file: str
    offset: int
    size_bytes: int


class Summed(NamedTuple):
    """Sizes of a Snapshot, summed over processes."""

    rss_bytes: int
    wss_bytes: int
    unknown_bytes: int
    unclearable_bytes: int
    idle_bytes: tuple[int, ...]


NOTHING = Summed(0, 0, 0, 0, (0,) * len(IDLE_EDGES_NS))
"""Of no process."""


@dataclass(slots=True)
class _Seen:
    """What a process was last seen to have."""

    own: Sizes = field(default_factory=_NOTHING.copy)
    """What no other process is known to have, too."""
    shared: dict[Part, Sizes] = field(default_factory=dict)


class Together:
    """Sums over processes as they were last seen. What several of them map of one file counts once.

    Of a part that several map, the one that has most of it counts. What cannot be told apart is counted for each: pages
    that a fork left to both, and a file's pages that were written to in private.
    """

    def __init__(self) -> None:
        self._newest: dict[int, _Seen] = {}
        self._owners: dict[Part, dict[int, Sizes]] = {}
        self._counted: dict[Part, Sizes] = {}
        self._total = _NOTHING.copy()
        self.unknown_bytes = 0
        """Resident memory of processes of which nothing is known yet: it is unknown as a whole."""

    def add(self, snapshot: Snapshot) -> None:
        """Take in a snapshot; it stands for its process from now on."""
        self._replace(snapshot.pid, _seen(snapshot))

    def ended(self, pid: int) -> None:
        """This process is no more."""
        self._replace(pid, _Seen())
        self._newest.pop(pid, None)

    def _replace(self, pid: int, seen: _Seen) -> None:
        before = self._newest.get(pid, _Seen())
        self._newest[pid] = seen
        self._total += seen.own - before.own
        for part in before.shared.keys() | seen.shared.keys():
            sizes, old = seen.shared.get(part), before.shared.get(part)
            if sizes is not None and old is not None and np.array_equal(sizes, old):
                continue
            owners = self._owners.setdefault(part, {})
            if sizes is None:
                owners.pop(pid, None)
            else:
                owners[pid] = sizes
            self._total -= self._counted.pop(part, _NOTHING)
            if owners:
                counted = self._counted[part] = _once(np.array(list(owners.values())))
                self._total += counted
            else:
                del self._owners[part]

    @property
    def sizes(self) -> Summed:
        """The sum."""
        total = self._total.copy()
        total[[_RSS, _UNKNOWN]] += self.unknown_bytes
        rss, wss, unknown, unclearable, *idle = total.tolist()
        return Summed(rss, wss, unknown, unclearable, tuple(idle))

    def sum_like(self, snapshot: Snapshot) -> Snapshot:
        """The sum as a snapshot with the times of this one. It has no regions, and pid 0."""
        return replace(snapshot, pid=0, regions=np.empty(0, REGION), mappings=(), shared=(), delays=None, pressure=None,
                       faults=None, **self.sizes._asdict())


def together(snapshots: Iterable[Snapshot], ends: Iterable[tuple[int, int]],
             unknown: Iterable[tuple[int, int]] = (), since_ns: int = 0) -> Iterator[Snapshot]:
    """After each snapshot, the sum over all processes as they were last seen (`Together`).

    Args:
        snapshots: Of several processes, in order of their end.
        ends: When a process ended, and which: (end_ns, pid), in order of time. From then on it counts no more.
        unknown: From when on how much memory is that of processes of which nothing is known yet: (at_ns, bytes).
        since_ns: Sums from before then are not told of; what was seen before counts in those after.
    """
    sums = Together()
    events = sorted([*((at_ns, 0, pid) for at_ns, pid in ends), *((at_ns, 1, size) for at_ns, size in unknown)])
    place = 0
    for snapshot in snapshots:
        while place < len(events) and events[place][0] <= snapshot.end_ns:
            _, is_size, value = events[place]
            place += 1
            if is_size:
                sums.unknown_bytes = value
            else:
                sums.ended(value)
        sums.add(snapshot)
        if snapshot.end_ns >= since_ns:
            yield sums.sum_like(snapshot)


def _once(sizes: npt.NDArray[np.int64]) -> Sizes:
    """Of a part that n processes map, shape (n, 9): idle is only what nobody touches."""
    counted: Sizes = sizes.max(axis=0)
    counted[len(_SUMMED):] = np.minimum(counted[len(_SUMMED):], max(counted[_RSS] - counted[_WSS], 0))
    counted[len(_SUMMED)] = sizes[:, len(_SUMMED)].max()  # all that could be watched, idle or not
    return counted


def _seen(snapshot: Snapshot) -> _Seen:
    own = np.array([*(getattr(snapshot, name) for name in _SUMMED), *snapshot.idle_bytes], np.int64)
    shared: dict[Part, Sizes] = {}
    rows = snapshot.regions
    for one in snapshot.shared:
        overlap = (np.minimum(rows["end"], one.end).astype(np.int64)
                   - np.maximum(rows["start"], one.start).astype(np.int64))
        inside = overlap > 0
        share = overlap[inside] / (rows["end"] - rows["start"])[inside]
        sizes = _sizes(rows[inside], share, snapshot.end_ns)
        if sizes[_RSS]:
            part = Part(one.file, one.offset, one.end - one.start)
            shared[part] = shared.get(part, _NOTHING) + sizes
            own -= sizes
    return _Seen(np.maximum(own, 0), shared)


def _sizes(rows: npt.NDArray[np.void], share: npt.NDArray[np.float64], end_ns: int) -> Sizes:
    """Of these regions, as far as they lie in a part of a file. Their age tells for how long they have been idle."""
    summed = [float((rows[name] * share).sum()) for name in _COLUMNS]
    not_known = np.minimum(rows["unknown_bytes"] + rows["unclearable_bytes"], rows["present_bytes"])
    known = (rows["present_bytes"] - not_known) * share
    age_ns = np.where(rows["touched_bytes"] == 0, end_ns - rows["since_ns"], -1)
    idle = [float(known[age_ns >= edge_ns].sum()) if edge_ns else float(known.sum()) for edge_ns in IDLE_EDGES_NS]
    return np.array([*summed, *idle]).round().astype(np.int64)
