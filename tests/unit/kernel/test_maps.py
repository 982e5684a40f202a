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


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_the_name_of_a_file_cannot_pose_as_a_line_of_its_own(separator):
    line = f"7f0000000000-7f0000100000 rw-p 00000000 08:01 5 /tmp/a{separator}1000-2000 rw-p 00000000 00:00 0 [heap]\n"

    [mapping] = parse_maps(line)

    assert (mapping.start, mapping.end) == (0x7F0000000000, 0x7F0000100000)


def test_a_name_that_would_move_the_cursor_is_shown_without():
    [mapping] = parse_maps("7f0000000000-7f0000100000 rw-p 00000000 08:01 5 /tmp/\x1b[2Jevil\n")

    assert mapping.name == "/tmp/?[2Jevil"


def test_a_deleted_file_keeps_the_word_and_leading_spaces_do_not_matter():
    [mapping] = parse_maps("7f0000000000-7f0000100000 r--p 00000000 08:01 5            /tmp/a b (deleted)\n")

    assert mapping.name == "/tmp/a b (deleted)"


def test_addresses_of_five_levels_and_of_the_vsyscall_page_parse():
    text = ("ff7f0000000000-ff7f0000100000 rw-p 00000000 00:00 0\n"
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n")

    assert [m.start for m in parse_maps(text)] == [0xFF7F0000000000]


def test_no_text_has_no_mapping():
    assert parse_maps("") == []


def test_a_hundred_thousand_mappings_parse_to_as_many():
    text = "".join(f"{0x7F0000000000 + n * 8192:x}-{0x7F0000001000 + n * 8192:x} rw-p 00000000 00:00 0\n"
                   for n in range(100_000))

    assert len(parse_maps(text)) == 100_000


def test_what_every_process_that_maps_a_file_has_in_common_is_told_from_its_own():
    text = ("1000-2000 r--p 00000000 08:01 77 /lib/x\n"
            "2000-5000 r-xp 00001000 08:01 77 /lib/x\n"
            "6000-7000 r--p 00004000 08:01 77 /lib/x\n"  # relocated, then locked
            "7000-8000 rw-p 00005000 08:01 77 /lib/x\n"
            "8000-9000 rw-p 00000000 00:00 0 \n"
            "a000-b000 rw-s 00000000 00:01 2050 /dev/shm/x (deleted)\n"
            "c000-d000 r--p 00003000 08:01 99 /data\n")
    mappings = parse_maps(text)
    assert [m.shared for m in mappings] == [True, True, False, False, False, True, True]
    assert [m.file for m in mappings] == ["08:01:77"] * 4 + ["", "00:01:2050", "08:01:99"]
    assert mappings[-1].offset == 0x3000
