# SPDX-License-Identifier: GPL-2.0-only
"""Which huge pages went as a whole, and which of them are back."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import BASE
from pagepulse.model.broken import Broken
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, WINDOW_PAGES, Mapping, WindowRead
from pagepulse.model.windows import ALL_PAGES, Windows

PAGES = CHUNK // PAGE
MAPPING = Mapping(BASE, BASE + 3 * CHUNK, "[heap]")
CHUNKS = [BASE, BASE + CHUNK, BASE + 2 * CHUNK]


def windows(*, absent: tuple[int, ...] = (), huge: bool = False) -> Windows:
    """All resident, but for one page of each of these windows."""
    made = Windows([MAPPING], spread([MAPPING], np.array(CHUNKS, np.uint64), 1 << 20))
    n = len(made)
    present = np.full(n, ALL_PAGES)
    present[list(absent)] -= np.uint64(1)
    made.observe(np.arange(n), WindowRead(np.zeros(n, np.uint64), present, np.full(n, 2 if huge else 1, np.uint8), 1))
    return made


def broken(*runs: tuple[int, int], huge: slice = slice(None), start: int = BASE) -> Broken:
    """Runs that went, of memory in which those pages were huge."""
    pages = np.zeros((BASE + 3 * CHUNK - start) // PAGE, bool)
    pages[huge] = True
    result = Broken()
    result.note(start, pages, np.array(runs, np.uint64).reshape(-1, 2))
    return result


@pytest.mark.parametrize(("runs", "expected"), [
    ([(BASE, BASE + CHUNK)], CHUNKS[:1]),
    ([(BASE, BASE + 3 * CHUNK)], CHUNKS),
    ([(BASE, BASE + CHUNK), (BASE + CHUNK, BASE + 2 * CHUNK)], CHUNKS[:2]),
    ([(BASE + PAGE, BASE + 2 * CHUNK)], CHUNKS[1:2]),
    ([(BASE, BASE + CHUNK - PAGE)], []),
    ([], []),
])
def test_only_what_went_as_a_whole_is_remembered(runs, expected):
    assert broken(*runs).back(windows()).tolist() == expected


def test_small_pages_that_went_are_none_of_these():
    assert broken((BASE, BASE + 2 * CHUNK), huge=slice(PAGES, None)).back(windows()).tolist() == CHUNKS[1:2]
    assert len(broken((BASE, BASE + 2 * CHUNK), huge=slice(0))) == 0


def test_a_read_may_begin_within_a_chunk():
    assert broken((BASE + WINDOW, BASE + 2 * CHUNK), start=BASE + WINDOW).back(windows()).tolist() == CHUNKS[1:2]


def test_a_chunk_of_which_a_page_is_missing_is_not_back():
    seen = windows(absent=(3,))
    assert broken((BASE, BASE + 3 * CHUNK)).back(seen).tolist() == CHUNKS[1:]
    seen.mark_evicted(np.array([[BASE + CHUNK, BASE + CHUNK + WINDOW_PAGES * PAGE]], np.uint64), 0)
    assert broken((BASE, BASE + 3 * CHUNK)).back(seen).tolist() == CHUNKS[2:]


def test_what_is_huge_already_is_left_alone():
    assert broken((BASE, BASE + 3 * CHUNK)).back(windows(huge=True)).tolist() == []


def test_what_is_unmapped_by_now_is_not_back():
    assert broken((BASE, BASE + 3 * CHUNK)).back(Windows([], spread([], np.empty(0, np.uint64), 1))).tolist() == []


def test_what_was_made_whole_is_forgotten():
    chunks = broken((BASE, BASE + 3 * CHUNK))
    chunks.forget(chunks.back(windows())[:2])
    assert chunks.back(windows()).tolist() == CHUNKS[2:]
    assert len(chunks) == 1
