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
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from pagepulse.model.memory import PAGE
from pagepulse.units import DIGITS, SIZES, TIMES_NS, Vanishing, comma_hint, parse_share, parse_size, parse_time_ns

Action = Literal["stat", "cold", "lru_deprio", "pageout", "willneed", "hugepage", "collapse", "nohugepage",
                 "migrate_hot", "migrate_cold"]
ACTIONS: tuple[Action, ...] = get_args(Action)
ACT_ON_IDLE: frozenset[Action] = frozenset({"cold", "lru_deprio", "pageout", "nohugepage", "migrate_cold"})
"""These take from memory what makes it fast: they need an age, and take the coldest first."""
ACT_ON_BUSY: frozenset[Action] = frozenset({"willneed", "hugepage", "collapse", "migrate_hot"})
"""These give it: the hottest first."""
MEANINGLESS_ACTIONS = {
    "lru_prio": "lru_prio has no meaning here: no call raises the priority of another process's pages"}
"""Actions of DAMON that the language refuses by name."""

SIZE = "a size such as '4 KiB' or a number of bytes"
TIME = "a time such as '5ms' or '60s'"
SHARE = "a share such as '5%', at most 100%"
RATE = "a rate such as '5%' (of sampling intervals), '5 Hz' or '3 samples'"
NUMBER = "a number above 0"
TARGET = "a share such as '5%', or a number above 0"
ADDRESS = "an address such as '0x7f0000000000'"
PATH = "an absolute path of at most 4096 printable characters"
GLOB = "a name of a mapping such as '[heap]', or a path with * and ? such as '*/libc.so*'"
NAME = "a name of at most 64 letters, digits, '.', '_' and '-'"

_LARGEST = 2**63 - 1
_SIZE_UNITS = {unit: scale for unit, scale in SIZES.items() if unit == "B" or unit.endswith("iB")}
_TIME_UNITS = {unit: TIMES_NS[unit] for unit in ("ns", "us", "ms", "s")}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COUNTED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([Hh][Zz]|samples)\s*")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,15}")
_MOST_NODES = 1024  # CONFIG_NODES_SHIFT is at most 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GivenTwice:
    """Stands for the value of a key that an object holds more than once. No field accepts it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often memory is touched; exactly one of the three is set."""

    share: float | None = None
    """Fraction of the sampling intervals in which a page is touched, 0 to 1."""
    hz: float | None = None
    """Touches a second of one page."""
    nr_accesses: float | None = None
    """Sampling intervals of an aggregation interval in which a page is touched, as reports show it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a goal shall reach; exactly one of the two is set."""

    share: float | None = None
    """Of 1, for what is measured here."""
    number: float | None = None
    """For a value that somebody else measures."""


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
    except Vanishing:
        raise
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"expected {expected}, got {found(text)}{comma_hint(text)}")
    return number


def size_bytes(value: object) -> int:
    """Bytes of `"4 KiB"` or 4096."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    return _bounded(parse_size, _text(value, SIZE), SIZE)


def time_ns(value: object) -> int:
    """Nanoseconds of `"5 s"`. A bare number is refused: nobody knows its unit."""
    return _bounded(parse_time_ns, _text(value, TIME), TIME)


def _is_number(value: object) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= abs(value) <= _LARGEST


def number(value: object) -> float:
    """A number above 0."""
    if not isinstance(value, int | float) or not _is_number(value) or value <= 0:
        raise ValueError(f"expected {NUMBER}, got {found(value)}")
    return float(value)


def share(value: object) -> float:
    """Fraction of 1 of `"5%"`."""
    try:
        part = parse_share(_text(value, SHARE))
    except ValueError:
        part = -1.0
    if not 0 <= part <= 1:
        raise ValueError(f"expected {SHARE}, got {found(value)}{comma_hint(str(value))}")
    return part


def target(value: object) -> Target:
    """What a goal shall reach: `"5%"`, or a number."""
    try:
        return Target(share=share(value)) if isinstance(value, str) else Target(number=number(value))
    except ValueError:
        raise ValueError(f"expected {TARGET}, got {found(value)}") from None


def weight(value: object) -> float:
    """A weight: any number from 0 on."""
    if not isinstance(value, int | float) or not _is_number(value) or value < 0:
        raise ValueError(f"expected a weight, a number from 0 on, got {found(value)}")
    return float(value)


def node(value: object) -> int:
    """The number of a NUMA node."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_NODES:
        raise ValueError(f"expected the number of a NUMA node, 0 to {_MOST_NODES - 1}, got {found(value)}")
    return value


