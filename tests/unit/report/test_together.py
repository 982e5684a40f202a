# SPDX-License-Identifier: GPL-2.0-only
"""Several processes as one."""

from __future__ import annotations

from dataclasses import replace

from builders import snapshot
from pagepulse.report.together import together


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
