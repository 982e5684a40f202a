# SPDX-License-Identifier: GPL-2.0-only
"""Together: the snapshots of several processes as if they were one, whose memory is the sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pagepulse.model.snapshot import REGION, Snapshot

_SUMMED = ("rss_bytes", "wss_bytes", "unknown_bytes", "unclearable_bytes")


def together(snapshots: Iterable[Snapshot], ends: Iterable[tuple[int, int]]) -> Iterator[Snapshot]:
    """After each snapshot, the sum over all processes as they were last seen. It has no regions, and pid 0.

    Memory that several processes share is counted for each: what one of them maps is not known to be another's.

    Args:
        snapshots: Of several processes, in order of their end.
        ends: When a process ended, and which: (end_ns, pid), in order of time. From then on it counts no more.
    """
    newest: dict[int, Snapshot] = {}
    ended = iter([*ends, (1 << 62, 0)])
    next_ns, next_pid = next(ended)
    total = np.zeros(0, np.int64)
    for snapshot in snapshots:
        if not len(total):
            total = np.zeros_like(_sizes(snapshot))
        while next_ns <= snapshot.end_ns:
            total -= _sizes(newest.pop(next_pid)) if next_pid in newest else 0
            next_ns, next_pid = next(ended)
        if snapshot.pid in newest:
            total -= _sizes(newest[snapshot.pid])
        newest[snapshot.pid] = snapshot
        total += _sizes(snapshot)
        summed = dict(zip(_SUMMED, total.tolist(), strict=False))
        yield replace(snapshot, pid=0, regions=np.empty(0, REGION), mappings=(), delays=None, pressure=None,
                      rss_bytes=summed["rss_bytes"], wss_bytes=summed["wss_bytes"],
                      unknown_bytes=summed["unknown_bytes"], unclearable_bytes=summed["unclearable_bytes"],
                      idle_bytes=tuple(total[len(_SUMMED):].tolist()))


def _sizes(snapshot: Snapshot) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([*(getattr(snapshot, name) for name in _SUMMED), *snapshot.idle_bytes], np.int64)
