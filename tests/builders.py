# SPDX-License-Identifier: GPL-2.0-only
"""Valid objects by default; a test changes the one thing it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE
from pagepulse.model.snapshot import IDLE_EDGES_NS, REGION, Cost, Snapshot
from pagepulse.model.system import Pressure, SystemFacts

MIB = 1024 * 1024
SECOND = 1_000_000_000
BASE = 0x7F00_0000_0000


def region(start: int = BASE, size: int = 2 * MIB, **changes: float) -> npt.NDArray[np.void]:
    """One row of dtype REGION: resident as a whole, idle, unless changed. Shape (1,)."""
    row = np.zeros(1, REGION)
    row["start"], row["end"], row["present_bytes"] = start, start + size, size
    for name, value in changes.items():
        row[name] = value
    return row


def touched_region(start: int = BASE, size: int = 2 * MIB, share: float = 1.0, **changes: float
                   ) -> npt.NDArray[np.void]:
    """A region of which this share is touched in each aggregation interval of 20 sampling intervals."""
    pages = round(share * size / PAGE)
    facts: dict[str, float] = {"touched_bytes": pages * PAGE, "nr_accesses": 20 * share,
                                "nr_accesses_error": share, "rate_hz": 10 * share}
    return region(start, size, **(facts | changes))


def snapshot(*regions: npt.NDArray[np.void], mappings: Sequence[str] = ("[anon]",), start_ns: int = 10 * SECOND,
             duration_ns: int = SECOND // 10, **changes: Any) -> Snapshot:
    """A snapshot of these regions, one idle region of 2 MiB unless given; totals follow from the regions."""
    rows = np.concatenate(regions) if regions else region()
    rss = int(rows["present_bytes"].sum())
    wss = int(rows["touched_bytes"].sum())
    facts: dict[str, Any] = {
        "pid": 4242, "start_ns": start_ns, "end_ns": start_ns + duration_ns, "sampling_ns": 5_000_000,
        "regions": rows, "mappings": tuple(mappings), "rss_bytes": rss, "wss_bytes": wss,
        "idle_bytes": (rss, *[rss - wss] * (len(IDLE_EDGES_NS) - 1)),
        "unknown_bytes": int(rows["unknown_bytes"].sum()), "unclearable_bytes": int(rows["unclearable_bytes"].sum()),
        "dropped": 0, "cost": Cost(cpu_ns=500_000, tax_ns=100_000)}
    return Snapshot(**(facts | changes))


def series(*heats: Sequence[float], size: int = 2 * MIB) -> list[Snapshot]:
    """Consecutive snapshots of the same adjoining regions: one sequence of touched shares for each snapshot."""
    return [snapshot(*[touched_region(BASE + i * size, size, share) for i, share in enumerate(shares)],
                     start_ns=10 * SECOND + n * SECOND // 10)
            for n, shares in enumerate(heats)]


def system(**changes: Any) -> SystemFacts:
    """Facts of a machine with 1 GiB, half of it free, without pressure."""
    facts: dict[str, Any] = {
        "now_ns": 0, "total_bytes": 1024 * MIB, "free_bytes": 512 * MIB, "available_bytes": 768 * MIB,
        "swap_total_bytes": 512 * MIB, "swap_free_bytes": 512 * MIB, "swapped_out_bytes": 0,
        "pressure": Pressure(some_us=0, full_us=0, some_avg10=0.0, full_avg10=0.0)}
    return SystemFacts(**(facts | changes))
