# SPDX-License-Identifier: GPL-2.0-only
"""The address axis: nothing mapped is lost, no hole takes room, nothing is too small to see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import BASE, MIB, region, snapshot
from pagepulse.model.memory import PAGE
from pagepulse.report.folding import SpanCollector, Spans, fold

GIB = 1024 * MIB


def spans_of(*snapshots):
    collector = SpanCollector()
    for one in snapshots:
        collector.add(one)
    return collector.spans()


@st.composite
def spans(draw):
    steps = draw(st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 2**20), st.integers(0, 3)), min_size=1,
                          max_size=60))
    at, rows = BASE, []
    for gap, pages, name in steps:
        rows.append((at + gap * PAGE, at + (gap + pages) * PAGE, name))
        at = rows[-1][1]
    start, end, name = np.array(rows, np.uint64).T
    return Spans(start, end, name.astype(np.int64), ("a", "b", "c", "d"))


@given(spans(), st.integers(20, 300), st.integers(1, 5))
def test_the_axis_has_the_cells_asked_for_and_every_group_its_minimum(given_spans, cells, min_cells):
    axis = fold(given_spans, cells, min_cells=min_cells)
    assert axis.cells == cells == sum(group.cells for group in axis.groups)
    assert all(group.cells >= min_cells for group in axis.groups)
    assert sum(group.size_bytes for group in axis.groups) == int((given_spans.end - given_spans.start).sum())


@given(spans(), st.integers(20, 300))
def test_addresses_keep_their_order_and_holes_have_no_width(given_spans, cells):
    axis = fold(given_spans, cells)
    starts, ends = axis.cell_of(given_spans.start), axis.cell_of(given_spans.end)
    assert (starts < ends).all()
    assert np.allclose(starts[1:], ends[:-1])
    assert starts[0] == 0
    assert ends[-1] == cells


@given(spans(), st.integers(20, 300), st.integers(1, 12))
def test_no_more_groups_than_wanted(given_spans, cells, max_groups):
    assert 1 <= len(fold(given_spans, cells, max_groups=max_groups).groups) <= max_groups


@given(spans(), st.integers(20, 300))
def test_the_first_address_of_a_cell_lies_in_its_group_and_comes_back(given_spans, cells):
    axis = fold(given_spans, cells)
    for cell in range(cells):
        group = axis.group_of(cell)
        assert group.first_cell <= cell < group.first_cell + group.cells
        assert group.start <= axis.address_of(cell) < group.end


def test_a_hundred_thousand_mappings_fold_into_what_the_picture_can_name():
    start = BASE + np.arange(100_000, dtype=np.uint64) * np.uint64(32 * MIB)
    many = Spans(start, start + np.uint64(PAGE), np.arange(100_000) % 7, tuple("abcdefg"))
    axis = fold(many, 24, max_groups=12)
    assert len(axis.groups) <= 12
    assert axis.groups[0].others == 6


def test_large_mappings_get_room_by_size_and_keep_their_name_among_small_neighbours():
    axis = fold(spans_of(snapshot(region(BASE, GIB), region(BASE + 2 * GIB, 3 * GIB, mapping=1),
                                  region(BASE + 6 * GIB, PAGE, mapping=2), mappings=("one", "three", "tiny"))), 80)
    assert [(group.name, group.cells) for group in axis.groups] == [("one", 20), ("three", 59), ("tiny", 1)]


def test_a_mapping_that_grows_or_goes_stays_on_the_axis():
    seen = spans_of(snapshot(region(BASE, MIB), mappings=("[heap]",)),
                    snapshot(region(BASE, 3 * MIB), mappings=("[heap]",)),
                    snapshot(region(BASE + 8 * MIB, MIB), mappings=("other",)))
    assert seen.start.tolist() == [BASE, BASE + 8 * MIB]
    assert seen.end.tolist() == [BASE + 3 * MIB, BASE + 9 * MIB]


def test_of_two_mappings_at_one_address_the_newer_gives_the_name():
    old, new = (snapshot(region(BASE, 4 * MIB), mappings=("old",)), snapshot(region(BASE, MIB), mappings=("new",)))
    seen = spans_of(old, new)
    assert [seen.names[name] for name in seen.name] == ["new", "old"]
    assert [seen.names[name] for name in spans_of(old, new, old).name] == ["old"]


@pytest.mark.parametrize(("gap", "groups"), [(PAGE, 1), (GIB, 2)])
def test_parts_of_one_mapping_are_one_group_if_they_are_near(gap, groups):
    axis = fold(spans_of(snapshot(region(BASE, MIB), region(BASE + MIB + gap, MIB))), 80)
    assert len(axis.groups) == groups
