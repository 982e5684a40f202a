# SPDX-License-Identifier: GPL-2.0-only
"""Refused: pages that the kernel would not clear are asked about again, because that may change.

A process that forks shares all its memory until the child ends, as a database does that writes a snapshot to its disk.
"""

from __future__ import annotations

import numpy as np

from pagepulse.model.memory import Memory
from pagepulse.model.windows import Windows

FEW, MANY = 16, 256
"""Windows asked about at once: usually, and when the last answer was that some can be cleared by now."""


def ask_again(windows: Windows, memory: Memory, count: int, rng: np.random.Generator) -> int:
    """Ask about some windows with refused pages. Pages that can be cleared by now are refused no more.

    Args:
        windows: All windows.
        memory: The target's memory.
        count: How many windows to ask about.
        rng: Source of randomness.

    Returns:
        How many to ask about next time.
    """
    refused = np.flatnonzero((windows.refused != 0) & windows.clearable)
    if not len(refused):
        return FEW
    first = int(rng.integers(len(refused)))
    asked = refused[first : first + count]  # neighbours: what ends for one page ends for those beside it
    before = windows.refused[asked]
    after = memory.unclearable(windows.tile[asked], before)
    windows.allow(asked, before & ~after)
    return MANY if (before != after).any() else FEW
