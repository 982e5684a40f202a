# SPDX-License-Identifier: GPL-2.0-only
"""Apply: what comes first, and what is left alone, over several passes of a scheme."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builders import BASE, MIB, SECOND, region, snapshot
from pagepulse import apply
from pagepulse.apply import Applier
from pagepulse.kernel import actions
from pagepulse.kernel.kept import Kept
from pagepulse.kernel.syscalls import MADV_COLLAPSE
from pagepulse.model.layout import spread
from pagepulse.model.memory import CHUNK, PAGE, Mapping, PageBits, WindowRead
from pagepulse.model.windows import ALL_PAGES, Windows
from pagepulse.policy.guards import GuardState, Verdict
from pagepulse.policy.parse import parse_schemes

PAGES = 2 * CHUNK // PAGE
SCHEME = {"name": "idle", "action": "pageout", "access_pattern": {"age": {"min": "5 s"}}, "quotas": {"size": "1 MiB"},
          "guards": {name: {"enabled": False} for name in
                     ("refault", "trial", "psi", "swap", "rss_floor", "waits", "step_share")}}


class Idle:
    """A target with two chunks, all idle, of which the kernel keeps the first: another process has it, too."""

    def __init__(self) -> None:
        self.now_ns, self.reads = 60 * SECOND, 0
        self.present, self.swapped, self.huge = np.ones(PAGES, bool), np.zeros(PAGES, bool), np.zeros(PAGES, bool)
        self.maps = [Mapping(BASE, BASE + 2 * CHUNK, "[heap]")]
        self.windows = Windows(self.maps, spread(self.maps, np.array([BASE, BASE + CHUNK], np.uint64), 1 << 10))
        n = len(self.windows)
        self.windows.observe(np.arange(n), WindowRead(np.zeros(n, np.uint64), np.full(n, ALL_PAGES),
                                                      np.ones(n, np.uint8), SECOND))
        target = SimpleNamespace(now_ns=lambda: self.now_ns, rss_bytes=lambda: 2 * CHUNK, mappings=lambda: self.maps,
                                 read_pages=self.read_pages, check_identity=lambda: None,
                                 process=SimpleNamespace(pid=1, pidfd=7))
        self.monitor: Any = SimpleNamespace(
            target=target, process=target.process, returned_bytes=0, returned_soon_bytes=0,
            leave_out=lambda _ns: None, look_for_returned=lambda: None, waits=SimpleNamespace(newest=None),
            engine=SimpleNamespace(windows=self.windows, evicted=lambda _runs, _since: None))

    def read_pages(self, start: int, end: int) -> PageBits:
        self.reads += 1
        at = slice((start - BASE) // PAGE, (end - BASE) // PAGE)
        nothing = np.zeros(self.present[at].size, bool)
        return PageBits(start, self.present[at].copy(), nothing, self.huge[at].copy(), self.swapped[at].copy(), nothing)

    def advise(self, _pidfd: int, iovecs: np.ndarray, advice: int) -> int:
        for start, size in iovecs.tolist():
            if advice == MADV_COLLAPSE:
                self.huge[(start - BASE) // PAGE : (start + size - BASE) // PAGE] = True
                continue
            first, last = max((start - BASE) // PAGE, PAGES // 2), (start + size - BASE) // PAGE
            self.swapped[first:last], self.present[first:last], self.huge[first:last] = True, False, False
        return int(iovecs[:, 1].sum())

    def snapshot(self) -> Any:
        return snapshot(region(BASE, 2 * CHUNK, since_ns=SECOND), mappings=("[heap]",), start_ns=self.now_ns)


@pytest.fixture(name="idle")
def _idle(monkeypatch: pytest.MonkeyPatch) -> Idle:
    idle = Idle()
    monkeypatch.setattr(actions, "process_madvise", idle.advise)
    for room in (actions, apply):
        monkeypatch.setattr(room, "swap_free_bytes", lambda: 1 << 30)
    monkeypatch.setattr(apply, "slowdown", lambda _waits: 0.0)
    monkeypatch.setattr(actions, "kept", lambda _pid, _start, asked: Kept(asked, np.zeros_like(asked)))
    return idle


def applier(idle: Idle, **changes: Any) -> Applier:
    text = json.dumps({"schemes": [SCHEME | changes]}).encode()
    return Applier(parse_schemes(text, "test"), None, idle.now_ns)


def test_what_the_kernel_keeps_makes_way_for_what_lies_behind_it_and_is_tried_once(idle):
    schemes = applier(idle)
    for _ in range(4):
        schemes.apply(idle.monitor, idle.snapshot())
        idle.now_ns += SECOND
    result, = schemes.results
    assert (result.tried_bytes, result.applied_bytes) == (4 * MIB, 2 * MIB)
    assert result.reasons == {"shared with another process": 2 * MIB}
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].tried_bytes == 4 * MIB


@pytest.mark.parametrize(("interval", "expected_s"), [("500 ms", 1), ("3 s", 3)])
def test_what_a_quota_held_back_may_go_on_after_a_second_or_the_scheme_s_own_interval(idle, interval, expected_s):
    schemes = applier(idle, apply_interval=interval)
    assert schemes.again_ns(1) is None
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.again_ns(1) == idle.now_ns + expected_s * SECOND


def test_a_quota_that_is_not_used_up_holds_nothing_back(idle):
    schemes = applier(idle, quotas={"size": "8 MiB"})
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.again_ns(1) is None


def came_back(idle: Idle, **changes: Any) -> Applier:
    """Schemes that paged out a huge page, all of which is there again, as small ones; the engine has seen it."""
    schemes = applier(idle, quotas={}, **changes)
    idle.huge[PAGES // 2:] = True
    schemes.apply(idle.monitor, idle.snapshot())
    assert idle.swapped[PAGES // 2:].all()
    idle.present[:], idle.swapped[:] = True, False
    idle.now_ns += SECOND
    return schemes


def test_what_went_as_a_huge_page_and_came_back_small_is_made_huge_again_once(idle):
    schemes = came_back(idle)
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].restored_bytes == 2 * MIB
    idle.now_ns += SECOND
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].restored_bytes == 2 * MIB


def test_what_nohugepage_took_stays_small(idle):
    schemes = came_back(idle, action="nohugepage")
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].restored_bytes == 0


def test_what_is_not_all_there_again_is_not_made_huge(idle):
    schemes = came_back(idle)
    idle.present[-1] = False
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].restored_bytes == 0


def test_no_huge_page_is_made_where_programs_wait_for_memory_or_the_scheme_says_so(idle, monkeypatch):
    schemes = came_back(idle, restore_huge_pages=False)
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].restored_bytes == 0
    schemes = came_back(idle)
    schemes._progress[0].guards = GuardState(verdicts=(Verdict("psi", "stops", 0, "programs wait"),))
    monkeypatch.setattr(apply, "guard_due", lambda _state, _now_ns: False)
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes.results[0].restored_bytes == 0


def test_memory_that_may_not_go_is_not_read_again_at_each_pass(idle):
    schemes = applier(idle, filters=[{"type": "hugepage_size", "size": {"min": "2 MiB"}, "allow": True}])
    schemes.apply(idle.monitor, idle.snapshot())
    assert idle.reads == 1
    for _ in range(5):
        idle.now_ns += SECOND
        schemes.apply(idle.monitor, idle.snapshot())
    assert idle.reads == 1


def test_reading_counts_against_the_quota_of_time(idle):
    schemes = applier(idle, filters=[{"type": "hugepage_size", "size": {"min": "2 MiB"}, "allow": True}],
                      quotas={"time": "100 ms"})
    schemes.apply(idle.monitor, idle.snapshot())
    assert schemes._progress[0].usage.used_ns > 0


def test_an_old_snapshot_is_not_acted_on_where_something_else_is_mapped_since_then(idle):
    schemes, old = applier(idle, quotas={}), idle.snapshot()
    schemes.apply(idle.monitor, old)
    idle.maps = [Mapping(BASE, BASE + 2 * CHUNK, "/kept", anonymous=False, file="8:1:7")]
    idle.windows.mappings = idle.maps  # the engine has seen it meanwhile; the snapshot is older
    idle.present[:], idle.swapped[:] = True, False
    idle.now_ns += 20 * SECOND
    schemes.apply(idle.monitor, old)
    result, = schemes.results
    assert result.reasons["mapping changed"] >= 2 * MIB
    assert idle.present.all()


def test_what_had_come_back_before_other_schemes_began_is_not_counted_again():
    target = SimpleNamespace(now_ns=lambda: 0)
    monitor = SimpleNamespace(returned_bytes=3 * MIB, returned_soon_bytes=2 * MIB, process=SimpleNamespace(pid=1),
                              target=target, engine=SimpleNamespace(windows=SimpleNamespace(mappings=())))
    applier = Applier([], None, 0)
    applier.apply(monitor, snapshot(pid=1))
    monitor.returned_bytes = 5 * MIB
    monitor.returned_soon_bytes = 3 * MIB
    applier.apply(monitor, snapshot(pid=1))
    assert applier.evictions.returned_bytes == applier.evictions_of(1).returned_bytes == 2 * MIB
    assert applier.evictions_of(1).returned_soon_bytes == MIB
