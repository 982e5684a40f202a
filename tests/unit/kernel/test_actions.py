# SPDX-License-Identifier: GPL-2.0-only
"""Actions: what is booked as done, and what is not, whatever the calls return."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pagepulse.kernel import actions
from pagepulse.kernel.actions import CHANGED, NO_SWAP, Actuator
from pagepulse.kernel.kept import Kept
from pagepulse.model.memory import PAGE, Mapping, PageBits

BASE = 0x7F00_0000_0000
HEAP = Mapping(BASE, BASE + 64 * PAGE, "[heap]")


class Memory:
    """64 pages of a target, and a kernel that refuses runs, skips pages, or has no swap."""

    def __init__(self) -> None:
        self.process = SimpleNamespace(pid=4242, pidfd=7)
        self.maps = [HEAP]
        self.present, self.young, self.swapped, self.lost, self.skipped, self.locked = (
            np.zeros(64, bool) for _ in range(6))
        self.present[:] = True
        self.refused: set[int] = set()
        self.calls: list[list[tuple[int, int]]] = []
        self.meanwhile: Any = lambda: None

    def mappings(self) -> list[Mapping]:
        return self.maps

    def check_identity(self) -> None:
        pass

    def read_pages(self, start: int, end: int) -> PageBits:
        at = slice((start - BASE) // PAGE, (end - BASE) // PAGE)
        return PageBits(start, self.present[at], self.young[at], np.zeros_like(self.young[at]), self.swapped[at],
                        self.lost[at])

    def advise(self, _pidfd: int, iovecs: np.ndarray, advice: int) -> int:
        self.calls.append([tuple(one) for one in iovecs.tolist()])
        done = 0
        for start, size in iovecs.tolist():
            if start in self.refused:
                if done:
                    return done
                raise OSError(errno.EINVAL, "refused")
            at = slice((start - BASE) // PAGE, (start + size - BASE) // PAGE)
            if advice == actions.MADV_PAGEOUT:
                goes = self.present[at] & ~self.skipped[at] & ~self.locked[at]
                self.swapped[at] |= goes
                self.present[at] &= ~goes
            done += size
        self.meanwhile()
        return done


@pytest.fixture(name="memory")
def _memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    monkeypatch.setattr(actions, "process_madvise", memory.advise)
    monkeypatch.setattr(actions, "swap_free_bytes", lambda: 1 << 30)
    monkeypatch.setattr(actions, "kept", lambda _pid, start, asked: Kept(
        *(asked & mask[(start - BASE) // PAGE:][:asked.size] for mask in (memory.skipped, memory.locked))))
    return memory


def act(memory: Any, action: str, *runs: tuple[int, int], chosen_in: list[Mapping] | None = None) -> actions.Effect:
    """On pages from .. to; what is booked adds up."""
    pages = np.array([(BASE + first * PAGE, BASE + last * PAGE) for first, last in runs], np.uint64)
    effect = Actuator(memory, None, chosen_in).act(action, pages)
    assert effect.tried_bytes == effect.applied_bytes + sum(effect.reasons.values())
    return effect


def pages(effect: actions.Effect) -> dict[str, int]:
    return {reason: size // PAGE for reason, size in effect.reasons.items()}


def fruitless(effect: actions.Effect) -> list[int]:
    return sorted((start - BASE) // PAGE + n for runs in effect.fruitless for start, end in runs.tolist()
                  for n in range((end - start) // PAGE))


def test_pages_that_have_an_entry_of_swap_afterwards_are_paged_out(memory):
    effect = act(memory, "pageout", (0, 64))
    assert (effect.applied_bytes, effect.reasons, fruitless(effect)) == (64 * PAGE, {}, [])


def test_the_kernel_is_asked_page_by_page_why_it_kept_what_it_kept_and_those_pages_rest(memory):
    memory.skipped[3:5] = memory.locked[9] = True
    effect = act(memory, "pageout", (0, 16))
    assert pages(effect) == {"shared with another process": 2, "locked": 1}
    assert fruitless(effect) == [3, 4, 9]


def test_what_the_target_gave_up_itself_is_not_paged_out(memory):
    def free() -> None:
        memory.present[:8] = memory.swapped[:8] = False
    memory.meanwhile = free
    effect = act(memory, "pageout", (0, 16))
    assert (effect.applied_bytes, pages(effect)) == (8 * PAGE, {"unmapped by the target": 8})


def test_pages_of_a_file_that_are_absent_are_paged_out_unless_the_file_is_not_mapped_there_any_more(memory):
    file = Mapping(BASE, BASE + 64 * PAGE, "/x", anonymous=False, file="8:1:7")
    memory.maps = [file]

    def drop() -> None:
        memory.present[:] = memory.swapped[:] = False
    memory.meanwhile = drop
    assert act(memory, "pageout", (0, 16), chosen_in=[file]).applied_bytes == 16 * PAGE

    def unmap() -> None:
        memory.maps = []
    memory.meanwhile = unmap
    effect = act(memory, "pageout", (0, 16), chosen_in=[file])
    assert pages(effect) == {"unmapped by the target": 16}


def test_what_is_absent_after_a_refused_call_was_not_paged_out_by_it(memory):
    memory.refused.add(BASE)
    memory.present[:4] = False
    memory.swapped[2:4] = True
    effect = act(memory, "pageout", (0, 8))
    assert (effect.applied_bytes, pages(effect)) == (0, {"unmapped by the target": 2, "refused by the kernel": 6})


def test_of_a_lost_page_table_nothing_is_known(memory):
    memory.lost[:] = True
    memory.present[:] = False
    effect = act(memory, "pageout", (0, 8))
    assert (effect.applied_bytes, len(effect.reasons)) == (0, 1)
    assert "not known" in next(iter(effect.reasons))


def test_cold_that_was_refused_or_skipped_is_not_done(memory):
    memory.refused.add(BASE + 8 * PAGE)
    memory.skipped[0] = True
    memory.young[1] = True
    effect = act(memory, "cold", (0, 4), (8, 12), (20, 24))
    assert effect.applied_bytes == 6 * PAGE
    assert pages(effect) == {"shared with another process": 1, "touched meanwhile": 1, "refused by the kernel": 4}


def test_what_was_made_cold_rests_too_once_is_enough(memory):
    assert fruitless(act(memory, "cold", (0, 4))) == [0, 1, 2, 3]


def test_behind_a_refused_range_it_goes_on_and_a_run_is_cut_where_mappings_meet(memory):
    memory.maps = [Mapping(BASE, BASE + 16 * PAGE, "a"), Mapping(BASE + 16 * PAGE, BASE + 32 * PAGE, "locked"),
                   Mapping(BASE + 32 * PAGE, BASE + 64 * PAGE, "b")]
    memory.refused.add(BASE + 16 * PAGE)
    effect = act(memory, "pageout", (0, 64))
    assert (effect.applied_bytes, effect.errors) == (48 * PAGE, 1)
    assert pages(effect) == {"refused by the kernel": 16}


def test_where_there_is_no_swap_pages_without_a_file_stay_and_do_not_rest(memory, monkeypatch):
    monkeypatch.setattr(actions, "swap_free_bytes", lambda: 0)
    memory.skipped[:] = True
    effect = act(memory, "pageout", (0, 8))
    assert (pages(effect), fruitless(effect)) == ({NO_SWAP: 8}, [])


def test_what_was_mapped_over_the_place_since_pages_were_chosen_is_not_touched(memory):
    memory.maps = [Mapping(BASE, BASE + 8 * PAGE, "/kept", anonymous=False, file="8:1:7"),
                   Mapping(BASE + 8 * PAGE, BASE + 64 * PAGE, "[heap]")]
    effect = act(memory, "pageout", (0, 16), chosen_in=[HEAP])
    assert memory.calls == [[(BASE + 8 * PAGE, 8 * PAGE)]]
    assert (effect.applied_bytes, pages(effect)) == (8 * PAGE, {CHANGED: 8})
