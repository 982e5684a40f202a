# SPDX-License-Identifier: GPL-2.0-only
"""Simulated memory behaves as the kernel's does, and knows what is true."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pagepulse.errors import UsageError
from pagepulse.model.memory import (
    CHUNK,
    LEVEL_CHUNK,
    LEVEL_NONE,
    LEVEL_PAGE,
    PAGE,
    WINDOW,
    WINDOW_PAGES,
    Memory,
)
from pagepulse.simulate.area import Area
from pagepulse.simulate.memory import SimulatedMemory
from pagepulse.simulate.pattern import Ranges, Stride, hot_set, hot_spots, moving_hot_set, zipf
from pagepulse.simulate.prices import Prices
from pagepulse.simulate.touches import Rhythm

MIB = 2**20
GIB = 2**30
TIB = 2**40
MS = 1_000_000
SECOND = 1_000_000_000
BASE = 0x7F00_0000_0000
ALL = 2**64 - 1
IDLE = Ranges([0, 1], [0.0])


def area(size=64 * MIB, pattern=IDLE, start=BASE, **changes):
    return Area(start, size, pattern, **changes)


def windows(start=BASE, size=64 * MIB):
    return np.arange(start, start + size, WINDOW, dtype=np.uint64)


def whole(addresses, size=WINDOW):
    return np.stack([addresses, addresses + np.uint64(size)], axis=1)


def pages(masks):
    return int(np.bitwise_count(masks).sum())


def read(memory: Memory, addresses):
    return memory.read_windows(addresses)


def test_it_fits_the_protocol_that_the_model_is_written_against():
    memory: Memory = SimulatedMemory([area(), area(start=BASE + GIB, name="[heap]", clearable=False)])
    assert [(m.start, m.name, m.clearable) for m in memory.mappings()] == [
        (BASE, "[anon]", True), (BASE + GIB, "[heap]", False)]
    assert memory.rss_bytes() == 128 * MIB


def test_memory_that_nobody_cleared_is_young_and_idle_memory_stays_clear():
    memory = SimulatedMemory([area()])
    assert (read(memory, windows()).young == ALL).all()
    memory.clear(whole(windows()[:10]))
    memory.advance(60 * SECOND)
    young = read(memory, windows()).young
    assert (young[:10] == 0).all()
    assert (young[10:] == ALL).all()


def test_windows_outside_all_mappings_or_never_populated_hold_nothing():
    memory = SimulatedMemory([area(), area(start=BASE + GIB, populated=False)])
    result = read(memory, np.array([BASE - WINDOW, BASE, BASE + 64 * MIB, BASE + GIB], np.uint64))
    assert result.level.tolist() == [LEVEL_NONE, LEVEL_PAGE, LEVEL_NONE, LEVEL_NONE]
    assert result.present.tolist() == [0, ALL, 0, 0]
    assert result.young.tolist() == [0, ALL, 0, 0]


def test_a_window_at_the_edge_of_a_mapping_shows_only_its_pages():
    memory = SimulatedMemory([area(start=BASE + 3 * PAGE, size=5 * PAGE), area(start=BASE + 10 * PAGE, size=PAGE)])
    result = read(memory, np.array([BASE], np.uint64))
    assert result.present.tolist() == [0b100_1111_1000]
    assert result.young.tolist() == [0b100_1111_1000]


@pytest.mark.parametrize("rhythm", Rhythm)
def test_pages_seen_young_stay_young_until_cleared_again(rhythm):
    memory = SimulatedMemory([area(pattern=hot_set(64 * MIB, 32 * MIB, 10.0, seed=1), rhythm=rhythm)])
    memory.clear(whole(windows()))
    before = np.zeros(windows().size, np.uint64)
    for _ in range(10):
        memory.advance(7 * MS)
        now = read(memory, windows()).young
        assert not (before & ~now).any()
        before = now
    assert pages(before) > 0
    memory.clear(whole(windows()))
    assert pages(read(memory, windows()).young) == 0


def test_a_clear_of_some_pages_leaves_the_others_of_their_window_alone():
    memory = SimulatedMemory([area()])
    border = BASE + WINDOW
    memory.clear(np.array([[BASE + 2 * PAGE, BASE + 5 * PAGE], [border - PAGE, border + PAGE]], np.uint64))
    young = read(memory, windows()[:2]).young
    assert young.tolist() == [ALL ^ 0b11100 ^ 1 << 63, ALL ^ 1]


@pytest.mark.parametrize("pattern", [
    hot_set(GIB, 256 * MIB, 10.0, seed=1, cold_hz=0.1), hot_spots(GIB, MIB, 50, 10.0), Stride(GIB // PAGE, 5, 10.0),
    zipf(GIB, 1e6, seed=2), moving_hot_set(GIB, 64 * MIB, 10.0, dwell_ns=40 * MS)],
    ids=["hot set", "spots", "stride", "zipf", "moving"])
def test_what_reads_show_is_what_the_truth_says(pattern):
    memory = SimulatedMemory([area(size=GIB, pattern=pattern)], seed=3)
    memory.advance(333 * MS)
    memory.clear(np.array([[BASE, BASE + GIB]], np.uint64))
    began = memory.now_ns()
    memory.advance(120 * MS)
    truth = memory.truth(began, memory.now_ns())
    seen = pages(read(memory, windows(size=GIB)).young) * PAGE
    assert seen == pytest.approx(truth["touched_bytes"].sum(), rel=0.01)
    assert (truth["start"][1:] >= truth["end"][:-1]).all()


def test_the_truth_about_phases_is_an_average_of_rates_and_counts_no_page_twice():
    memory = SimulatedMemory([area(pattern=moving_hot_set(64 * MIB, 32 * MIB, 1000.0, dwell_ns=100 * MS))])
    truth = memory.truth(0, 200 * MS)
    assert truth["touched_bytes"].sum() == pytest.approx(64 * MIB)
    assert truth["rate_hz"] == pytest.approx([500.0, 500.0])


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    def run(seed):
        memory = SimulatedMemory([area(pattern=zipf(64 * MIB, 1e5, seed=1))], seed=seed)
        memory.clear(whole(windows()))
        memory.advance(50 * MS)
        return read(memory, windows()).young.tolist()

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_reading_in_between_changes_nothing():
    def run(times):
        memory = SimulatedMemory([area(pattern=zipf(64 * MIB, 1e5, seed=1))])
        memory.clear(whole(windows()))
        for time_ms in times:
            memory.advance(time_ms * MS)
            young = read(memory, windows()).young
        return young.tolist()

    assert run([100]) == run([10, 20, 30, 40])


def test_a_huge_page_has_one_bit_for_all_its_pages():
    memory = SimulatedMemory([area(pattern=hot_set(64 * MIB, 40 * PAGE, 50.0, offset_bytes=10 * CHUNK), huge=True)])
    memory.clear(np.array([[BASE, BASE + 64 * MIB]], np.uint64))
    memory.advance(SECOND)
    result = read(memory, windows())
    assert (result.level == LEVEL_CHUNK).all()
    hot = (windows() >= BASE + 10 * CHUNK) & (windows() < BASE + 11 * CHUNK)
    assert (result.young[hot] == ALL).all()
    assert (result.young[~hot] == 0).all()
    assert memory.splits == 0
    truth = memory.truth(0, SECOND)
    assert truth[["start", "end"]].tolist() == [(BASE + 10 * CHUNK, BASE + 11 * CHUNK)]


def test_a_clear_of_a_part_splits_a_huge_page_and_leaves_its_other_pages_as_the_huge_page_was():
    memory = SimulatedMemory([area(huge=True)])
    cost_ns = memory.cpu_ns
    memory.clear(np.array([[BASE + CHUNK, BASE + CHUNK + WINDOW]], np.uint64))
    assert memory.splits == 1
    assert memory.cpu_ns - cost_ns > Prices().split_ns
    result = read(memory, windows(BASE, 3 * CHUNK))
    assert result.level.tolist() == [LEVEL_CHUNK] * 8 + [LEVEL_PAGE] * 8 + [LEVEL_CHUNK] * 8
    assert result.young.tolist() == [ALL] * 8 + [0] + [ALL] * 7 + [ALL] * 8
    memory.clear(np.array([[BASE + 2 * CHUNK, BASE + 3 * CHUNK]], np.uint64))
    memory.clear(np.array([[BASE + 2 * CHUNK, BASE + 2 * CHUNK + PAGE]], np.uint64))
    assert memory.splits == 2
    assert (read(memory, windows(BASE + 2 * CHUNK, CHUNK)).young == 0).all()


def test_shared_pages_stay_young_and_are_named_as_unclearable():
    memory = SimulatedMemory([area(shared=0.25)])
    memory.clear(np.array([[BASE, BASE + 64 * MIB]], np.uint64))
    young = read(memory, windows()).young
    assert pages(young) / (64 * MIB // PAGE) == pytest.approx(0.25, abs=0.02)
    assert (memory.unclearable(windows(), young) == young).all()
    assert (memory.unclearable(windows(), np.zeros_like(young)) == 0).all()


def test_pages_that_are_touched_again_at_once_are_not_called_unclearable():
    memory = SimulatedMemory([area(pattern=hot_set(64 * MIB, 64 * MIB, 1e6))])
    memory.clear(np.array([[BASE, BASE + 64 * MIB]], np.uint64))
    memory.advance(MS)
    young = read(memory, windows()).young
    assert (young == ALL).all()
    assert (memory.unclearable(windows(), young) == 0).all()


def test_pages_not_on_the_lru_clear_once_they_are():
    memory = SimulatedMemory([area(off_lru=0.5, lru_at_ns=SECOND)])
    everything = np.array([[BASE, BASE + 64 * MIB]], np.uint64)
    memory.clear(everything)
    young = read(memory, windows()).young
    assert pages(young) / (64 * MIB // PAGE) == pytest.approx(0.5, abs=0.02)
    memory.advance(2 * SECOND)
    assert (read(memory, windows()).young == young).all()
    memory.clear(everything)
    assert pages(read(memory, windows()).young) == 0


def test_ranges_that_are_unmapped_locked_or_ragged_are_refused_and_the_rest_is_cleared():
    memory = SimulatedMemory([area(), area(start=BASE + GIB, clearable=False)])
    result = memory.clear(np.array([[BASE, BASE + WINDOW], [BASE + 64 * MIB - PAGE, BASE + 64 * MIB + PAGE],
                                    [BASE + GIB, BASE + GIB + WINDOW], [BASE + CHUNK, BASE + CHUNK + 5]], np.uint64))
    assert (result.calls, result.refused) == (1, 3)
    assert read(memory, windows()[:2]).young.tolist() == [0, ALL]
    assert read(memory, np.array([BASE + GIB], np.uint64)).young.tolist() == [ALL]
    assert memory.unclearable(np.array([BASE + GIB], np.uint64), np.array([3], np.uint64)).tolist() == [3]


def test_ranges_that_overlap_clear_what_they_cover():
    memory = SimulatedMemory([area()])
    edges = [(0, 10), (2, 5), (4, 12), (12, 12 + 3), (20, 21)]
    memory.clear(np.array([[BASE + a * PAGE, BASE + b * PAGE] for a, b in edges], np.uint64))
    assert read(memory, windows()[:1]).young.tolist() == [ALL ^ (2**15 - 1) ^ 2**20]


def test_a_clear_takes_one_call_for_each_128_ranges():
    memory = SimulatedMemory([area(size=GIB)])
    assert memory.clear(whole(windows(size=129 * WINDOW))).calls == 2
    assert memory.clear(np.zeros((0, 2), np.uint64)).calls == 0


def test_populated_chunks_are_those_with_memory_in_the_spans_asked_for():
    memory = SimulatedMemory([area(size=3 * CHUNK), area(start=BASE + GIB, populated=False),
                              area(start=BASE + 2 * GIB + CHUNK // 2, size=CHUNK)])
    spans = np.array([[BASE + CHUNK, BASE + 2 * GIB], [BASE + 2 * GIB, BASE + 3 * GIB]], np.uint64)
    assert (memory.populated(spans) - np.uint64(BASE)).tolist() == [CHUNK, 2 * CHUNK, 2 * GIB, 2 * GIB + CHUNK]


def test_the_tax_counts_each_cleared_page_that_is_touched_again_once():
    prices = Prices(retouch_ns=100, flush_tax_ns=0)
    memory = SimulatedMemory([area(pattern=hot_set(64 * MIB, 16 * MIB, 50.0, seed=1))], prices=prices)
    memory.clear(whole(windows()))
    assert memory.tax_ns == 0
    memory.advance(10 * SECOND)
    assert memory.tax_ns == pytest.approx(16 * MIB // PAGE * 100)
    memory.clear(whole(windows()))
    memory.advance(14 * MS)
    seen = pages(read(memory, windows()).young)
    assert memory.tax_ns == pytest.approx((16 * MIB // PAGE + seen) * 100, rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"huge": True}, {"rhythm": Rhythm.SWEEP}, {"shared": 0.5}])
def test_the_tax_is_the_same_whether_a_clear_comes_in_one_range_or_in_many(changes):
    def tax(ranges):
        memory = SimulatedMemory([area(pattern=zipf(64 * MIB, 1e5, seed=1), **changes)],
                                 prices=Prices(flush_tax_ns=0))
        memory.clear(ranges)
        memory.advance(20 * MS)
        return memory.tax_ns

    chunks = np.arange(BASE, BASE + 64 * MIB, CHUNK, dtype=np.uint64)
    assert tax(whole(chunks[::2], CHUNK)) + tax(whole(chunks[1::2], CHUNK)) == pytest.approx(
        tax(np.array([[BASE, BASE + 64 * MIB]], np.uint64)), rel=0.001)


def test_reads_clears_and_waking_up_cost_what_the_prices_say():
    prices = Prices(call_ns=1000, window_ns=10, iovec_ns=100, page_ns=2, bulk_page_ns=1, wake_ns=7, flush_tax_ns=5)
    memory = SimulatedMemory([area()], prices=prices)
    read(memory, windows()[:3])
    assert memory.cpu_ns == 1030
    memory.clear(whole(windows()[:2]))
    assert memory.cpu_ns == 1030 + 1000 + 2 * 100 + 2 * WINDOW_PAGES * 2
    assert memory.tax_ns == 10
    memory.advance(1)
    assert memory.cpu_ns == 1030 + 1000 + 2 * 100 + 2 * WINDOW_PAGES * 2 + 7


def test_sampling_a_page_sees_its_touches_and_leaves_no_trace():
    memory = SimulatedMemory([area(pattern=hot_set(64 * MIB, 32 * MIB, 20.0, offset_bytes=0))])
    addresses = np.arange(BASE, BASE + 65 * MIB, PAGE, dtype=np.uint64)
    memory.advance(50 * MS)
    seen = memory.sample_pages(addresses, 0)
    assert seen[:32 * MIB // PAGE].mean() == pytest.approx(1 - np.exp(-1), abs=0.02)
    assert not seen[32 * MIB // PAGE:].any()
    assert (read(memory, windows()).young == ALL).all()


def test_five_tib_take_little_memory_however_much_of_them_is_cleared_and_read():
    size = 5 * TIB
    tracemalloc.start()
    memory = SimulatedMemory([area(size=size, pattern=zipf(size, 1e7, seed=1))])
    chunks = memory.populated(np.array([[BASE, BASE + size]], np.uint64))
    sentinels = chunks[::10]
    memory.clear(whole(sentinels))
    memory.advance(SECOND)
    result = read(memory, sentinels)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert chunks.size == size // CHUNK
    assert 0 < pages(result.young) < sentinels.size * WINDOW_PAGES
    assert peak_bytes < GIB


@pytest.mark.parametrize("wrong", [
    lambda: SimulatedMemory([]),
    lambda: SimulatedMemory([area(), area(start=BASE + MIB)]),
    lambda: area(size=MIB, huge=True),
    lambda: area(start=BASE + 1),
    lambda: area(shared=1.5),
])
def test_a_target_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        wrong()
