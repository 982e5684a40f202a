# SPDX-License-Identifier: GPL-2.0-only
"""Sizes, times and shares as people write them, and back.

Inside pagepulse a size is bytes, a time is nanoseconds or microseconds as its name says, a share is a fraction of 1.
"""

from __future__ import annotations

import re

SIZES = {"": 1, "B": 1, **{f"{letter}{tail}": 1024**power
                           for power, letter in enumerate("KMGTP", start=1) for tail in ("", "B", "iB")}}
TIMES_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
            "m": 60_000_000_000, "h": 3_600_000_000_000, "d": 86_400_000_000_000}

DIGITS = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?"
"""Pattern of a number: commas stand between groups of three digits, as damo writes them, and are no decimal points."""

_NUMBER_AND_UNIT = re.compile(rf"\s*({DIGITS})\s*([A-Za-z]*)\s*")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


class Vanishing(ValueError):
    """A quantity that would be rounded to nothing."""


def _scaled(text: str, units: dict[str, int], expected: str) -> int:
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"expected {expected}, got {text!r}{comma_hint(text)}")
    number = match[1].replace(",", "")
    if len(number) > 30:
        raise ValueError(f"expected {expected}, got a number of {len(number)} digits")
    return whole(float(number) * units[match[2]], text) if "." in number else int(number) * units[match[2]]


def comma_hint(text: str) -> str:
    """How to write a number with a comma that was not understood, to be added to a message; empty without one."""
    return "; write a fraction as in '1.5', and thousands as in '1,024'" if re.search(r"\d,|,\d", text) else ""


def whole(quantity: float, given: object) -> int:
    """The quantity, rounded.

    Raises:
        Vanishing: Nothing would be left of it: a 0 that nobody wrote could mean no limit, or always.
    """
    if quantity and not round(quantity):
        raise Vanishing(f"expected 0 or at least a whole byte or nanosecond, got {str(given)[:60]!r}")
    return round(quantity)


def parse_size(text: str) -> int:
    """Bytes of a size such as `4K`, `1.5GiB` or `4096`; K, M, G, T and P are powers of 1024.

    Raises:
        ValueError: The text is no size.
    """
    return _scaled(text, SIZES, "a size such as '4K' or '1.5GiB'")


def parse_time_ns(text: str) -> int:
    """Nanoseconds of a time such as `5ms`, `60s` or `1.5h`. A bare number has no unit and is refused.

    Raises:
        ValueError: The text is no time.
    """
    return _scaled(text, TIMES_NS, "a time such as '5ms' or '60s'")


def parse_share(text: str) -> float:
    """Fraction of 1 of a share such as `5%`.

    Raises:
        ValueError: The text is no share.
    """
    match = _SHARE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a share such as '5%', got {text!r}{comma_hint(text)}")
    return float(match[1]) / 100


def format_size(size_bytes: float) -> str:
    """`1.5 GiB`: three significant digits in the largest unit that keeps the number at 1 or more."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size_bytes) < 1023.5 or unit == "TiB":
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} {unit}" if unit == "B" or abs(size_bytes) >= 99.95 else f"{size_bytes:.3g} {unit}"


def format_time_ns(time_ns: float) -> str:
    """`2.5 s`, `100 ms`, `3 m 20 s`: short, for people."""
    if time_ns >= 3600e9:
        return f"{time_ns // 3600e9:.0f} h {time_ns % 3600e9 / 60e9:.0f} m"
    if time_ns >= 60e9:
        return f"{time_ns // 60e9:.0f} m {time_ns % 60e9 / 1e9:.0f} s"
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if time_ns >= scale:
            return f"{time_ns / scale:.3g} {unit}"
    return f"{time_ns:.0f} ns"


def format_share(share: float) -> str:
    """`0.52 %` of a fraction of 1."""
    return f"{share * 100:.2f} %"
