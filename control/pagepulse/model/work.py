# SPDX-License-Identifier: GPL-2.0-only
"""Work: what was done to a target, and what it paid for it."""

from __future__ import annotations

from dataclasses import dataclass

from pagepulse.model.prices import Prices


@dataclass(slots=True)
class Work:
    """What was done to the target in one aggregation interval: what the tax is reckoned from."""

    ranges_cleared: int = 0
    pages_cleared: int = 0
    pages_retouched: int = 0
    """Cleared pages that the target had to mark young again: in a probe,"""
    pages_woken: int = 0
    """and where they had been watched."""
    pages_returned: int = 0
    """Pages that we had paged out and that the target fetched back."""
    pages_returned_soon: int = 0
    """Of these: within SOON_NS of going."""
    windows_read: int = 0
    windows_lost: int = 0

    def saw_back(self, pages: int, soon: int) -> None:
        """So many paged-out pages are there again, and of these so many within SOON_NS."""
        self.pages_returned += pages
        self.pages_returned_soon += soon

    def tax_ns(self, prices: Prices) -> float:
        """What the target paid for what is done over and over: a flush for each range, and pages touched again."""
        return self.ranges_cleared * prices.range_clear_ns + self.pages_retouched * prices.retouch_ns

    def wake_tax_ns(self, prices: Prices) -> float:
        """What it paid, once, where memory woke up that had slept."""
        return self.pages_woken * prices.retouch_ns
