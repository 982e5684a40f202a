# SPDX-License-Identifier: GPL-2.0-only
"""Snapshot: what one aggregation interval said about a target. Frozen; everything after it only reads.

A region row is what the model believes about a contiguous range of the target's addresses at the end of the interval.
Rates are per page and averaged over the region's present pages; sizes that speak of pages are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagepulse.model.system import Delays, Pressure

REGION = np.dtype([
    ("start", "<u8"),  # first byte
    ("end", "<u8"),  # one past the last byte
    ("since_ns", "<i8"),  # when this access pattern began; age = Snapshot.end_ns - since_ns
    ("present_bytes", "<u8"),  # resident when last read
    ("touched_bytes", "<u8"),  # estimated to be touched in this aggregation interval
    ("unknown_bytes", "<u8"),  # resident, but never yet seen with a clear accessed bit: neither hot nor cold
    ("unclearable_bytes", "<u8"),  # resident, but the kernel will not clear it for us: neither hot nor cold
    ("nr_accesses", "<f4"),  # expected sampling intervals of this aggregation in which a page is touched
    ("nr_accesses_error", "<f4"),  # its standard error
    ("rate_hz", "<f4"),  # estimated touches a second of one page
    ("mapping", "<u4"),  # index into Snapshot.mappings
])
"""One region. Regions of a snapshot are sorted by start and do not overlap; memory between them is not mapped."""

IDLE_EDGES_NS = (0, 1_000_000_000, 10_000_000_000, 60_000_000_000, 600_000_000_000)
"""Lower edges of `Snapshot.idle_bytes`: bytes not touched for at least that long."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one aggregation interval cost, in nanoseconds of one CPU."""

    cpu_ns: int
    """Our own: user and system time of the monitoring process. The BPF programs run inside our system calls."""
    tax_ns: int
    """The target's: pages it had to mark young again and TLB flushes, at their calibrated prices."""


class SharedRange(NamedTuple):
    """A range of the target's addresses whose pages are those of a file, or of shared memory."""

    start: int
    end: int
    file: str
    """Device and inode: the same in every process."""
    offset: int
    """Where in the file it begins."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one aggregation interval said about a target."""

    pid: int
    start_ns: int
    """CLOCK_MONOTONIC, as `end_ns` and `REGION.since_ns`. A recording's header ties it to the wall clock."""
    end_ns: int
    sampling_ns: int
    regions: npt.NDArray[np.void]
    """Shape (n,), dtype REGION."""
    mappings: tuple[str, ...]
    """Names of the mappings: a path, `[heap]`, `[stack]`, `[anon]`; `[anon: NAME]` where the target named it."""
    rss_bytes: int
    wss_bytes: int
    """Working set: bytes estimated to be touched in this aggregation interval."""
    idle_bytes: tuple[int, ...]
    """Bytes not touched for at least IDLE_EDGES_NS, known page by page; the first is all that could be watched."""
    unknown_bytes: int
    unclearable_bytes: int
    dropped: int
    """Reads that failed or were overtaken by a change of the page tables: samples lost, not cold."""
    cost: Cost
    delays: Delays | None = None
    """None: nobody asked, or the kernel does not count."""
    shared: tuple[SharedRange, ...] = ()
    """What others may have, too, sorted by address."""
    pressure: Pressure | None = None
    """Of the target's control group; None where it has none of its own, or the kernel does not measure it."""
    faults: npt.NDArray[np.uint64] | None = None
    """Page faults in each region, shape (n,), told by a probe; None: nobody looked."""
    spared: bool = False
    """The target was short of memory: nothing was cleared, only read."""

    def as_of(self, now_ns: int) -> Self:
        """The same at a later time, as if nothing had been touched since: every region is older."""
        later_ns = max(now_ns - self.end_ns, 0)
        return replace(self, start_ns=self.start_ns + later_ns, end_ns=self.end_ns + later_ns)

    @property
    def max_nr_accesses(self) -> float:
        """The largest possible `nr_accesses`: sampling intervals in this aggregation interval."""
        return (self.end_ns - self.start_ns) / self.sampling_ns
