# SPDX-License-Identifier: GPL-2.0-only
"""Facts of the machine and of a target that decisions depend on, as they were read at one moment."""

from __future__ import annotations

from dataclasses import dataclass

REFAULTS_ABOVE_HZ = 100
"""Pages a second that were reclaimed and fetched back: at 0.1 ms each, a hundredth of the time is waited for them."""

HIGH_ABOVE = 0.01
"""Share of ten seconds in which some task waited for memory."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Memory pressure (PSI): time for which some or all tasks waited for memory."""

    some_us: int
    """Microseconds since boot in which at least one task waited."""
    full_us: int
    """Microseconds since boot in which all tasks waited at once."""
    some_avg10: float
    """Share of the last ten seconds, 0 to 1."""
    full_avg10: float

    @property
    def is_high(self) -> bool:
        """Whether the kernel takes what is in use: what it knows of hot and cold must not be disturbed then."""
        return self.some_avg10 > HIGH_ABOVE


@dataclass(frozen=True, slots=True)
class Delays:
    """For how long the threads of a target waited for memory since they began, in nanoseconds, as the kernel counts."""

    swapin_ns: int
    reclaim_ns: int
    thrashing_ns: int
    """Waiting for pages of files that had been in memory a moment before."""

    @property
    def total_ns(self) -> int:
        """Of all kinds; of several threads, it may be more than the time that has passed."""
        return self.swapin_ns + self.reclaim_ns + self.thrashing_ns


@dataclass(frozen=True, slots=True)
class Waits:
    """What a target waits for."""

    delays: Delays | None = None
    """None: the kernel does not count them."""
    pressure: Pressure | None = None
    """Of its control group; None: it has none of its own, or the kernel does not measure it."""
    share: float = 0.0
    """Of the time between the last two looks: how long its threads waited, together."""
    is_short: bool = False
    """The kernel takes what is in use, of the target's group or, where that cannot be told, of the machine."""


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """The machine's memory, or a cgroup's where a target is confined to one."""

    now_ns: int
    """CLOCK_MONOTONIC."""
    total_bytes: int
    free_bytes: int
    """Not used for anything, caches included (MemFree): what DAMON calls free_mem_rate."""
    available_bytes: int
    """What programs could still get without swapping (MemAvailable)."""
    swap_total_bytes: int
    swap_free_bytes: int
    swapped_out_bytes: int
    """Written to swap since boot, by anybody."""
    pressure: Pressure | None
    """None: the kernel does not measure it."""

    def share(self, metric: str) -> float | None:
        """The value of a metric as a share of 1; None: not known on this machine.

        Args:
            metric: `free_memory`, `available_memory`, `psi_some` or `psi_full`.
        """
        if metric in {"psi_some", "psi_full"}:
            if self.pressure is None:
                return None
            return self.pressure.some_avg10 if metric == "psi_some" else self.pressure.full_avg10
        size_bytes = {"free_memory": self.free_bytes, "available_memory": self.available_bytes}[metric]
        return size_bytes / self.total_bytes if self.total_bytes else None


@dataclass(frozen=True, slots=True)
class Evictions:
    """What became of a target's memory by our hand, since its schemes began."""

    evicted_bytes: int = 0
    """Seen to be gone after we asked for it."""
    returned_bytes: int = 0
    """Of these: touched again, and brought back."""
    returned_soon_bytes: int = 0
    """Of those: within ten seconds of going."""

    def __add__(self, other: Evictions) -> Evictions:
        """Both together."""
        return Evictions(self.evicted_bytes + other.evicted_bytes, self.returned_bytes + other.returned_bytes,
                         self.returned_soon_bytes + other.returned_soon_bytes)

    @property
    def away_bytes(self) -> int:
        """Of these: not brought back."""
        return max(self.evicted_bytes - self.returned_bytes, 0)


@dataclass(frozen=True, slots=True)
class Counters:
    """The target and the machine at one moment. Faults, CPU and pressure count from an unknown start."""

    now_ns: int
    """CLOCK_MONOTONIC."""
    rss_bytes: int
    swap_bytes: int
    minor_faults: int | None
    """None, as of the next two: nobody knows, for it ended before it was looked at again."""
    major_faults: int | None
    cpu_ns: int | None
    psi_some_us: int | None
    """Time for which some task of the machine waited for memory; None: not measured here."""
    psi_full_us: int | None
    """... for which all did."""
