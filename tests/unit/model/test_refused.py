# SPDX-License-Identifier: GPL-2.0-only
"""Refused pages: asked about again, until the kernel would clear them."""

from __future__ import annotations

import numpy as np

from fakes import BASE, MIB, MS, FakeMemory, watch
from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.layout import spread
from pagepulse.model.refused import FEW, MANY, ask_again
from pagepulse.model.windows import ALL_PAGES, Windows


def refused_windows(memory: FakeMemory) -> Windows:
    mappings = memory.mappings()
    windows = Windows(mappings, spread(mappings, np.array([BASE], np.uint64), 100))
    windows.observe(np.arange(len(windows)), memory.read_windows(windows.tile))
    windows.refuse(np.arange(len(windows)), windows.present)
    return windows


def shared(size_bytes: int = 2 * MIB, *, clearable: bool = True) -> FakeMemory:
    memory = FakeMemory(size_bytes)
    memory.map(BASE, size_bytes, clearable=clearable)
    memory.share(BASE, size_bytes // 4096)
    return memory


def test_pages_that_are_shared_still_stay_refused_and_few_are_asked_about():
    memory = shared()
    windows = refused_windows(memory)
    assert ask_again(windows, memory, 100, np.random.default_rng(0)) == FEW
    assert (windows.refused == ALL_PAGES).all()


def test_pages_that_are_private_by_now_are_refused_no_more_and_many_are_asked_about():
    memory = shared()
    windows = refused_windows(memory)
    memory.shared[:] = False
    memory.share(BASE + 2 * MIB - 4096, 1)
    assert ask_again(windows, memory, 1, np.random.default_rng(0)) == MANY
    assert np.count_nonzero(windows.refused != ALL_PAGES) == 1
    for _ in range(100):
        ask_again(windows, memory, 8, np.random.default_rng())
    assert np.bitwise_count(windows.refused).sum() == 1


def test_a_mapping_that_refuses_as_a_whole_is_never_asked_about():
    memory = shared(clearable=False)
    windows = refused_windows(memory)
    memory.shared[:] = False
    assert ask_again(windows, memory, 100, np.random.default_rng(0)) == FEW
    assert (windows.refused == ALL_PAGES).all()


def test_what_a_fork_shared_is_watched_once_the_child_has_ended():
    memory = shared(8 * MIB)
    engine = Engine(1, memory, EngineOptions(5 * MS, 100 * MS, 10, 200))
    while_shared = [*watch(engine, memory, lambda: None, intervals=120)][-1]
    memory.shared[:] = False
    after = [*watch(engine, memory, lambda: None, intervals=200)][-1]
    assert while_shared.unclearable_bytes == 8 * MIB
    assert after.unclearable_bytes == after.unknown_bytes == 0
    assert after.idle_bytes[1] == 8 * MIB
