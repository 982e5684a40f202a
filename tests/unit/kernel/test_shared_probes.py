# SPDX-License-Identifier: GPL-2.0-only
"""One set of probes for many targets: each hears of its own memory, and what was lost counts once."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from pagepulse.kernel import shared_probes
from pagepulse.kernel.probes import Claims
from pagepulse.kernel.reader import Identity
from pagepulse.kernel.shared_probes import SharedProbes
from pagepulse.model.memory import WINDOW


class FakeProbes:
    """The programs and their tables, in Python: `others_clear` is another agent."""

    attached, sees_taken = ("kprobe:ptep_test_and_clear_young",), True
    own_clear = None

    def __init__(self, _programs, *, faults):
        assert not faults
        self.watched = Claims(self)
        self.taken_lost = 0
        self.room = 3
        self.numbers: dict[int, int] = {}
        self.table: dict[int, int] = {}

    def put(self, mm, number):
        if mm not in self.numbers and len(self.numbers) >= self.room:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        assert 0 < number < WINDOW
        self.numbers[mm] = number

    def remove(self, mm):
        del self.numbers[mm]

    def others_clear(self, mm, window, mask):
        if mm in self.numbers:
            key = window + self.numbers[mm]
            self.table[key] = self.table.get(key, 0) | mask

    def drain_taken(self):
        table, self.table = self.table, {}
        return np.array([*table], np.uint64), np.array([*table.values()], np.uint64)


@pytest.fixture(name="shared")
def _shared(monkeypatch):
    monkeypatch.setattr(shared_probes, "Probes", FakeProbes)
    return SharedProbes(None)


def one(shared, mm):
    probes = shared.of_one()
    probes.watch(Identity(7, mm, 1))
    return probes


def taken(probes):
    windows, masks = probes.drain_taken()
    return dict(zip(windows.tolist(), masks.tolist(), strict=True))


def test_each_hears_of_its_own_memory_and_whoever_asks_later_of_all_that_came_meanwhile(shared):
    kernel = shared._probes
    first, second = one(shared, 0xA000), one(shared, 0xB000)
    kernel.others_clear(0xA000, 3 * WINDOW, 0b01)
    kernel.others_clear(0xB000, 3 * WINDOW, 0b10)
    kernel.others_clear(0xC000, 3 * WINDOW, 0b100)
    assert taken(first) == {3 * WINDOW: 0b01}
    kernel.others_clear(0xB000, 3 * WINDOW, 0b1000)
    kernel.others_clear(0xB000, 9 * WINDOW, 0b1)
    assert taken(first) == {}
    assert taken(second) == {3 * WINDOW: 0b1010, 9 * WINDOW: 0b1}
    assert taken(second) == {}


def test_after_an_exec_the_new_memory_is_looked_at_and_not_the_old(shared):
    kernel = shared._probes
    probes = one(shared, 0xA000)
    probes.watch(Identity(7, 0xD000, 2))
    kernel.others_clear(0xA000, 0, 1)
    kernel.others_clear(0xD000, WINDOW, 1)
    assert taken(probes) == {WINDOW: 1}


def test_nothing_of_one_that_is_gone_comes_to_those_that_follow(shared):
    kernel = shared._probes
    stays, gone = one(shared, 0xA000), one(shared, 0xB000)
    kernel.others_clear(0xB000, WINDOW, 1)
    taken(stays)
    kernel.others_clear(0xB000, 2 * WINDOW, 1)
    gone.close()
    assert list(kernel.numbers) == [0xA000]
    assert taken(one(shared, 0xB000)) == {}
    assert not shared._kept


def test_what_an_exited_process_had_and_a_new_one_has_is_the_new_ones(shared):
    """The kernel gives an mm to the next process before we know that the former is gone."""
    kernel = shared._probes
    gone, new = one(shared, 0xA000), one(shared, 0xA000)
    gone.close()
    kernel.others_clear(0xA000, WINDOW, 1)
    assert taken(new) == {WINDOW: 1}
    new.close()
    assert not kernel.numbers


def test_what_the_child_of_a_vfork_has_from_its_parent_is_the_parents_again_after_its_exec(shared):
    kernel = shared._probes
    parent, child = one(shared, 0xA000), one(shared, 0xA000)
    child.watch(Identity(8, 0xB000, 2))
    kernel.others_clear(0xA000, WINDOW, 1)
    kernel.others_clear(0xB000, WINDOW, 2)
    assert (taken(parent), taken(child)) == ({WINDOW: 1}, {WINDOW: 2})


def test_a_target_for_which_there_is_no_room_sees_nothing_taken_until_there_is(shared):
    many = [one(shared, 0xA000 + number) for number in range(4)]
    assert [probes.sees_taken for probes in many] == [True, True, True, False]
    many[0].close()
    many[3].watch(Identity(7, 0xF000, 1))
    assert many[3].sees_taken


def test_what_was_lost_is_told_to_all_and_counted_for_one(shared):
    first, second = one(shared, 0xA000), one(shared, 0xB000)
    shared._probes.taken_lost = 5
    assert (first.taken_lost, second.taken_lost) == (5, 5)
    assert first.lost + second.lost == 5
    shared._probes.taken_lost = 7
    assert second.lost + first.lost == 7


def test_numbers_that_are_in_use_are_passed_over(shared):
    first = one(shared, 0xA000)
    shared._numbers = iter([first._number, first._number + 5])
    assert shared.of_one()._number == first._number + 5