def address(value: object) -> int:
    """An address: `"0x7f0000000000"`, or a number."""
    if isinstance(value, str) and _HEX.fullmatch(value):
        return int(value, 16)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    raise ValueError(f"expected {ADDRESS}, got {found(value)}")


def path(value: object) -> str:
    """An absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 4096 or not value.isprintable():
        raise ValueError(f"expected {PATH}, got {found(value)}")
    return value


def glob(value: object) -> str:
    """A mapping's name or path, where * and ? stand for any characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or not value.isprintable():
        raise ValueError(f"expected {GLOB}, got {found(value)}")
    return value


def rate(value: object) -> Rate:
    """Share of `"5%"`, touches a second of `"5 Hz"`, or nr_accesses of `"3 samples"`."""
    text = _text(value, RATE)
    if counted := _COUNTED.fullmatch(text):
        quantity = float(counted[1])
        return Rate(nr_accesses=quantity) if counted[2] == "samples" else Rate(hz=quantity)
    try:
        part = parse_share(text)
    except ValueError:
        part = -1.0
    if not 0 <= part <= 1:
        raise ValueError(f"expected {RATE}, at most 100%, got {found(text)}{comma_hint(text)}")
    return Rate(share=part)


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


def at_most(most: int, words: str, parse: Callable[[object], int]) -> Callable[[object], int]:
    """The parser, without what is more."""
    def convert(value: object) -> int:
        number = parse(value)
        if number > most:
            raise ValueError(f"expected at most {words}, got {found(value)}")
        return number
    return convert


def action(value: object) -> object:
    """An action by its name in DAMON's words."""
    if isinstance(value, str) and value in MEANINGLESS_ACTIONS:
        raise ValueError(f"expected an action that can be done here; {MEANINGLESS_ACTIONS[value]}")
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
    """`5%`, `20 Hz` or `3 samples`."""
    if value.nr_accesses is not None:
        return f"{_digits(value.nr_accesses)} samples"
    return f"{_digits(value.hz or 0.0)} Hz" if value.share is None else exact_share(value.share)


def exact_share(value: float) -> str:
    """`5%` of 0.05."""
    return f"{_digits(value * 100)}%"


def exact_target(value: Target) -> str | float:
    """`5%`, or the number."""
    return (value.number or 0.0) if value.share is None else exact_share(value.share)


def _digits(value: float) -> str:
    """A number without an exponent, nor the last digits, which are noise of binary fractions."""
    return str(int(value)) if value == int(value) else f"{value:.12f}".rstrip("0").rstrip(".")


def _pattern(units: Iterable[str]) -> str:
    return rf"^\s*{DIGITS}\s*({'|'.join(units)})\s*$"


_SIZE_SCHEMA: dict[str, object] = {"anyOf": [
    {"type": "integer", "minimum": 0},
    {"type": "string", "pattern": _pattern(SIZES), "examples": ["4 KiB", "1.5GiB"]}]}
_TIME_SCHEMA: dict[str, object] = {"type": "string", "pattern": _pattern(TIMES_NS), "examples": ["5 s", "100 ms"]}
_RATE_SCHEMA: dict[str, object] = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(%|[Hh][Zz]|samples)\s*$",
                                   "examples": ["5%", "20 Hz", "3 samples"]}
