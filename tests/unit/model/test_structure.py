# SPDX-License-Identifier: GPL-2.0-only
"""Where regions end, by what their windows have shown."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import BASE, SECOND
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, Mapping
from pagepulse.model.regions import STATE, areas_of, fit, split_at
from pagepulse.model.structure import restructured
from pagepulse.model.windows import Windows

NOW_NS = 1000 * SECOND
COUNT = 64
HALF = COUNT // 2


class Scene:
    """64 windows side by side, watched for half a second and never touched."""

    def __init__(self, *cuts: int) -> None:
        mappings = [Mapping(BASE, BASE + COUNT * WINDOW, "[anon]")]
        chunks = np.arange(BASE, BASE + COUNT * WINDOW, CHUNK, dtype=np.uint64)
        self.windows = Windows(mappings, spread(mappings, chunks, 1 << 20))
        self.windows.exposure_ns[:] = COUNT * SECOND / 2
        points = np.array([BASE + cut * WINDOW for cut in cuts], np.uint64)
        self.regions = split_at(fit(np.empty(0, STATE), areas_of(mappings, 10), NOW_NS), points)

    def touched(self, first: int, last: int, rate_hz: float, *, bounded: bool = False) -> None:
        """All pages of these windows, at this rate, or at this one at least."""
        self.windows.touches[first:last] = COUNT
        self.windows.exposure_ns[first:last] = COUNT * SECOND / rate_hz
        self.windows.bounded[first:last] = bounded

    def edges(self) -> list[int]:
        """Windows before which a region begins, but for the first."""
        result = restructured(self.regions, self.windows, (1, 1000), NOW_NS)
        return [(int(start) - BASE) // WINDOW for start in result["start"][1:]]


@pytest.mark.parametrize("cuts", [(), (16,), tuple(range(1, COUNT))])
def test_regions_end_where_the_rate_changes_wherever_they_ended_before(cuts):
    scene = Scene(*cuts)
    scene.touched(0, HALF, 100.0)
    assert scene.edges() == [HALF]


@pytest.mark.parametrize("probed", [(3,), (3, 4), (0, 9, 20), tuple(range(HALF))])
def test_a_region_of_lower_bounds_is_not_cut_around_those_whose_rate_is_known(probed):
    scene = Scene()
    scene.touched(0, HALF, 1.0, bounded=True)
    for window in probed:
        scene.touched(window, window + 1, 100.0)
    assert scene.edges() == [HALF]


def test_a_lower_bound_that_the_region_does_not_keep_is_a_region_of_its_own():
    scene = Scene()
    scene.touched(0, COUNT, 1.0)
    scene.touched(8, 16, 100.0, bounded=True)
    assert scene.edges() == [8, 16]


def test_each_small_mapping_is_a_witness_of_its_own():
    """Sixteen pages of one window say no more than one; sixteen pages that are mappings each say sixteen times that."""
    mappings = [Mapping(BASE + 2 * page * PAGE, BASE + (2 * page + 1) * PAGE, "[anon]") for page in range(COUNT)]
    windows = Windows(mappings, spread(mappings, np.array([BASE], np.uint64), 1 << 20))
    windows.exposure_ns[:] = SECOND / 2
    windows.touches[:8], windows.exposure_ns[:8] = 1, SECOND / 100
    regions = fit(np.empty(0, STATE), areas_of(mappings, 1), NOW_NS)
    result = restructured(regions, windows, (1, 1000), NOW_NS)
    assert result["start"].tolist() == [BASE, BASE + 16 * PAGE]


def test_windows_of_which_nothing_is_known_end_no_region():
    scene = Scene()
    scene.windows.exposure_ns[:] = 0
    assert scene.edges() == []
