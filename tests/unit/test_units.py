# SPDX-License-Identifier: GPL-2.0-only
"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from pagepulse.policy import damo_values
from pagepulse.policy.fields import rate, share, size_bytes, time_ns
from pagepulse.units import parse_share, parse_size, parse_time_ns

GIB = 1 << 30


@pytest.mark.parametrize(("text", "expected"), [
    ("1,000", 1000), ("1,024.5 GiB", 1024 * GIB + GIB // 2), ("12,345,678 B", 12_345_678), ("4K", 4096), ("0.0 B", 0)])
def test_commas_stand_between_groups_of_three_digits(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["1,5 GiB", "1,,,2 MiB", "1,50 MiB", "1000,000 B", "0,500 GiB", "1, B", "1,000,5 B"])
@pytest.mark.parametrize("parse", [parse_size, size_bytes, damo_values.size])
def test_a_comma_elsewhere_in_a_size_is_refused(parse, text):
    with pytest.raises(ValueError, match="expected a size"):
        parse(text)


@pytest.mark.parametrize("parse", [parse_time_ns, time_ns, damo_values.time_in("us")])
def test_a_decimal_comma_in_a_time_is_refused(parse):
    with pytest.raises(ValueError, match="expected a time"):
        parse("1,5 s")


@pytest.mark.parametrize(("parse", "text"), [
    (parse_time_ns, "0.4 ns"), (time_ns, "0.0001 us"), (damo_values.time_in("us"), "0.4 ns"),
    (parse_size, "0.4 B"), (damo_values.size, "0.001 B")])
def test_what_would_round_to_nothing_is_refused(parse, text):
    with pytest.raises(ValueError, match="expected 0 or at least a whole byte or nanosecond, got"):
        parse(text)


@pytest.mark.parametrize(("parse", "text"), [
    (parse_size, "1,5 GiB"), (size_bytes, "1,5 GiB"), (damo_values.size, "1,5 GiB"), (parse_share, "1,5%"),
    (share, "1,5%"), (rate, "1,5%"), (time_ns, "1,5 s"), (damo_values.permil, "1,5 %")])
def test_who_wrote_a_comma_for_a_point_is_told_how_to_write_it(parse, text):
    with pytest.raises(ValueError, match=r"; write a fraction as in '1\.5', and thousands as in '1,024'$"):
        parse(text)
