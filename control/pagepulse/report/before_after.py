# SPDX-License-Identifier: GPL-2.0-only
"""What a run of schemes came to for the target: its memory, faults, CPU and the pressure, before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pagepulse.model.system import Counters
from pagepulse.units import format_share, format_size, format_time_ns

_APART_NS, _MOST_POINTS = 450_000_000, 4096


@dataclass(frozen=True, slots=True)
class Point:
    """The target's memory at one moment of a run."""

    since_ns: int
    """Since the run began."""
    rss_bytes: int
    swap_bytes: int
    given_back_bytes: int
    """Evicted by our hand so far, less what came back."""


class Course:
    """Points of a run in the order of time, as many as a picture can show: of a long run they lie further apart."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._apart_ns = _APART_NS

    def is_due(self, since_ns: int) -> bool:
        """Whether the next point may be as early as this."""
        return not self.points or since_ns - self.points[-1].since_ns >= self._apart_ns

    def add(self, point: Point) -> None:
        """Keep it."""
        self.points.append(point)
        if len(self.points) > _MOST_POINTS:
            self.points = self.points[::2]
            self._apart_ns *= 2


@dataclass(frozen=True, slots=True)
class Change:
    """What happened between two moments."""

    duration_s: float
    rss_bytes: int
    swap_bytes: int
    minor_faults: int | None
    """None, as of the next two: not known, the target ended too soon."""
    major_faults: int | None
    cpu_percent: float | None
    """The target's, of one CPU."""
    psi_some_percent: float | None
    psi_full_percent: float | None


def change(before: Counters, after: Counters) -> Change:
    """From one moment to a later one."""
    span_ns = max(after.now_ns - before.now_ns, 1)

    def percent(first: int | None, last: int | None) -> float | None:
        return None if first is None or last is None else round(1e5 * (last - first) / span_ns, 3)

    cpu_ns = _difference(before.cpu_ns, after.cpu_ns)
    return Change(
        round(span_ns / 1e9, 3), after.rss_bytes - before.rss_bytes, after.swap_bytes - before.swap_bytes,
        _difference(before.minor_faults, after.minor_faults), _difference(before.major_faults, after.major_faults),
        None if cpu_ns is None else round(100 * cpu_ns / span_ns, 2),
        percent(before.psi_some_us, after.psi_some_us), percent(before.psi_full_us, after.psi_full_us))


def _difference(first: int | None, last: int | None) -> int | None:
    return None if first is None or last is None else last - first


def before_after_json(before: Counters, after: Counters) -> dict[str, Any]:
    """As `run --json` prints it."""
    return {"before": asdict(before), "after": asdict(after), "change": asdict(change(before, after))}


def before_after_text(before: Counters, after: Counters) -> list[str]:
    """Lines for people."""
    between = change(before, after)
    lines = [f"{'':<10}{'before':>10}{'after':>10}"]
    for name, column in (("resident", "rss_bytes"), ("swapped", "swap_bytes")):
        first, last = (format_size(getattr(counters, column)) for counters in (before, after))
        lines.append(f"{name:<10}{first:>10}{last:>10}")
    return lines + course_words(between, "target")


def course_words(between: Change, whose: str) -> list[str]:
    """Faults, CPU and pressure, in lines for people.

    Args:
        between: What happened.
        whose: Who used the CPU.
    """
    within = f"within {format_time_ns(between.duration_s * 1e9)}"
    if between.major_faults is None or between.minor_faults is None or between.cpu_percent is None:
        lines = [f"{within}: faults and CPU used by the {whose}: not known"]
    else:
        lines = [(f"{within}: {between.major_faults} major and {between.minor_faults} minor faults, "
                 f"{between.cpu_percent:.1f} % of a CPU used by the {whose}")]
    if between.psi_some_percent is not None and between.psi_full_percent is not None:
        lines.append(f"waiting for memory, on the whole machine: some {format_share(between.psi_some_percent / 100)} "
                     f"of the time, all {format_share(between.psi_full_percent / 100)}")
    return lines
