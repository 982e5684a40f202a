# SPDX-License-Identifier: GPL-2.0-only
"""Phrases that several reports share, and names of the target made harmless."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pagepulse.units import format_share, format_size, format_time_ns

if TYPE_CHECKING:  # numpy: `status` prints words, and shall not wait for it
    from pagepulse.model.snapshot import Snapshot

UNKNOWN_MEANS = "never yet seen untouched, so neither hot nor cold"
UNCLEARABLE_MEANS = "shared, locked, hugetlb or pinned: the kernel does not clear its accessed bits for us"
CLEARED_TOGETHER = ("cleared by clear_refs, all at once and with no TLB flush: what stays in the TLB looks idle for up "
                    "to a second, and nothing shorter is told apart")
SPARED_MEANS = ("nothing was cleared, so as not to disturb the kernel's own search for cold memory: what is in use is "
                "known as far as that search went")
DROPPED_MEANS = "reads that failed or were overtaken"


def plain(name: str) -> str:
    """A name of the target that can be printed: no control characters, nothing that is not UTF-8."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def shortened(name: str, width: int) -> str:
    """At most `width` characters of a printable name. Of a path the end is kept: it tells most."""
    name = plain(name)
    if len(name) <= width:
        return name
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= width else name[:max(width - 2, 0)] + ".."[:width]


def counted(count: int, thing: str) -> str:
    """`1 sample`, `1,234 samples`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def not_known_yet(processes: int, size_bytes: int) -> str:
    """`3 processes of 60 MiB are not known yet`."""
    subject, verb = ("process", "is") if processes == 1 else ("processes", "are")
    return f"{processes:,} {subject} of {format_size(size_bytes)} {verb} not known yet"


def wrapped(lines: Iterable[str], width: int) -> Iterator[str]:
    """Sentences, broken so that they fit the terminal."""
    for line in lines:
        yield from textwrap.wrap(line, width, subsequent_indent="  ")


def percent(part: float, whole: float) -> str:
    """`80 %`, `0.3 %`: two significant digits; `?` of nothing."""
    if whole <= 0:
        return "? %"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.2g} %" if share >= 0.01 else "<0.01 %"


def number(value: float) -> float | None:
    """A number as JSON has it: None where there is none, at most six significant digits."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def not_known(snapshot: Snapshot) -> list[str]:
    """One line for each thing that this snapshot cannot tell; nothing if it can tell all."""
    lost = f"not known: {counted(snapshot.dropped, 'sample')} lost: {DROPPED_MEANS}"
    return [*not_watched(snapshot), *([lost] if snapshot.dropped else [])]


def waits(snapshot: Snapshot) -> list[str]:
    """One line for each way in which the target waits for memory; nothing where it does not, or nobody knows."""
    lines = []
    delays, pressure = snapshot.delays, snapshot.pressure
    if delays is not None and delays.total_ns:
        lines.append(f"it has waited {format_time_ns(delays.swapin_ns)} for swap-in, "
                     f"{format_time_ns(delays.reclaim_ns)} in reclaim and {format_time_ns(delays.thrashing_ns)} in "
                     "thrashing, all its threads together")
    if pressure is not None and pressure.some_avg10:
        lines.append(f"of its control group some wait for memory {format_share(pressure.some_avg10)} of the time, all "
                     f"{format_share(pressure.full_avg10)}")
    if snapshot.spared:
        lines.append(SPARED_MEANS)
    return lines


def not_watched(snapshot: Snapshot) -> list[str]:
    """One line for each kind of memory that cannot be told hot from cold at the time of this snapshot."""
    lines = []
    for size_bytes, word, meaning in ((snapshot.unknown_bytes, "unknown", UNKNOWN_MEANS),
                                      (snapshot.unclearable_bytes, "unclearable", UNCLEARABLE_MEANS)):
        if size_bytes:
            share = percent(size_bytes, snapshot.rss_bytes)
            lines.append(f"not known: {format_size(size_bytes)} ({share}) {word}: {meaning}")
    return lines
