# SPDX-License-Identifier: GPL-2.0-only
"""Values of the scheme language: what a size, a time, a rate, a name may look like, and what each becomes.

Every parser here raises ValueError with the whole fault, "expected ..., got ...": pydantic keeps the path, the parser
the words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BeforeValidator, WithJsonSchema

from pagepulse.model.memory import PAGE
from pagepulse.units import SIZES, TIMES_NS, parse_share, parse_size, parse_time_ns

Action = Literal["stat", "cold", "pageout"]
ACTIONS: tuple[Action, ...] = get_args(Action)

SIZE = "a size such as '4 KiB' or a number of bytes"
TIME = "a time such as '5ms' or '60s'"
RATE = "a rate such as '5%' (of sampling intervals) or '5 Hz'"
NAME = "a name of at most 64 letters, digits, '.', '_' and '-'"

_LARGEST = 2**63 - 1
_SIZE_UNITS = {unit: scale for unit, scale in SIZES.items() if unit == "B" or unit.endswith("iB")}
_TIME_UNITS = {unit: TIMES_NS[unit] for unit in ("ns", "us", "ms", "s")}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HERTZ = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[Hh][Zz]\s*")
_NUMBER = r"\d[\d,]*(\.\d+)?"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GivenTwice:
    """Stands for the value of a key that an object holds more than once. No field accepts it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often memory is touched; exactly one of the two is set."""

    share: float | None = None
    """Fraction of the sampling intervals in which a page is touched, 0 to 1."""
    hz: float | None = None
    """Touches a second of one page."""


class Misplaced(ValueError):
    """A fault that belongs to another place than the object that was being checked.

    Args:
        path: Of the key at fault, seen from that object: `age.min`.
        text: What was expected, what was found.
    """

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path


def found(value: object) -> str:
    """What stands in the file, short and safe to print."""
    match value:
        case GivenTwice():
            return "the key twice"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case dict():
            return "an object"
        case list():
            return "a list"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the list of what is known."""
    known = list(known)
    close = difflib.get_close_matches(word[:64].lower(), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _text(value: object, expected: str) -> str:
    # The length is bounded before any parser sees it: "9" * 5000 is a number that Python refuses to convert.
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError(f"expected {expected}, got {found(value)}")
    return value


def _bounded(parse: Callable[[str], int], text: str, expected: str) -> int:
    try:
        number = parse(text)
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"expected {expected}, got {found(text)}")
    return number


def size_bytes(value: object) -> int:
    """Bytes of `"4 KiB"` or 4096."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    return _bounded(parse_size, _text(value, SIZE), SIZE)


def time_ns(value: object) -> int:
    """Nanoseconds of `"5 s"`. A bare number is refused: nobody knows its unit."""
    return _bounded(parse_time_ns, _text(value, TIME), TIME)


def rate(value: object) -> Rate:
    """Share of `"5%"`, or touches a second of `"5 Hz"`."""
    text = _text(value, RATE)
    if hertz := _HERTZ.fullmatch(text):
        return Rate(hz=float(hertz[1]))
    try:
        share = parse_share(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"expected {RATE}, at most 100%, got {found(text)}")
    return Rate(share=share)


def or_max(parse: Callable[[object], T]) -> Callable[[object], T | None]:
    """The parser, with `"max"` for no limit: None."""
    def convert(value: object) -> T | None:
        if value == "max":
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"{error} ('max' is no limit)") from None
    return convert


def at_least(least: int, words: str, parse: Callable[[object], int]) -> Callable[[object], int]:
    """The parser, without what is less. In DAMON a limit of 0 means no limit; here it is refused."""
    def convert(value: object) -> int:
        number = parse(value)
        if number < least:
            raise ValueError(f"expected at least {words}, got {found(value)}")
        return number
    return convert


def action(value: object) -> object:
    """An action by its name in DAMON's words."""
    if value not in ACTIONS:
        hint = did_you_mean(value, ACTIONS) if isinstance(value, str) else f"known: {', '.join(ACTIONS)}"
        raise ValueError(f"expected an action, got {found(value)}; {hint}")
    return value


def name(value: object) -> str:
    """A scheme's name, fit to be printed and to be a key."""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError(f"expected {NAME}, got {found(value)}")
    return value


def _exact(value: int, units: dict[str, int]) -> str:
    unit = max((unit for unit, scale in units.items() if value % scale == 0), key=units.__getitem__)
    return f"{value // units[unit]} {unit}"


def exact_size(value_bytes: int) -> str:
    """`4 KiB`: what the file says, in the largest unit without a fraction."""
    return _exact(value_bytes, _SIZE_UNITS) if value_bytes else "0 B"


def exact_time(value_ns: int) -> str:
    """`90 s`: what the file says, in the largest unit without a fraction."""
    return _exact(value_ns, _TIME_UNITS) if value_ns else "0 s"


def exact_rate(value: Rate) -> str:
    """`5%` or `20 Hz`."""
    return f"{value.hz:g} Hz" if value.share is None else f"{value.share * 100:g}%"


def _pattern(units: Iterable[str]) -> str:
    return rf"^\s*{_NUMBER}\s*({'|'.join(units)})\s*$"


_SIZE_SCHEMA: dict[str, object] = {"anyOf": [
    {"type": "integer", "minimum": 0},
    {"type": "string", "pattern": _pattern(SIZES), "examples": ["4 KiB", "1.5GiB"]}]}
_TIME_SCHEMA: dict[str, object] = {"type": "string", "pattern": _pattern(TIMES_NS), "examples": ["5 s", "100 ms"]}
_RATE_SCHEMA: dict[str, object] = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(%|[Hh][Zz])\s*$",
                                   "examples": ["5%", "20 Hz"]}
_MAX_SCHEMA: dict[str, object] = {"const": "max"}


def _or_max_schema(schema: dict[str, object]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [_MAX_SCHEMA, schema]})


_some_pages = at_least(PAGE, "4 KiB, one page", size_bytes)
_some_time = at_least(1, "1 ns", time_ns)

Size = Annotated[int, BeforeValidator(size_bytes), WithJsonSchema(_SIZE_SCHEMA)]
SizeOrMax = Annotated[int | None, BeforeValidator(or_max(size_bytes)), _or_max_schema(_SIZE_SCHEMA)]
Time = Annotated[int, BeforeValidator(time_ns), WithJsonSchema(_TIME_SCHEMA)]
TimeOrMax = Annotated[int | None, BeforeValidator(or_max(time_ns)), _or_max_schema(_TIME_SCHEMA)]
Interval = Annotated[int, BeforeValidator(_some_time), WithJsonSchema(_TIME_SCHEMA)]
IntervalOrUnset = Annotated[int | None, BeforeValidator(_some_time), WithJsonSchema(_TIME_SCHEMA)]
RateBound = Annotated[Rate, BeforeValidator(rate), WithJsonSchema(_RATE_SCHEMA)]
RateBoundOrMax = Annotated[Rate | None, BeforeValidator(or_max(rate)), _or_max_schema(_RATE_SCHEMA)]
SizeLimit = Annotated[int | None, BeforeValidator(or_max(_some_pages)), _or_max_schema(_SIZE_SCHEMA)]
TimeLimit = Annotated[int | None, BeforeValidator(or_max(_some_time)), _or_max_schema(_TIME_SCHEMA)]
ActionName = Annotated[Action, BeforeValidator(action)]
SchemeName = Annotated[str, BeforeValidator(name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
