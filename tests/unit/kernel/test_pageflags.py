# SPDX-License-Identifier: GPL-2.0-only
"""Page flags: what MADV_COLD skips, told from pagemap and kpageflags files of a test's own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pagepulse.kernel import pageflags
from pagepulse.kernel.pageflags import PageFlags
from pagepulse.model.memory import PAGE

EXCLUSIVE, PRESENT = 1 << 56, 1 << 63
LRU, TAIL, HUGETLB, UNEVICTABLE, THP = 1 << 5, 1 << 16, 1 << 17, 1 << 18, 1 << 22
WINDOW_ADDRESS = 64 * PAGE


@pytest.fixture(name="flags")
def _flags(tmp_path: Path) -> PageFlags:
    """The pages of one window: frame n + 1 of page n, private and on the LRU, unless a test writes otherwise."""
    pagemap, kpageflags = tmp_path / "pagemap", tmp_path / "kpageflags"
    pagemap.write_bytes(bytes(8 * 64) + np.array([PRESENT | EXCLUSIVE | n + 1 for n in range(64)], "<u8").tobytes())
    kpageflags.write_bytes(np.full(65, LRU, "<u8").tobytes())
    found = PageFlags.__new__(PageFlags)
    found._pagemap, found._kpageflags = (os.open(path, os.O_RDWR) for path in (pagemap, kpageflags))
    yield found
    found.close()


def set_page(flags: PageFlags, page: int, entry: int) -> None:
    os.pwrite(flags._pagemap, np.uint64(entry).tobytes(), (64 + page) * 8)


def set_frame(flags: PageFlags, frame: int, value: int) -> None:
    os.pwrite(flags._kpageflags, np.uint64(value).tobytes(), frame * 8)


def skipped(flags: PageFlags, mask: int) -> int:
    return int(flags.skipped(np.array([WINDOW_ADDRESS], np.uint64), np.array([mask], np.uint64))[0])


def test_private_pages_on_the_lru_are_not_skipped(flags):
    assert skipped(flags, 2**64 - 1) == 0


def test_shared_pages_are_skipped(flags):
    set_page(flags, 3, PRESENT | 4)
    assert skipped(flags, 2**64 - 1) == 1 << 3


def test_only_pages_that_were_asked_about_are_told(flags):
    set_page(flags, 3, PRESENT | 4)
    set_page(flags, 5, PRESENT | 6)
    assert skipped(flags, 1 << 3 | 1 << 4) == 1 << 3


@pytest.mark.parametrize(("value", "is_skipped"), [
    (0, True), (LRU, False), (THP, False), (TAIL, False), (LRU | UNEVICTABLE, True), (HUGETLB | TAIL, True)])
def test_a_page_that_is_on_no_lru_list_is_skipped(flags, value, is_skipped):
    set_frame(flags, 1, value)
    assert skipped(flags, 1) == is_skipped


def test_frames_that_lie_far_apart_and_one_that_is_none_are_told_apart(flags):
    set_frame(flags, 5000, LRU | UNEVICTABLE)  # what lies between is on no list
    for page, frame in ((0, 5000), (1, 3), (2, 4999), (3, 3), (4, 1 << 40)):
        set_page(flags, page, PRESENT | EXCLUSIVE | frame)
    assert skipped(flags, 0b11111) == 0b10101


def test_windows_are_told_apart(flags):
    set_page(flags, 3, PRESENT | 4)
    windows = np.array([WINDOW_ADDRESS, 0, WINDOW_ADDRESS], np.uint64)
    assert flags.skipped(windows, np.array([0b1001, 0b11, 0b0001], np.uint64)).tolist() == [0b1000, 0b11, 0]


def test_a_window_that_pagemap_does_not_cover_is_taken_for_skipped(flags):
    asked = flags.skipped(np.array([1000 * WINDOW_ADDRESS], np.uint64), np.array([0b101], np.uint64))
    assert asked.tolist() == [0b101]


def test_no_window_has_no_answer(flags):
    assert flags.skipped(np.empty(0, np.uint64), np.empty(0, np.uint64)).tolist() == []


def test_bits_are_those_of_the_kernels_documentation():
    assert pageflags._EXCLUSIVE == EXCLUSIVE
    assert (pageflags._LRU, pageflags._COMPOUND_TAIL, pageflags._HUGETLB, pageflags._UNEVICTABLE, pageflags._THP) == (
        LRU, TAIL, HUGETLB, UNEVICTABLE, THP)


def test_a_clear_of_all_skips_the_zero_page_and_nothing_else(flags):
    set_frame(flags, 8, LRU | 1 << 24)
    set_page(flags, 9, PRESENT | 10)  # shared
    set_frame(flags, 12, UNEVICTABLE)
    assert flags.zero_pages(np.array([WINDOW_ADDRESS], np.uint64), np.array([0xFFFF], np.uint64)).tolist() == [1 << 7]
    assert flags.zero_pages(np.array([WINDOW_ADDRESS], np.uint64), np.array([1 << 3], np.uint64)).tolist() == [0]
