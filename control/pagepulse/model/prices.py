# SPDX-License-Identifier: GPL-2.0-only
"""Prices: what watching costs on a machine, for what is reckoned and not measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost on this machine, in nanoseconds; calibrated at start."""

    window_read_ns: float
    """Learning from it included."""
    page_clear_ns: float
    range_clear_ns: float
    """Each range that is cleared costs this beside its pages; the flush interrupts the target for about as long."""
    retouch_ns: float
    """What the target pays when it first touches a page that was cleared."""
