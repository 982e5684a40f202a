# SPDX-License-Identifier: GPL-2.0-only
"""Clearing: when a target is taken for one whose memory is mostly shared."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import BASE, MIB
from pagepulse.model.clearing import is_mostly_shared
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, Mapping
from pagepulse.model.windows import ALL_PAGES, Windows

HALF = 16 * MIB


def seen(*, refused: float, present: bool = True) -> tuple[Windows, list[Mapping]]:
    """A pool with a file and a heap; of the pool's pages, all judged, a share is refused."""
    mappings = [Mapping(BASE, BASE + HALF, "/dev/zero (deleted)", anonymous=False),
                Mapping(BASE + HALF, BASE + 2 * HALF, "[heap]")]
    windows = laid_out(mappings)
    windows.present[:] = ALL_PAGES if present else 0
    windows.known[:] = ALL_PAGES
    pool = np.flatnonzero(windows.mapping == 0)
    windows.refused[pool[: round(refused * len(pool))]] = ALL_PAGES
    windows.refused[windows.mapping == 1] = ALL_PAGES
    return windows, mappings


def laid_out(mappings: list[Mapping]) -> Windows:
    return Windows(mappings, spread(mappings, np.arange(BASE, BASE + 2 * HALF, CHUNK, dtype=np.uint64), 1 << 16))


@pytest.mark.parametrize(("refused", "rss_bytes", "expected"), [
    (0.9, 24 * MIB, True),
    (0.4, 24 * MIB, False),  # most of the pool can be cleared
    (0.9, 40 * MIB, False),  # most of the target is not in the pool
    (0.2, 17 * MIB, False),
])
def test_most_of_what_is_there_must_be_with_a_file_and_most_of_that_refused(refused, rss_bytes, expected):
    assert is_mostly_shared(*seen(refused=refused), rss_bytes) == expected


def test_memory_that_only_a_fork_shares_does_not_count():
    windows, mappings = seen(refused=0.9)
    anonymous = [Mapping(m.start, m.end, m.name) for m in mappings]
    assert not is_mostly_shared(windows, anonymous, 24 * MIB)


def test_what_is_cleared_all_at_once_already_and_what_is_locked_does_not_count():
    windows, (pool, heap) = seen(refused=0.9)
    for changed in ({"together": True}, {"clearable": False}):
        other = Mapping(pool.start, pool.end, pool.name, anonymous=False, **changed)
        assert not is_mostly_shared(windows, [other, heap], 24 * MIB)


def test_nothing_resident_is_not_shared():
    assert not is_mostly_shared(*seen(refused=0.9, present=False), 4 * PAGE)
