# SPDX-License-Identifier: GPL-2.0-only
"""Observation: what one read of some windows showed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import Masks

Indices = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]


class Observation(NamedTuple):
    """What a read of n windows showed beyond what was known."""

    windows: Indices
    """Windows whose read was good, shape (m,)."""
    watched: Masks
    """Of those: pages that were watched up to this read, shape (m,)."""
    woken: Masks
    """Of those: watched pages that are young now, shape (m,)."""
    since_ns: Counts
    """Of those: when the window was read before; a woken page was touched after that."""
    young: Masks
    """Of those: all resident young pages, shape (m,)."""
    returned: Masks
    """Of those: pages that we had paged out and that are resident again, shape (m,)."""
    taken_ns: int
    """When the read was taken."""
    lost: int
    """Windows whose page tables changed under the read."""
    returned_soon: Masks
    """Of `returned`: those that came back within SOON_NS of going, shape (m,)."""
