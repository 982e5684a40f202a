# SPDX-License-Identifier: GPL-2.0-only
"""Candidates, coldest first; and the runs of pages in them that are really cold."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import BASE, MIB, SECOND, region, snapshot
from pagepulse.model.memory import PAGE
from pagepulse.model.windows import NEVER_IDLE_NS
from pagepulse.policy.decide import (
    Candidate,
    PageState,
    absent_runs,
    candidates,
    chunks_to_collapse,
    chunks_to_split,
    cold_runs,
    due,
    in_use,
    present_runs,
)
from pagepulse.policy.filters import Where
from pagepulse.policy.parse import parse_schemes
from pagepulse.policy.quota import Usage, charged
from pagepulse.policy.scheme import Scheme

NOW = 100 * SECOND
MIN_IDLE = 5 * SECOND


def scheme(**changes: Any) -> Scheme:
    text = json.dumps({"schemes": [{"name": "reclaim", "action": "pageout",
                                    "access_pattern": {"age": {"min": "5 s"}}} | changes]})
    return parse_schemes(text.encode(), "test")[0]


def candidate(start: int, end: int, min_idle_ns: int = MIN_IDLE) -> Candidate:
    return Candidate("reclaim", start, end, min_idle_ns, age_ns=MIN_IDLE, share=0.0, present_bytes=end - start)


def pages(text: str, start: int = BASE) -> PageState:
    """One letter a page: c cold, y young now, r touched recently, - absent, ? never seen idle; capitals: huge.

    What is young or absent now was idle for long when it was last looked at.
    """
    letters = np.array(list(text))
    lower = np.char.lower(letters)
    since = np.select([lower == "r", lower == "?"], [NOW - MIN_IDLE + 1, NEVER_IDLE_NS], NOW - MIN_IDLE)
    return PageState(start, present=lower != "-", young=lower == "y", huge=np.char.isupper(letters),
                     idle_since_ns=since.astype(np.int64))


def runs(state: PageState, limit_bytes: int | None = None, **bounds: int) -> list[tuple[int, int]]:
    """Runs as page numbers from BASE."""
    whole = {"start": state.start, "end": state.start + state.young.size * PAGE} | bounds
    found = cold_runs(candidate(**whole), state, NOW, limit_bytes)
    assert found.dtype == np.uint64
    return [((int(start) - BASE) // PAGE, (int(end) - BASE) // PAGE) for start, end in found]


@pytest.mark.parametrize(("text", "expected"), [
    ("cccc", [(0, 4)]),
    ("yccy", [(1, 3)]),
    ("cyc", [(0, 1), (2, 3)]),
    ("cc-cc", [(0, 2), (3, 5)]),
    ("crc", [(0, 1), (2, 3)]),
    ("?c?", [(1, 2)]),
    ("yr-?", []),
])
def test_a_run_holds_resident_pages_that_were_not_touched_for_long_enough(text, expected):
    assert runs(pages(text)) == expected


def test_a_range_without_pages_has_no_runs():
    assert runs(pages("c"), end=BASE) == []


def test_idle_for_exactly_the_least_time_is_idle_enough():
    state = pages("cr")  # 5 s, and a nanosecond less
    assert runs(state) == [(0, 1)]


def test_what_came_back_once_waits_for_longer():
    state = replace(pages("cccc"), patience_ns=np.array([0, MIN_IDLE, MIN_IDLE + 1, 2 * MIN_IDLE]))
    assert runs(state) == [(0, 2)]


def test_with_an_age_of_zero_only_pages_in_use_are_left_alone():
    state = pages("cry?")
    found = cold_runs(candidate(BASE, BASE + 4 * PAGE, min_idle_ns=0), state, NOW)
    assert found.tolist() == [[BASE, BASE + 2 * PAGE]]


def test_pages_outside_the_candidate_are_left_alone():
    assert runs(pages("c" * 10), start=BASE + 2 * PAGE, end=BASE + 7 * PAGE) == [(2, 7)]


def test_a_candidate_larger_than_what_was_read_gives_only_what_was_read():
    assert runs(pages("c" * 4), start=BASE - 8 * PAGE, end=BASE + 8 * PAGE) == [(0, 4)]
    assert runs(pages("c" * 4), start=BASE - 2 * PAGE, end=BASE + 5 * PAGE) == [(0, 4)]


def test_a_candidate_elsewhere_gives_nothing():
    assert runs(pages("cc"), start=BASE + 8 * PAGE, end=BASE + 9 * PAGE) == []
    assert runs(pages("cccc"), start=BASE - 9 * PAGE, end=BASE - PAGE) == []


def test_a_page_that_the_candidate_only_holds_in_part_is_left_alone():
    assert runs(pages("cccc"), start=BASE + 1, end=BASE + 4 * PAGE - 1) == [(1, 3)]


def test_a_huge_page_is_taken_whole():
    assert runs(pages("c" + "c" * 511 + "C" * 512 + "c")) == [(0, 1025)]


@pytest.mark.parametrize("letter", ["Y", "R"])
def test_a_huge_page_counts_as_touched_if_any_of_it_was(letter):
    assert runs(pages("C" * 511 + letter + "cc")) == [(512, 514)]


def test_a_huge_page_that_reaches_out_of_the_candidate_is_left_alone():
    state = pages("C" * 512 + "c" * 512 + "C" * 512)
    assert runs(state, start=BASE + PAGE, end=BASE + 1535 * PAGE) == [(512, 1024)]


def test_a_huge_page_of_which_only_a_part_was_read_is_left_alone():
    assert runs(pages("C" * 100 + "cc", start=BASE + 412 * PAGE)) == [(512, 514)]
    assert runs(pages("cc" + "C" * 100, start=BASE + 510 * PAGE)) == [(510, 512)]


def test_a_huge_page_about_which_the_read_disagrees_with_itself_is_left_alone():
    assert runs(pages("C" * 511 + "c")) == [(511, 512)]


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [(0, 1)]), (3, [(0, 2), (3, 4)]), (4, [(0, 2), (3, 5)])])
def test_a_limit_cuts_at_a_page(count, expected):
    assert runs(pages("ccycc"), count * PAGE) == expected


def test_a_limit_between_two_pages_is_that_of_the_smaller_number():
    assert runs(pages("ccc"), 2 * PAGE - 1) == [(0, 1)]


def test_a_limit_never_cuts_a_huge_page_and_small_pages_behind_it_have_the_rest():
    state = pages("c" * 512 + "C" * 512 + "c" * 10)
    assert runs(state, 1023 * PAGE) == [(0, 512), (1024, 1034)]
    assert runs(state, 514 * PAGE) == [(0, 512), (1024, 1026)]
    assert runs(state, 1024 * PAGE) == [(0, 1024)]


CHUNKS = st.lists(st.sampled_from(["c" * 512, "C" * 512, "C" * 511 + "Y", "y" * 512, "-" * 512, "cy" * 256,
                                   "c" * 300 + "-r?y" * 53, "R" * 512, "c-" * 256]), min_size=1, max_size=4)


@given(CHUNKS, st.integers(0, 600), st.integers(0, 600), st.integers(-300, 300), st.integers(-300, 300),
       st.none() | st.integers(0, 2100 * PAGE))
def test_no_run_ever_holds_what_must_not_be_touched(chunks, skip, drop, low, high, limit):
    text = "".join(chunks)
    text = text[skip:len(text) - drop] or "c"
    state = pages(text, start=BASE + skip * PAGE)
    first, last = skip + low, max(skip + low, skip + len(text) + high)
    found = runs(state, limit, start=BASE + first * PAGE, end=BASE + last * PAGE)
    taken = [page for start, end in found for page in range(start, end)]
    letters = dict(enumerate(text, start=skip))
    assert all(first <= page < last and letters[page] in "cC" for page in taken)
    assert sorted(set(taken)) == taken
    assert limit is None or len(taken) * PAGE <= limit
    assert all(end < start for (_, end), (start, _) in pairwise(found))
    by_chunk = {}
    for page in taken:
        if letters[page] == "C":
            by_chunk[page // 512] = by_chunk.get(page // 512, 0) + 1
    assert set(by_chunk.values()) <= {512}


@given(CHUNKS)
def test_without_a_limit_every_cold_page_is_found(chunks):
    text = "".join(chunks)
    found = runs(pages(text))
    expected = sum(chunk.count("c") if chunk != "C" * 512 else 512 for chunk in chunks)
    assert sum(end - start for start, end in found) == expected


def test_cold_runs_change_nothing_of_what_was_read():
    state = pages("ccyc")
    for array in (state.present, state.young, state.huge, state.idle_since_ns):
        array.flags.writeable = False
    assert runs(state, PAGE) == [(0, 1)]


def old(number: int, age_s: float, nr_accesses: float = 0.0, **changes: float) -> Any:
    return region(BASE + number * 2 * MIB, since_ns=int(10.1 * SECOND - age_s * SECOND), nr_accesses=nr_accesses,
                  **changes)


def test_candidates_come_coldest_first_untouched_ones_by_age():
    snap = snapshot(old(0, 6), old(1, 9), old(2, 4), old(3, 9, nr_accesses=0.5), old(4, 8))
    found = candidates(scheme(), snap, Usage(0))
    assert [(one.start - BASE) // (2 * MIB) for one in found] == [1, 4, 0, 3]


def test_a_candidate_says_what_the_scheme_wants_of_its_pages():
    one, = candidates(scheme(), snapshot(old(0, 6, nr_accesses=5.0, present_bytes=MIB)), Usage(0))
    assert one == Candidate("reclaim", BASE, BASE + 2 * MIB, min_idle_ns=5 * SECOND, age_ns=6 * SECOND, share=0.25,
                            present_bytes=MIB, where=Where("[anon]"))


def test_a_scheme_that_has_used_up_its_quota_has_no_candidates():
    limited, snap = scheme(quotas={"size": "4 MiB"}), snapshot(old(0, 6))
    usage = charged(limited, Usage(snap.end_ns), snap.end_ns, size_bytes=4 * MIB - PAGE + 1, time_ns=1)
    assert candidates(limited, snap, usage) == []
    assert candidates(limited, snap, Usage(snap.end_ns)) != []


@pytest.mark.parametrize(("interval", "last_ns", "expected"), [
    (None, NOW, True), ("1 s", None, True), ("1 s", NOW - SECOND, True), ("1 s", NOW - SECOND + 1, False)])
def test_a_scheme_is_due_at_its_apply_interval_or_at_each_snapshot(interval, last_ns, expected):
    assert due(scheme(**({"apply_interval": interval} if interval else {})), last_ns, NOW) is expected


# --- whole huge pages ------------------------------------------------------------------------------------------------

def chunks_of(found: np.ndarray) -> list[int]:
    assert all(end - start == 2 * MIB for start, end in found.tolist())
    return [(start - BASE) // (2 * MIB) for start, _ in found.tolist()]


def test_memory_that_is_nearly_all_there_is_worth_a_huge_page():
    state = pages("y" * 512 + "y" * 449 + "-" * 63 + "y" * 440 + "-" * 72 + "Y" * 512 + "c" * 511)
    everything = candidate(BASE, BASE + 10 * MIB)
    assert chunks_of(chunks_to_collapse(everything, state)) == [0, 1]
    assert chunks_of(chunks_to_collapse(everything, state, limit_bytes=3 * MIB)) == [0]
    assert chunks_of(chunks_to_collapse(candidate(BASE + PAGE, BASE + 10 * MIB), state)) == [1]


def test_a_huge_page_that_is_touched_in_spite_of_its_region_is_split_and_an_idle_one_is_not():
    state = pages("C" * 512 + "Y" * 512 + "R" * 512 + "y" * 512 + "?" * 512)
    everything = candidate(BASE, BASE + 10 * MIB)
    assert chunks_of(chunks_to_split(everything, state, NOW)) == [1, 2]
    assert chunks_of(chunks_to_split(everything, state, NOW, limit_bytes=2 * MIB)) == [1]
    assert chunks_of(chunks_to_split(candidate(BASE, BASE + 4 * MIB - PAGE), state, NOW)) == []


def test_what_is_hot_is_moved_if_it_is_there():
    state = pages("c--y-c-")
    whole = candidate(BASE, BASE + 7 * PAGE)
    found = [((int(a) - BASE) // PAGE, (int(b) - BASE) // PAGE) for a, b in present_runs(whole, state)]
    assert found == [(0, 1), (3, 4), (5, 6)]
    assert len(present_runs(whole, state, limit_bytes=2 * PAGE)) == 2


def test_only_what_is_absent_is_read_in():
    state = pages("c--y-c-")
    whole = candidate(BASE, BASE + 7 * PAGE)
    found = [((int(a) - BASE) // PAGE, (int(b) - BASE) // PAGE) for a, b in absent_runs(whole, state)]
    assert found == [(1, 3), (4, 5), (6, 7)]
    assert len(absent_runs(whole, state, limit_bytes=PAGE)) == 1


def test_what_stays_of_an_idle_region_is_in_use_only_if_something_is_known_of_it():
    state = pages("cyr-yr?y")
    known = np.array([True, True, True, True, False, False, False, True])
    shown = "".join("x" if one else "." for one in in_use(candidate(BASE, BASE + 7 * PAGE), state, known, NOW))
    assert shown == ".xx....."