_SHARE_SCHEMA: dict[str, object] = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$", "examples": ["5%"]}
_TARGET_SCHEMA: dict[str, object] = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _SHARE_SCHEMA]}
_ADDRESS_SCHEMA: dict[str, object] = {"anyOf": [
    {"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_HEX.pattern}$"}]}
_MAX_SCHEMA: dict[str, object] = {"const": "max"}


def _or_max_schema(schema: dict[str, object]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [_MAX_SCHEMA, schema]})


def _written(words: Callable[[Any], object]) -> PlainSerializer:
    """How a value is written into a scheme file."""
    return PlainSerializer(words, when_used="json")


def _written_or(nothing: str | None, words: Callable[[Any], str]) -> PlainSerializer:
    return _written(lambda value: nothing if value is None else words(value))


_some_pages = at_least(PAGE, "4 KiB, one page", size_bytes)
_some_time = at_least(1, "1 ns", time_ns)
_within_a_day = at_most(TIMES_NS["d"], "1 d", _some_time)

Size = Annotated[int, BeforeValidator(size_bytes), WithJsonSchema(_SIZE_SCHEMA), _written(exact_size)]
SizeOrMax = Annotated[int | None, BeforeValidator(or_max(size_bytes)), _or_max_schema(_SIZE_SCHEMA),
                      _written_or("max", exact_size)]
Time = Annotated[int, BeforeValidator(time_ns), WithJsonSchema(_TIME_SCHEMA), _written(exact_time)]
TimeOrMax = Annotated[int | None, BeforeValidator(or_max(time_ns)), _or_max_schema(_TIME_SCHEMA),
                      _written_or("max", exact_time)]
Interval = Annotated[int, BeforeValidator(_some_time), WithJsonSchema(_TIME_SCHEMA), _written(exact_time)]
DailyInterval = Annotated[int, BeforeValidator(_within_a_day), WithJsonSchema(_TIME_SCHEMA), _written(exact_time)]
"""What is done at least once a day: who looks more seldom has mistaken the unit."""
DailyIntervalOrUnset = Annotated[int | None, BeforeValidator(_within_a_day), WithJsonSchema(_TIME_SCHEMA),
                                 _written_or(None, exact_time)]
RateBound = Annotated[Rate, BeforeValidator(rate), WithJsonSchema(_RATE_SCHEMA), _written(exact_rate)]
RateBoundOrMax = Annotated[Rate | None, BeforeValidator(or_max(rate)), _or_max_schema(_RATE_SCHEMA),
                           _written_or("max", exact_rate)]
SizeLimit = Annotated[int | None, BeforeValidator(or_max(_some_pages)), _or_max_schema(_SIZE_SCHEMA),
                      _written_or("max", exact_size)]
TimeLimit = Annotated[int | None, BeforeValidator(or_max(_some_time)), _or_max_schema(_TIME_SCHEMA),
                      _written_or("max", exact_time)]
ActionName = Annotated[Action, BeforeValidator(action)]
SchemeName = Annotated[str, BeforeValidator(name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
Share = Annotated[float, BeforeValidator(share), WithJsonSchema(_SHARE_SCHEMA), _written(exact_share)]
Weight = Annotated[float, BeforeValidator(weight), WithJsonSchema({"type": "number", "minimum": 0})]
GoalTarget = Annotated[Target, BeforeValidator(target), WithJsonSchema(_TARGET_SCHEMA), _written(exact_target)]
NodeOrUnset = Annotated[int | None, BeforeValidator(node), WithJsonSchema({"type": "integer", "minimum": 0})]
AddressOrUnset = Annotated[int | None, BeforeValidator(address), WithJsonSchema(_ADDRESS_SCHEMA),
                           _written_or(None, hex)]
PathOrUnset = Annotated[str | None, BeforeValidator(path), WithJsonSchema({"type": "string", "pattern": "^/"})]
GlobOrUnset = Annotated[str | None, BeforeValidator(glob), WithJsonSchema({"type": "string", "minLength": 1})]
