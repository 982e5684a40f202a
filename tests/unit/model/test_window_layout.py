# SPDX-License-Identifier: GPL-2.0-only
"""Layout: what windows lie where, and for how many others each stands."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fakes import BASE
from pagepulse.model.layout import NO_CHUNKS, among, spread, with_dense
from pagepulse.model.memory import CHUNK, WINDOW, Mapping

HEAP = [Mapping(BASE, BASE + 1024 * CHUNK, "[heap]")]
CHUNKS = np.uint64(BASE) + np.arange(1024, dtype=np.uint64) * np.uint64(CHUNK)


@given(st.sampled_from([4096, 2000, 1024, 1000, 300, 64]))
def test_windows_stand_for_all_that_there_are(limit):
    layout = spread(HEAP, CHUNKS, limit)
    assert len(layout.tile) <= 1.1 * limit
    assert abs(layout.weight.sum() / 8192 - 1) < 0.15


@given(st.sampled_from([4096, 2000, 1024, 500]))
def test_what_is_chosen_under_one_limit_is_chosen_under_a_higher_one(limit):
    assert set(spread(HEAP, CHUNKS, limit).tile.tolist()) <= set(spread(HEAP, CHUNKS, 2 * limit).tile.tolist())


def test_dense_chunks_have_all_their_windows_and_each_stands_for_itself():
    base = spread(HEAP, CHUNKS, 256)
    dense = CHUNKS[[3, 4, 900]]
    layout = with_dense(base, HEAP, dense)
    inside = np.isin(layout.tile // np.uint64(CHUNK) * np.uint64(CHUNK), dense)
    assert layout.tile[inside].tolist() == [int(c) + n * WINDOW for c in dense for n in range(8)]
    assert set(layout.weight[inside].tolist()) == {1}
    assert set(layout.weight[~inside].tolist()) == set(base.weight.tolist())
    assert (np.diff(layout.tile.astype(np.int64)) > 0).all()


def test_small_mappings_in_a_dense_chunk_have_a_window_each():
    mappings = [Mapping(BASE, BASE + 4096, "a"), Mapping(BASE + 8192, BASE + 12288, "b")]
    layout = with_dense(spread(mappings, NO_CHUNKS, 10), mappings, CHUNKS[:1])
    assert layout.tile.tolist() == [BASE, BASE]
    assert layout.mapping.tolist() == [0, 1]


def test_only_populated_chunks_are_left():
    assert among(CHUNKS[[1, 5, 9]], CHUNKS[[0, 5, 9, 11]]).tolist() == CHUNKS[[5, 9]].tolist()
    assert len(among(CHUNKS, NO_CHUNKS)) == 0
