# SPDX-License-Identifier: GPL-2.0-only
"""Finding the direct map: a page that moves between two looks at it is no reason to give up."""

from __future__ import annotations

import os

import numpy as np
import pytest

from pagepulse.errors import Unsupported
from pagepulse.kernel import reader
from pagepulse.kernel.reader import Identity, Reader

GIB = 1 << 30


def searching(monkeypatch, moved: int) -> Reader:
    """A reader that sees the right frames at one base only; pagemap tells others the first few times."""
    monkeypatch.setattr(reader, "_DIRECT_MAP_SPAN_GIB", 8)
    answers = [[1]] * moved + [[2]] * 10
    monkeypatch.setattr(reader, "_own_frames", lambda *_: answers.pop(0))
    one = Reader.__new__(Reader)
    one._base, one._pgd = np.zeros(1, np.uint64), np.array([20 * GIB], np.uint64)
    monkeypatch.setattr(one, "identity", lambda _pidfd: Identity(os.getpid(), 1, 1))
    monkeypatch.setattr(one, "_frames_at", lambda *_: [2] if one._base[0] == 16 * GIB else [0])
    return one


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_the_map_is_found_though_a_page_of_ours_moves_twice(monkeypatch, moved):
    assert searching(monkeypatch, moved)._find_direct_map() == 16 * GIB


def test_what_agrees_at_no_base_three_times_is_not_supported(monkeypatch):
    with pytest.raises(Unsupported, match="direct map"):
        searching(monkeypatch, 3)._find_direct_map()
