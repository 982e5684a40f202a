# SPDX-License-Identifier: GPL-2.0-only
"""Engine: what it says of a target whose every touch is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import BASE, MIB, MS, SECOND, FakeMemory, watch
from pagepulse.errors import TargetGone
from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.memory import CHUNK, PAGE, WINDOW
from pagepulse.model.snapshot import Snapshot
from pagepulse.model.windows import NEVER_IDLE_NS
from pagepulse.simulate.area import Area
from pagepulse.simulate.memory import SimulatedMemory
from pagepulse.simulate.pattern import hot_set

OPTIONS = EngineOptions(sampling_ns=5 * MS, aggregation_ns=100 * MS, min_regions=10, max_regions=200)


def engine_of(memory: FakeMemory, seed: int = 0, options: EngineOptions = OPTIONS) -> Engine:
    return Engine(4242, memory, options, seed)


def last_of(engine: Engine, memory: FakeMemory, program=lambda: None, *, intervals: int, **limits: int) -> Snapshot:
    return [*watch(engine, memory, program, intervals=intervals, **limits)][-1]


def bytes_within(snapshot: Snapshot, column: str, start: int, end: int) -> int:
    """Sum of a column over the regions that lie in a range."""
    rows = snapshot.regions
    inside = (rows["start"] >= start) & (rows["end"] <= end)
    return int(rows[column][inside].sum())


# --- a target that does what is known ------------------------------------------------------------------------------

@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_working_set_of_a_known_program_is_found_within_three_percent(share):
    memory = FakeMemory(128 * MIB)
    memory.map(BASE, 128 * MIB, "[heap]")
    pages = round(share * 128 * MIB / PAGE)
    engine = engine_of(memory)
    taken = [*watch(engine, memory, lambda: memory.touch(BASE + 16 * MIB, pages), intervals=100)]
    assert np.median([s.wss_bytes for s in taken[20:]]) == pytest.approx(pages * PAGE, rel=0.03)


def test_bytes_that_are_in_use_are_told_from_those_that_are_not():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 64 * MIB, "[heap]")
    hot = (BASE + 20 * MIB, BASE + 28 * MIB)
    snapshot = last_of(engine_of(memory), memory, lambda: memory.touch(hot[0], 8 * MIB // PAGE), intervals=100)
    rows = snapshot.regions
    is_hot = rows["nr_accesses"] > 0.5 * snapshot.max_nr_accesses
    assert is_hot.any()
    assert rows["start"][is_hot].min() == pytest.approx(hot[0], abs=2 * WINDOW)
    assert rows["end"][is_hot].max() == pytest.approx(hot[1], abs=2 * WINDOW)
    assert (rows["rate_hz"][is_hot] > 100).all()
    assert (rows["nr_accesses"][~is_hot] < 0.05 * snapshot.max_nr_accesses).all()


def test_idle_memory_is_known_to_the_byte_and_for_how_long():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 64 * MIB, "[heap]")
    snapshot = last_of(engine_of(memory), memory, lambda: memory.touch(BASE, 4 * MIB // PAGE), intervals=150)
    known, second, ten_seconds, minute, _ = snapshot.idle_bytes
    assert known == snapshot.rss_bytes == 64 * MIB
    assert second == ten_seconds == pytest.approx(60 * MIB, abs=0)
    assert minute == 0


def test_ages_grow_with_wall_time_while_a_pattern_holds_and_begin_anew_when_it_ends():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 64 * MIB, "[heap]")
    engine = engine_of(memory)
    half, place = 32 * MIB, [BASE]
    before = last_of(engine, memory, lambda: memory.touch(place[0], half // PAGE), intervals=150)
    ages_ns = before.end_ns - before.regions["since_ns"]
    assert (ages_ns > 10 * SECOND).all()
    place[0] = BASE + half
    after = last_of(engine, memory, lambda: memory.touch(place[0], half // PAGE), intervals=30)
    rows = after.regions
    woken = rows["start"] >= BASE + half
    assert (after.end_ns - rows["since_ns"][woken] <= 3.1 * SECOND).all()


def test_a_hot_set_that_moves_is_followed_within_two_seconds():
    memory = FakeMemory(100 * MIB)
    memory.map(BASE, 100 * MIB, "[heap]")
    engine = engine_of(memory)
    for area in (3, 7, 0, 5):
        start = BASE + area * 10 * MIB
        taken = [*watch(engine, memory, lambda at=start: memory.touch(at, 10 * MIB // PAGE), intervals=40)]
        assert np.median([s.wss_bytes for s in taken[20:]]) == pytest.approx(10 * MIB, rel=0.03)


def test_of_a_region_in_part_of_which_memory_wakes_the_rest_still_sleeps_and_keeps_its_age():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 64 * MIB, "[heap]")
    engine = engine_of(memory)
    last_of(engine, memory, intervals=60)
    woken = (BASE + 11 * MIB, BASE + 17 * MIB)
    snapshot = last_of(engine, memory, lambda: memory.touch(woken[0], 6 * MIB // PAGE), intervals=1, patrol=4096)
    assert bytes_within(snapshot, "touched_bytes", *woken) == pytest.approx(6 * MIB, rel=0.05)
    sleeps = snapshot.regions["touched_bytes"] == 0
    slept_bytes = snapshot.regions["present_bytes"][sleeps].sum()
    assert slept_bytes == pytest.approx(58 * MIB, abs=2 * WINDOW)
    assert (snapshot.end_ns - snapshot.regions["since_ns"][sleeps]).min() > 5 * SECOND


def test_regions_stay_sorted_and_disjoint_inside_the_mappings_and_within_their_number():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 20 * MIB, "[heap]")
    memory.map(BASE + 24 * MIB, 30 * MIB, "[anon]")
    rng = np.random.default_rng(1)
    for snapshot in watch(engine_of(memory), memory,
                          lambda: memory.touch(BASE + int(rng.integers(19)) * MIB, 200), intervals=60):
        rows = snapshot.regions
        assert OPTIONS.min_regions <= len(rows) <= OPTIONS.max_regions
        assert (rows["start"] < rows["end"]).all()
        assert (rows["start"][1:] >= rows["end"][:-1]).all()
        assert int((rows["end"] - rows["start"]).sum()) == 50 * MIB
        assert (rows["touched_bytes"] + rows["unclearable_bytes"] <= rows["present_bytes"]).all()
        assert {snapshot.mappings[index] for index in rows["mapping"]} == {"[heap]", "[anon]"}


# --- truth over silence --------------------------------------------------------------------------------------------

def test_memory_that_was_never_cleared_is_unknown():
    memory = FakeMemory(32 * MIB)
    memory.map(BASE, 32 * MIB)
    snapshot = last_of(engine_of(memory), memory, intervals=5, sweep_pages=0, probes=0)
    assert snapshot.unknown_bytes == 32 * MIB
    assert snapshot.idle_bytes == (0,) * 5
    assert memory.times_cleared.sum() == 0


def test_memory_that_cannot_be_cleared_is_neither_hot_nor_cold():
    memory = FakeMemory(32 * MIB)
    memory.map(BASE, 32 * MIB)
    memory.share(BASE + 8 * MIB, 8 * MIB // PAGE)
    engine = engine_of(memory)
    snapshot = last_of(engine, memory, lambda: memory.touch(BASE + 8 * MIB, 8 * MIB // PAGE), intervals=120)
    assert snapshot.unclearable_bytes == 8 * MIB
    assert snapshot.unknown_bytes == 0
    assert snapshot.wss_bytes < MIB // 10
    assert snapshot.idle_bytes[:3] == (24 * MIB,) * 3
    assert (engine.windows.idle_since_ns(BASE + 8 * MIB, BASE + 16 * MIB) == NEVER_IDLE_NS).all()


def test_a_mapping_that_refuses_is_never_cleared_and_reads_as_unclearable():
    memory = FakeMemory(32 * MIB)
    memory.map(BASE, 16 * MIB, "[heap]")
    memory.map(BASE + 16 * MIB, 16 * MIB, "/anon_hugepage (deleted)", clearable=False)
    snapshot = last_of(engine_of(memory), memory, lambda: memory.touch(BASE + 16 * MIB, 4096), intervals=30)
    assert snapshot.unclearable_bytes == 16 * MIB
    assert all(end <= BASE + 16 * MIB for _, end in memory.counts.ranges)
    assert bytes_within(snapshot, "touched_bytes", BASE + 16 * MIB, BASE + 32 * MIB) == 0


def test_reads_that_were_lost_are_counted_and_not_taken_for_cold():
    memory = FakeMemory(4 * MIB)
    memory.map(BASE, 4 * MIB)
    memory.lost.add(BASE + 3 * WINDOW)
    engine = engine_of(memory)
    snapshot = last_of(engine, memory, intervals=30)
    assert snapshot.dropped > 0
    lost = engine.windows.idle_since_ns(BASE + 3 * WINDOW, BASE + 4 * WINDOW)
    assert (lost == NEVER_IDLE_NS).all()
    assert snapshot.idle_bytes[0] == 4 * MIB - WINDOW


def test_a_target_that_ends_raises_and_nothing_is_made_up():
    memory = FakeMemory(4 * MIB)
    memory.map(BASE, 4 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=2)
    memory.is_gone = True
    with pytest.raises(TargetGone):
        last_of(engine, memory, intervals=1)


# --- idle time, page by page ---------------------------------------------------------------------------------------

def assert_no_page_is_older_than_the_truth(engine: Engine, memory: FakeMemory) -> None:
    """Of every page whose window was read after its last touch: it is not said to be idle since before."""
    windows = engine.windows
    for window in range(len(windows)):
        first = int(windows.first[window])
        since = windows.idle_since_ns(first, int(windows.last[window]))
        touched = memory.touched_ns[memory.slice(first, len(since))]
        seen = windows.read_ns[window] > touched
        assert (since[seen] >= touched[seen]).all()


@pytest.mark.parametrize("probes", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_idle_time_is_never_overstated_however_sweeps_and_touches_fall(seed, probes):
    memory, rng = FakeMemory(8 * MIB), np.random.default_rng(seed)
    memory.map(BASE, 8 * MIB)
    # Pages that never clear: their windows are swept again and again, with all that lies in them.
    for page in rng.integers(2048, size=40):
        memory.share(BASE + int(page) * PAGE, 1)
    engine = engine_of(memory, seed)
    for _ in watch(engine, memory, lambda: memory.touch(BASE + int(rng.integers(2048)) * PAGE)
                   if rng.random() < 0.05 else None, intervals=230, patrol=2, probes=probes):
        assert_no_page_is_older_than_the_truth(engine, memory)


def test_a_sweep_sees_what_was_touched_since_the_last_read_before_it_clears_it():
    memory = FakeMemory(2 * MIB)
    memory.map(BASE, 2 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=3)
    memory.advance(20 * SECOND)
    memory.touch(BASE)
    engine.look_for_returned()
    engine._read(np.arange(8))  # page 0 is dirty now
    engine._swept_ns[:] = 0
    engine.windows.known[0] = ~np.uint64(1)  # ... and unknown again, so that its window is swept
    engine.windows.know(np.array([0]), np.zeros(1, np.uint64))
    memory.advance(SECOND)
    memory.touch(BASE + PAGE)
    memory.advance(SECOND)
    engine.sweep(1 << 20)
    assert memory.times_cleared[1] >= 2
    assert engine.windows.idle_since_ns(BASE + PAGE, BASE + 2 * PAGE)[0] >= memory.touched_ns[1]


def test_a_touch_whose_trace_another_agent_took_ends_idleness_even_if_a_probe_saw_it_first():
    memory = FakeMemory(2 * MIB)
    memory.map(BASE, 2 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=3)
    memory.touch(BASE, 512)
    engine._read(np.arange(8))
    engine.sweep(0)
    assert engine.begin(8)
    memory.advance(SECOND)
    memory.touch(BASE, 512)
    memory.take(BASE, 512)
    memory.advance(5 * MS)
    engine.tick()
    memory.advance(95 * MS)
    engine.finish(patrol=0)
    assert_no_page_is_older_than_the_truth(engine, memory)


def test_a_probe_whose_reads_are_lost_is_counted_as_dropped():
    memory = FakeMemory(2 * MIB)
    memory.map(BASE, 2 * MIB)
    engine = engine_of(memory)
    engine.update()
    engine.sweep(0)
    assert engine.begin(8)
    memory.lost.add(BASE)
    memory.advance(100 * MS)
    assert engine.finish(patrol=0).dropped == 1


# --- what is done to the target ------------------------------------------------------------------------------------

def test_nothing_is_cleared_where_nothing_is_young():
    memory = FakeMemory(16 * MIB)
    memory.map(BASE, 16 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=5)
    cleared = memory.times_cleared.copy()
    assert (cleared == 1).all()
    last_of(engine, memory, intervals=150)
    assert (memory.times_cleared == cleared).all()


def test_huge_pages_are_cleared_whole_and_never_in_part():
    memory = FakeMemory(32 * MIB)
    memory.map(BASE, 16 * MIB, "[heap]", huge=True)
    memory.map(BASE + 16 * MIB, 16 * MIB, "[anon]")
    # 100 pages at most: a sweep must not stop within a huge page. The memory itself refuses partial clears.
    snapshot = last_of(engine_of(memory), memory, lambda: memory.touch(BASE + CHUNK + 5 * PAGE), intervals=100,
                       sweep_pages=3000, probes=3)
    of_huge = [(start, end) for start, end in memory.counts.ranges if start < BASE + 16 * MIB]
    assert of_huge
    assert all(start % CHUNK == 0 for start, _ in of_huge)
    assert snapshot.unknown_bytes == 0
    assert snapshot.wss_bytes == pytest.approx(CHUNK, rel=0.05)


def test_a_huge_page_that_appeared_since_the_last_read_is_not_split_by_a_sweep():
    memory = FakeMemory(8 * MIB)
    memory.map(BASE, 8 * MIB)
    engine = engine_of(memory)
    engine.update()
    memory.huge[memory.slice(BASE, 512)] = True
    engine.sweep(5 * 64)
    engine.sweep(5 * 64)
    assert (memory.times_cleared[:512] == memory.times_cleared[0]).all()


def test_huge_pages_are_swept_too_where_windows_are_spread():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 64 * MIB, huge=True)
    engine = engine_of(memory, options=EngineOptions(5 * MS, 100 * MS, 10, 200, window_limit=128))
    engine.update()
    engine.sweep(1 << 20)
    assert (engine.windows.weight > 1).all()
    by_chunk = memory.times_cleared.reshape(-1, 512)
    assert (by_chunk == by_chunk[:, :1]).all()
    assert 4 <= by_chunk[:, 0].sum() == len(np.unique(engine.windows.tile // np.uint64(2 * MIB)))


def test_where_windows_lie_apart_the_edge_of_what_is_hot_is_found_to_the_window():
    memory = SimulatedMemory([Area(BASE, 2048 * MIB, hot_set(2048 * MIB, 100 * MIB, 100.0, offset_bytes=333 * MIB))],
                             start_ns=SECOND)
    engine = Engine(1, memory, EngineOptions(5 * MS, 100 * MS, 10, 1000, window_limit=2048))
    engine.update()
    for _ in range(100):
        engine.sweep(1 << 22)
        engine.begin(64)
        memory.advance(100 * MS)
        snapshot = engine.finish(2048)
    assert (engine.windows.weight > 1).any()
    hot = snapshot.regions[snapshot.regions["nr_accesses"] > 5]
    assert int(hot["start"].min()) == pytest.approx(BASE + 333 * MIB, abs=256 * 1024)
    assert int(hot["end"].max()) == pytest.approx(BASE + 433 * MIB, abs=256 * 1024)
    assert snapshot.wss_bytes == pytest.approx(100 * MIB, rel=0.03)
    assert int(snapshot.regions["present_bytes"].sum()) == pytest.approx(2048 * MIB, rel=0.02)


def test_windows_that_lie_apart_become_more_once_all_of_them_are_known():
    memory = SimulatedMemory([Area(BASE, 2048 * MIB, hot_set(2048 * MIB, 100 * MIB, 100.0))], start_ns=SECOND)
    engine = Engine(1, memory, EngineOptions(5 * MS, 100 * MS, 10, 1000, window_limit=4096))
    engine.update()
    counts = [len(engine.windows)]
    for _ in range(45):
        engine.sweep(1 << 22)
        memory.advance(SECOND)
        engine.finish(2048)
        engine.update()
        counts.append(len(engine.windows))
    assert counts[0] < 600
    assert counts[-1] > 3000
    assert counts[8] < counts[-1]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=8), st.integers(1, 3000),
       st.integers(0, 20))
def test_no_mix_of_huge_and_small_pages_is_ever_split(kinds, sweep_pages, probes):
    memory = FakeMemory(16 * MIB)
    memory.map(BASE, 16 * MIB)
    for chunk, is_huge in kinds:
        memory.huge[chunk * 512 : (chunk + 1) * 512] = is_huge
    rng = np.random.default_rng(len(kinds))
    for _ in watch(engine_of(memory), memory, lambda: memory.touch(BASE + int(rng.integers(4096)) * PAGE),
                   intervals=20, sweep_pages=sweep_pages, probes=probes, patrol=8):
        chunk, is_huge = kinds[int(rng.integers(len(kinds)))]
        memory.huge[chunk * 512 : (chunk + 1) * 512] = not is_huge


def test_work_says_what_was_cleared_and_touched_again():
    memory = FakeMemory(2 * MIB)
    memory.map(BASE, 2 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=1)
    swept = engine.take_work()
    assert (swept.ranges_cleared, swept.pages_cleared) == (1, 512)
    assert swept.pages_woken == 0
    memory.touch(BASE, 10)
    last_of(engine, memory, intervals=1)
    assert engine.take_work().pages_woken == 10
    assert engine.take_work().windows_read == 0


# --- an address space that changes ---------------------------------------------------------------------------------

def test_mappings_that_appear_are_watched_and_those_that_vanish_are_forgotten():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 16 * MIB, "[heap]")
    engine = engine_of(memory)
    last_of(engine, memory, intervals=30)
    before = engine.windows.idle_since_ns(BASE, BASE + 16 * MIB)
    memory.map(BASE + 32 * MIB, 8 * MIB, "/tmp/new")
    snapshot = last_of(engine, memory, intervals=30)
    assert "/tmp/new" in snapshot.mappings
    assert bytes_within(snapshot, "present_bytes", BASE + 32 * MIB, BASE + 40 * MIB) == 8 * MIB
    assert (engine.windows.idle_since_ns(BASE, BASE + 16 * MIB) == before).all()
    memory.unmap(BASE)
    snapshot = last_of(engine, memory, intervals=11)
    assert snapshot.mappings == ("/tmp/new",)
    assert snapshot.regions["start"].min() == BASE + 32 * MIB
    assert snapshot.idle_bytes[0] == snapshot.rss_bytes == 8 * MIB


def test_a_target_without_any_mapping_left_has_empty_snapshots():
    memory = FakeMemory(16 * MIB)
    memory.map(BASE, 16 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=5)
    memory.unmap(BASE)
    snapshot = last_of(engine, memory, intervals=1)
    assert (len(snapshot.regions), snapshot.wss_bytes, snapshot.idle_bytes) == (0, 0, (0,) * 5)
    memory.map(BASE, 16 * MIB)
    assert last_of(engine, memory, intervals=1).rss_bytes == 16 * MIB


def test_a_mapping_with_nothing_resident_costs_no_window():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 64 * MIB, populate=False)
    engine = engine_of(memory)
    snapshot = last_of(engine, memory, intervals=2)
    assert len(engine.windows) == 0
    assert snapshot.wss_bytes == snapshot.idle_bytes[0] == 0
    assert int((snapshot.regions["end"] - snapshot.regions["start"]).sum()) == 64 * MIB


def test_faults_where_nothing_was_known_ask_for_an_update_and_others_do_not():
    memory = FakeMemory(16 * MIB)
    memory.map(BASE, 16 * MIB, populate=False)
    memory.touch(BASE)
    engine = engine_of(memory)
    engine.update()
    assert not engine.hint(np.array([BASE], np.uint64))
    assert engine.hint(np.array([BASE + 4 * CHUNK], np.uint64))


def test_a_hinted_window_is_read_even_if_the_patrol_would_not_come_to_it():
    memory = FakeMemory(16 * MIB)
    memory.map(BASE, 16 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=5)
    memory.advance(SECOND)
    engine.sweep(0)
    engine.begin(0)
    memory.touch(BASE + 5 * WINDOW)
    engine.hint(np.array([BASE + 5 * WINDOW], np.uint64))
    memory.advance(100 * MS)
    engine.finish(patrol=0)
    assert engine.windows.dirty()[5] == 1


@pytest.mark.parametrize("others_clear", [True, False])
def test_where_others_clear_reading_alone_shows_what_they_found_idle(others_clear):
    memory = FakeMemory(16 * MIB)
    memory.map(BASE, 16 * MIB)
    engine = engine_of(memory)
    engine.update()
    memory.take(BASE, 16 * MIB // PAGE)
    for _ in range(5):
        engine.sweep(0)
        engine.begin(0)
        memory.advance(SECOND)
        memory.touch(BASE, MIB // PAGE)
        snapshot = engine.finish(4096, others_clear=others_clear)
        engine.update()
    assert memory.counts.clears == 0
    assert snapshot.unknown_bytes == (MIB if others_clear else 16 * MIB)
    assert snapshot.idle_bytes[1] == (15 * MIB if others_clear else 0)


def test_pages_paged_out_and_fetched_back_are_counted_as_returned():
    memory = FakeMemory(4 * MIB)
    memory.map(BASE, 4 * MIB)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=3)
    memory.page_out(BASE, 100)
    engine.evicted(np.array([[BASE, BASE + 100 * PAGE]], np.uint64), memory.now_ns())
    engine.look_for_returned()
    engine.take_work()
    memory.touch(BASE + 10 * PAGE, 7)
    engine.look_for_returned()
    assert engine.take_work().pages_returned == 7
    engine.look_for_returned()
    assert engine.take_work().pages_returned == 0


# --- memory that can only be cleared all at once -------------------------------------------------------------------

def shared_pool(*, together: bool) -> FakeMemory:
    """Two mappings of a database: both are mapped by other processes as well."""
    memory = FakeMemory(64 * MIB)
    for start in (BASE, BASE + 32 * MIB):
        memory.map(start, 32 * MIB, "/dev/zero (deleted)", together=together)
        memory.share(start, 32 * MIB // PAGE)
    return memory


@pytest.mark.parametrize("together", [False, True])
def test_memory_that_is_cleared_all_at_once_is_known_where_its_pages_alone_cannot_be_cleared(together):
    memory = shared_pool(together=together)
    snapshot = last_of(engine_of(memory), memory, lambda: memory.touch(BASE + 7 * MIB, 5 * MIB // PAGE), intervals=60)
    if together:
        assert snapshot.unclearable_bytes == snapshot.unknown_bytes == 0
        assert snapshot.wss_bytes == pytest.approx(5 * MIB, rel=0.03)
        assert snapshot.idle_bytes[1] == 59 * MIB
    else:
        assert snapshot.unclearable_bytes + snapshot.unknown_bytes == 64 * MIB
        assert snapshot.idle_bytes[0] == 0


@given(st.lists(st.tuples(st.integers(0, 64 * MIB // PAGE - 65), st.integers(1, 64)), min_size=1, max_size=8),
       st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_no_touch_is_taken_for_idleness_however_often_all_is_cleared(touches, seed):
    """Each interval's clear takes the trace of every page: whatever was touched must have been read before."""
    memory = shared_pool(together=True)
    engine = engine_of(memory, seed)
    for number, _ in enumerate(watch(engine, memory, lambda: None, intervals=3 + len(touches))):
        if 2 <= number < 2 + len(touches):
            first, count = touches[number - 2]
            memory.touch(BASE + first * PAGE, count)
    since_ns = np.concatenate([engine.windows.idle_since_ns(BASE + offset, BASE + offset + 32 * MIB)
                               for offset in (0, 32 * MIB)])
    idle = since_ns != NEVER_IDLE_NS
    assert (since_ns[idle] >= memory.touched_ns[idle]).all()


def test_what_even_a_clear_of_all_skips_is_counted_as_unclearable():
    memory = shared_pool(together=True)
    memory.zero[memory.slice(BASE + 3 * MIB, 64)] = True
    engine = engine_of(memory)
    snapshot = last_of(engine, memory, intervals=100, probes=64)
    assert snapshot.unclearable_bytes == 64 * PAGE
    assert snapshot.wss_bytes == 0


def test_memory_of_a_program_s_own_is_cleared_by_itself_beside_what_is_cleared_all_at_once():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 32 * MIB, "[heap]")
    memory.map(BASE + 32 * MIB, 32 * MIB, "/dev/zero (deleted)", together=True)
    engine = engine_of(memory)
    last_of(engine, memory, intervals=20)
    assert memory.times_cleared[: 32 * MIB // PAGE].max() == 1
    assert engine.windows.watched.all()
