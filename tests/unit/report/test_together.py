# SPDX-License-Identifier: GPL-2.0-only
"""Several processes as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders import BASE, MIB, SECOND, region, snapshot
from pagepulse.model.snapshot import SharedRange
from pagepulse.report.together import Together, together


def seen(pid, end_ns, rss_bytes, wss_bytes):
    return replace(snapshot(), pid=pid, start_ns=end_ns - 10, end_ns=end_ns, rss_bytes=rss_bytes, wss_bytes=wss_bytes)


def test_each_process_counts_as_it_was_last_seen():
    sums = list(together([seen(1, 10, 100, 7), seen(2, 20, 50, 1), seen(1, 30, 80, 2)], []))
    assert [(s.rss_bytes, s.wss_bytes) for s in sums] == [(100, 7), (150, 8), (130, 3)]


def test_a_process_that_has_ended_counts_no_more():
    sums = list(together([seen(1, 10, 100, 7), seen(2, 20, 50, 1), seen(2, 40, 60, 1)], [(30, 1)]))
    assert sums[-1].rss_bytes == 60


def test_the_end_of_a_process_of_which_nothing_was_seen_changes_nothing():
    assert next(iter(together([seen(1, 10, 100, 7)], [(5, 9)]))).rss_bytes == 100


def mapping_of(pid, *, at=BASE, file="08:01:77", offset=0, size=4 * MIB, present=4 * MIB, touched=MIB, private=10 * MIB,
               idle_ns=0):
    """A process with private memory of which half is touched, and a part of a file."""
    own = region(BASE + 64 * MIB, private, present_bytes=private, touched_bytes=private // 2)
    part = region(at, size, present_bytes=present, touched_bytes=touched, since_ns=100 * SECOND - idle_ns)
    return replace(snapshot(np.concatenate([part]), np.concatenate([own])), pid=pid, start_ns=99 * SECOND,
                   end_ns=100 * SECOND, rss_bytes=private + present, wss_bytes=private // 2 + touched,
                   shared=(SharedRange(at, at + size, file, offset),),
                   idle_bytes=(private + present, *(present if 0 < edge <= idle_ns else 0
                                                    for edge in (SECOND, 10 * SECOND, 60 * SECOND, 600 * SECOND))))


def sum_of(*snapshots):
    return list(together(snapshots, []))[-1]


def test_a_part_of_a_file_that_two_processes_map_counts_once():
    total = sum_of(mapping_of(1), mapping_of(2, at=BASE + 16 * MIB, touched=2 * MIB))
    assert (total.rss_bytes, total.wss_bytes) == (24 * MIB, 12 * MIB)


@pytest.mark.parametrize("other", [{"file": "08:01:78"}, {"offset": 4 * MIB}])
def test_other_files_and_other_parts_are_other_memory(other):
    assert sum_of(mapping_of(1), mapping_of(2, **other)).rss_bytes == 28 * MIB


def test_of_a_shared_part_the_process_that_has_most_of_it_counts():
    assert sum_of(mapping_of(1, present=MIB), mapping_of(2, present=3 * MIB)).rss_bytes == 23 * MIB


def test_when_one_of_them_ends_the_part_is_still_there():
    sums = Together()
    for pid in (1, 2):
        sums.add(mapping_of(pid))
    sums.ended(1)
    assert sums.sum_like(mapping_of(2)).rss_bytes == 14 * MIB
    sums.ended(2)
    assert sums.sum_like(mapping_of(2)).rss_bytes == 0


def test_what_one_of_them_touches_is_not_idle_however_long_another_left_it_alone():
    idle = mapping_of(1, touched=0, idle_ns=20 * SECOND)
    assert sum_of(idle, mapping_of(2, touched=0, idle_ns=20 * SECOND)).idle_bytes[1:3] == (4 * MIB, 4 * MIB)
    assert sum_of(idle, mapping_of(2, touched=3 * MIB)).idle_bytes[1:3] == (MIB, MIB)


def test_a_process_counts_as_it_was_last_seen_with_its_shared_parts():
    first, then = mapping_of(1, present=4 * MIB), mapping_of(1, present=2 * MIB)
    assert sum_of(first, mapping_of(2, present=MIB), then).rss_bytes == 22 * MIB


def test_what_is_not_known_yet_is_unknown_memory():
    sums = list(together([seen(1, 10, 100, 7), seen(1, 30, 100, 7)], [], [(20, 500), (40, 0)]))
    assert [(s.rss_bytes, s.unknown_bytes) for s in sums] == [(100, 0), (600, 500)]
