# SPDX-License-Identifier: GPL-2.0-only
"""Back-off, and what is worth reading: what was fruitless makes way for what lies behind it."""

from __future__ import annotations

import numpy as np

from builders import BASE, MIB, SECOND, region, snapshot
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, Mapping, WindowRead
from pagepulse.model.windows import ALL_PAGES, Windows
from pagepulse.policy.backoff import BackOff
from pagepulse.policy.decide import PageState, absent_runs, candidates, chunks_to_collapse, cold_runs, withheld
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.quota import Usage
from pagepulse.policy.reading import idle_parts

NOTHING = np.zeros(1024, bool)
TEXT = b'{"schemes": [{"name": "a", "action": "pageout", "access_pattern": {"age": {"min": "5 s"}}%s}]}'


def found(filters: bytes = b""):
    scheme, = parse_schemes(TEXT % filters, "test")
    regions = [region(BASE + n * 2 * MIB, since_ns=0) for n in range(2)]
    return candidates(scheme, snapshot(*regions, start_ns=100 * SECOND), Usage(0))


def idle_windows() -> Windows:
    mapping = Mapping(BASE, BASE + 2 * CHUNK, "[heap]")
    windows = Windows([mapping], spread([mapping], np.array([BASE, BASE + CHUNK], np.uint64), 1 << 10))
    n = len(windows)
    clear = WindowRead(np.zeros(n, np.uint64), np.full(n, ALL_PAGES), np.ones(n, np.uint8), SECOND)
    windows.observe(np.arange(n), clear)
    return windows


def state(**changes) -> PageState:
    facts = {"start": BASE, "present": ~NOTHING, "young": NOTHING, "huge": NOTHING,
             "idle_since_ns": np.zeros(1024, np.int64)}
    return PageState(**(facts | changes))


def test_pages_rest_ten_seconds_and_twice_as_long_each_time():
    rests, pages = BackOff(), np.ones(3, bool)
    for begun, until in ((0, 10), (10, 30), (30, 70)):
        rests.book(BASE + PAGE, pages, begun * SECOND)
        assert rests.pages(BASE, BASE + 5 * PAGE, until * SECOND - 1).tolist() == [False, True, True, True, False]
        assert not rests.pages(BASE, BASE + 5 * PAGE, until * SECOND).any()


def test_pages_that_did_not_rest_before_begin_anew_and_others_in_between_rest_along():
    rests = BackOff()
    rests.book(BASE, np.array([True, False]), 0)
    runs = np.array([[BASE + PAGE, BASE + 2 * PAGE], [BASE + WINDOW, BASE + WINDOW + PAGE]], np.uint64)
    rests.book_runs(runs, SECOND)
    assert rests.pages(BASE, BASE + 2 * PAGE, 10 * SECOND).tolist() == [True, True]
    assert rests.pages(BASE + WINDOW, BASE + WINDOW + PAGE, 10 * SECOND).all()


def test_the_quota_goes_to_pages_behind_those_that_rest():
    rests = NOTHING.copy()
    rests[:512] = True
    candidate = found()[0]
    runs = cold_runs(candidate, state(rests=rests), 60 * SECOND, MIB)
    assert not len(runs)
    rests[256:] = False
    assert cold_runs(candidate, state(rests=rests), 60 * SECOND, MIB).tolist() == [[BASE + MIB, BASE + 2 * MIB]]


def test_holes_that_were_never_filled_use_up_no_quota():
    to_read = NOTHING.copy()
    to_read[300:310] = True
    runs = absent_runs(found()[0], state(present=NOTHING, to_read=to_read), 16 * PAGE)
    assert runs.tolist() == [[BASE + 300 * PAGE, BASE + 310 * PAGE]]


def test_chunks_in_which_no_huge_page_came_about_are_left_alone():
    rests = NOTHING.copy()
    rests[:512] = True
    assert not len(chunks_to_collapse(found()[0], state(rests=rests)))
    assert len(chunks_to_collapse(found()[0], state())) == 1


def test_only_pieces_with_idle_windows_that_may_go_are_read():
    windows, rests, now_ns = idle_windows(), BackOff(), 60 * SECOND
    assert [parts for _, parts in idle_parts(found(), windows, rests, now_ns)] == [
        [(BASE, BASE + CHUNK)], [(BASE + CHUNK, BASE + 2 * CHUNK)]]
    rests.book(BASE, np.ones(512, bool), now_ns)
    assert [parts for _, parts in idle_parts(found(), windows, rests, now_ns)] == [[(BASE + CHUNK, BASE + 2 * CHUNK)]]
    windows.patience_ns[:] = 3600 * SECOND
    assert idle_parts(found(), windows, rests, now_ns) == []


def test_what_filters_reject_page_by_page_is_withheld_and_needs_not_be_read_again():
    only_huge = b', "filters": [{"type": "hugepage_size", "size": {"min": "2 MiB"}, "allow": true}]'
    candidate = found(only_huge)[0]
    assert withheld(candidate, state(), 60 * SECOND).all()
    assert not withheld(found()[0], state(), 60 * SECOND)[:512].any()
