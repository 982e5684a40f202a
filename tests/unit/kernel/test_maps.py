# SPDX-License-Identifier: GPL-2.0-only
"""/proc/PID/maps: what can be monitored, by its name."""

import pytest

from pagepulse.kernel.maps import parse_maps

TEXT = """\
55d0a0000000-55d0a0021000 r-xp 00000000 08:01 1234                       /usr/bin/with space
55d0b0000000-55d0b0021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7f0000100000-7f0000200000 ---p 00000000 00:00 0
7f0000200000-7f0000300000 rw-p 00000000 00:00 0                          [anon:pool]
7f0000400000-7f0000600000 rw-p 00000000 00:0f 77                         /anon_hugepage (deleted)
7f0000600000-7f0000700000 rw-s 00000000 00:06 1                          /dev/dri/card0
7f0000700000-7f0000800000 rw-s 00000000 00:18 5                          /dev/shm/segment
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
7ffd00030000-7ffd00034000 r--p 00000000 00:00 0                          [vvar]
7ffd00034000-7ffd00036000 r-xp 00000000 00:00 0                          [vdso]
"""


def by_name(name):
    [found] = [mapping for mapping in parse_maps(TEXT) if mapping.name == name]
    return found


def test_mappings_without_permission_and_kernel_pages_are_left_out():
    names = [mapping.name for mapping in parse_maps(TEXT)]

    assert names == ["/usr/bin/with space", "[heap]", "[anon]", "[anon: pool]", "/anon_hugepage (deleted)",
                     "/dev/dri/card0", "/dev/shm/segment", "[stack]"]


def test_bounds_are_the_kernels():
    assert (by_name("[heap]").start, by_name("[heap]").end) == (0x55d0b0000000, 0x55d0b0021000)


@pytest.mark.parametrize(("name", "clearable"), [("/anon_hugepage (deleted)", False), ("/dev/dri/card0", False),
                                                 ("/dev/shm/segment", True), ("[heap]", True)])
def test_hugetlb_and_devices_are_never_cleared(name, clearable):
    assert by_name(name).clearable is clearable


def test_files_are_not_anonymous():
    assert not by_name("/usr/bin/with space").anonymous
    assert by_name("[anon: pool]").anonymous


@pytest.mark.parametrize("cut", range(0, len(TEXT), 7))
def test_text_that_was_cut_short_still_parses(cut):
    assert len(parse_maps(TEXT[:cut])) <= 8
