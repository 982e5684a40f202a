# SPDX-License-Identifier: GPL-2.0-only
"""What monitoring costs in simulation. Defaults: measured on a 2-core virtual machine with Linux 6.18."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Nanoseconds of one CPU, ours unless the target's is named.

    A clear of one window of 64 pages took 21 us, single pages 8.5 us each, both with a busy target on another core:
    that is 8 us for the flush and 0.2 us a page. In bulk, with nothing to flush, a page took 62 ns.
    """

    call_ns: float = 1_500
    """A system call that reads or clears, from Python, however little it does."""
    window_ns: float = 600
    """A window read: 200 in the kernel, the rest in numpy."""
    iovec_ns: float = 8_000
    """One range of a clear: it flushes the TLB of every core that the target runs on."""
    page_ns: float = 200
    """A page in the first CHEAP_AFTER pages of a range that is cleared."""
    bulk_page_ns: float = 62
    """Each page after these."""
    chunk_ns: float = 300
    """A huge page cleared as a whole."""
    split_ns: float = 153_000
    """A huge page cleared in part: the kernel splits it."""
    wake_ns: float = 30_000
    """Waking up in Python. An estimate: it has not been measured apart from what follows."""
    interval_ns: float = 2_000_000
    """An aggregation interval in Python, beside what follows."""
    estimate_ns: float = 20
    """A window in the estimate at the end of an interval."""
    region_ns: float = 300
    """A region in it."""
    update_ns: float = 1_000_000
    """Looking for new mappings."""
    retouch_ns: float = 160
    """The target's: it touches a page that was cleared, and marks it young again."""
    flush_tax_ns: float = 3_300
    """The target's: a flush interrupts it. 40 000 flushes a second slowed it down by 14 %."""


CHEAP_AFTER = 512
"""Pages of a range after which the flush is spread thin enough for the bulk price."""


def clear_ns(prices: Prices, calls: int, ranges: int, pages: int, bulk_pages: int) -> float:
    """The price of a clear: system calls, ranges, pages at the full price and at the bulk price."""
    return (calls * prices.call_ns + ranges * prices.iovec_ns + pages * prices.page_ns
            + bulk_pages * prices.bulk_page_ns)
