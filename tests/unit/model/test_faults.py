# SPDX-License-Identifier: GPL-2.0-only
"""Page faults go to the region that they are in."""

from __future__ import annotations

import numpy as np

from pagepulse.model.faults import Faulted, faults_by_region
from pagepulse.model.memory import PAGE, WINDOW

BASE = 0x7F00_0000_0000


def counted(regions: list[tuple[int, int]], faults: dict[int, int]) -> list[int]:
    """Faults of regions, both by their offsets from BASE."""
    starts, ends = (np.array(column, np.uint64) + np.uint64(BASE) for column in zip(*regions, strict=True))
    windows = np.array(list(faults), np.uint64) + np.uint64(BASE)
    return faults_by_region(starts, ends, told(windows, list(faults.values())))[0].tolist()


def told(windows: np.ndarray, counts: list[int], at_ns: int = 0) -> Faulted:
    return Faulted.none().with_new(windows, np.array(counts, np.uint64), at_ns)


def test_each_region_has_the_faults_of_its_windows():
    regions = [(0, 2 * WINDOW), (2 * WINDOW, 3 * WINDOW), (8 * WINDOW, 9 * WINDOW)]
    assert counted(regions, {8 * WINDOW: 5, WINDOW: 1, 0: 2}) == [3, 0, 5]


def test_what_is_in_no_region_is_in_none():
    assert counted([(WINDOW, 2 * WINDOW)], {0: 1, 2 * WINDOW: 1, 9 * WINDOW: 1}) == [0]


def test_a_region_that_begins_or_ends_inside_a_window_has_its_faults():
    assert counted([(PAGE, 5 * PAGE), (6 * WINDOW + PAGE, 7 * WINDOW)], {0: 4, 6 * WINDOW: 2}) == [4, 2]


def test_of_a_window_that_two_regions_share_the_first_has_them():
    assert counted([(0, 3 * PAGE), (3 * PAGE, 9 * PAGE)], {0: 4}) == [4, 0]


def test_no_regions_or_no_faults():
    none = np.empty(0, np.uint64)
    assert faults_by_region(none, none, Faulted.none())[0].tolist() == []
    faults, inside = faults_by_region(none, none, told(np.array([BASE], np.uint64), [1]))
    assert (faults.tolist(), inside.tolist()) == ([], [False])
    assert counted([(0, WINDOW)], {}) == [0]


def test_it_is_said_which_faults_are_in_a_region():
    windows = np.array([BASE, BASE + WINDOW], np.uint64)
    ends = np.array([BASE + WINDOW], np.uint64)
    _, inside = faults_by_region(windows[:1], ends, told(windows, [3, 5], at_ns=7))
    assert inside.tolist() == [True, False]
    left = told(windows, [3, 5], at_ns=7).where(~inside)
    assert (left.windows.tolist(), left.counts.tolist(), left.at_ns.tolist()) == ([BASE + WINDOW], [5], [7])
