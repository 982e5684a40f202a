# SPDX-License-Identifier: GPL-2.0-only
"""Events: what the kernel's messages say, and which of it is worth telling."""

from __future__ import annotations

import os
import struct

import numpy as np

from pagepulse.kernel.events import Happened, survivors

_EVENT = struct.Struct("<IIQIIII")  # struct proc_event: what, cpu, timestamp_ns, ids


def fork(at_ns, parent, pid):
    return at_ns, (1, parent, parent, pid, pid)


def end(at_ns, pid):
    return at_ns, (0x80000000, pid, pid, 0, 17)


def exec_(at_ns, pid):
    return at_ns, (2, pid, pid, 0, 0)


def told(*events):
    """As the connector sends them: netlink and connector header, then the event; the rest of the buffer is old."""
    rows = []
    for at_ns, (kind, *ids) in events:
        message = bytes(36) + _EVENT.pack(kind, 0, at_ns, *ids)
        rows.append(np.frombuffer(message + os.urandom(128 - len(message)), np.uint8))
    return survivors(np.array(rows))


def test_a_fork_and_an_exit_are_told_with_their_time():
    late_ns = (1 << 40) + 5
    events = told(fork(late_ns, 10, 11), end(late_ns + 1, 12))
    assert events == [Happened(late_ns, 11, 10), Happened(late_ns + 1, 12, None)]


def test_who_lived_and_died_between_two_looks_is_not_told_of():
    assert told(fork(1, 10, 11), end(2, 11), fork(3, 10, 12)) == [Happened(3, 12, 10)]


def test_who_left_children_is_told_of_for_they_are_found_through_it():
    events = told(fork(1, 10, 11), fork(2, 11, 12), end(3, 11))
    assert events == [Happened(1, 11, 10), Happened(2, 12, 11), Happened(3, 11, None)]


def test_an_older_life_ends_before_its_number_is_used_again():
    assert told(end(1, 11), fork(2, 10, 11)) == [Happened(1, 11, None), Happened(2, 11, 10)]


def test_of_a_number_that_is_used_twice_each_life_is_taken_for_itself():
    assert told(end(1, 11), fork(2, 10, 11), end(3, 11)) == [Happened(1, 11, None)]
    assert told(fork(1, 10, 11), end(2, 11), fork(3, 10, 11)) == [Happened(3, 11, 10)]


def test_a_thousand_short_lives_are_nothing():
    lives = [event for pid in range(100, 1100) for event in (fork(pid, 10, pid), end(pid, pid))]
    assert told(*lives, fork(9999, 10, 5000)) == [Happened(9999, 5000, 10)]


def test_who_became_another_program_is_told_of_unless_it_was_a_short_life():
    assert told(exec_(1, 11)) == [Happened(1, 11, None, changed=True)]
    assert told(fork(1, 10, 11), exec_(2, 11)) == [Happened(1, 11, 10), Happened(2, 11, None, changed=True)]
    assert told(fork(1, 10, 11), exec_(2, 11), exec_(3, 11), end(4, 11)) == []
