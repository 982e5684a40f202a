# SPDX-License-Identifier: GPL-2.0-only
"""Values as damo writes them: numbers are strings with commas, in the unit that their key names unless they have one.

What damo reads is read here (its _damo_fmt_str.py). Every parser raises ValueError with the whole fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pagepulse.policy.fields import found
from pagepulse.units import DIGITS, SIZES, TIMES_NS, comma_hint, whole

UNLIMITED = 2**63 - 1
"""What DAMON's largest number becomes: nothing here is larger."""

_SIZES = {**SIZES, **dict.fromkeys(("E", "EB", "EiB"), 1 << 60)}
_NUMBER = f"({DIGITS})"
_NUMBER_AND_UNIT = re.compile(rf"\s*{_NUMBER}\s*([A-Za-z_%]*)\s*")
_TIMES = re.compile(rf"(?:\s*{_NUMBER}\s*(?:ns|us|ms|s|m|h|d)(?![a-z]))+\s*")
_TIME = re.compile(rf"{_NUMBER}\s*([a-z]+)")
_YES, _NO = ("y", "yes", "true"), ("n", "no", "false")
_MOST_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Counted:
    """A quantity whose unit is one of the document's own intervals."""

    count: float


def _plain(value: object, units: Mapping[str, float], expected: str) -> float:
    """A number times its unit; the unit "" stands for none."""
    if value in ("min", "max"):
        return 0.0 if value == "min" else UNLIMITED
    number, unit = math.nan, ""
    if isinstance(value, int | float) and not isinstance(value, bool) and value <= UNLIMITED:
        number = float(value)
    elif isinstance(value, str) and len(value) <= _MOST_DIGITS and (match := _NUMBER_AND_UNIT.fullmatch(value)):
        number, unit = float(match[1].replace(",", "")), match[2]
    if not number >= 0 or unit not in units:
        hint = comma_hint(value) if isinstance(value, str) else ""
        raise ValueError(f"expected {expected}, got {found(value)}{hint}")
    return min(number * units[unit], UNLIMITED)


def size(value: object) -> int:
    """Bytes of `"4.000 KiB"`, `"max"` or 4096."""
    return whole(_plain(value, _SIZES, "a size as damo writes it, such as '4.000 KiB' or 'max'"), value)


def number(value: object) -> float:
    """A number: `"1,000"`."""
    return _plain(value, {"": 1}, "a number as damo writes it, such as '1,000'")


def boolean(value: object) -> bool:
    """true, false, or `"Y"`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _YES + _NO:
        return value.lower() in _YES
    raise ValueError(f"expected true or false, got {found(value)}")


def time_in(unit: str) -> Callable[[object], int]:
    """A parser for nanoseconds of `"1 m 30 s"`, `"max"`, or a number in this unit."""
    def parse(value: object) -> int:
        if isinstance(value, str) and len(value) <= _MOST_DIGITS and _TIMES.fullmatch(value):
            parts = [float(count.replace(",", "")) * TIMES_NS[name] for count, name in _TIME.findall(value)]
            return whole(min(sum(parts), UNLIMITED), value)
        return whole(_plain(value, {"": TIMES_NS[unit]},
                            f"a time as damo writes it, such as '1 m 30 s', 'max' or a number of {unit}"), value)
    return parse


def permil(value: object) -> float:
    """Fraction of 1 of `"5 %"`, or of a number of permil."""
    return _plain(value, {"%": 0.01, "": 0.001}, "a share as damo writes it, such as '5 %', or a number of permil")


def accesses(value: object) -> float | Counted:
    """Share of the sampling intervals of `"5 %"` or a number of percent; or `"3 samples"`."""
    expected = "nr_accesses as damo writes it, such as '5 %' or '3 samples'"
    if isinstance(value, str) and "samples" in value:
        return Counted(_plain(value, {"samples": 1}, expected))
    return _plain(value, {"%": 0.01, "": 0.01}, expected)


def age(value: object) -> int | Counted:
    """Nanoseconds of `"5 s"` or a number of us; or `"50 aggr_intervals"`."""
    if isinstance(value, str) and "aggr_intervals" in value:
        return Counted(_plain(value, {"aggr_intervals": 1}, "an age such as '5 s' or '50 aggr_intervals'"))
    return time_in("us")(value)
