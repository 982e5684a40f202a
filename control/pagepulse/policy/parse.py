# SPDX-License-Identifier: GPL-2.0-only
"""Bytes of a scheme file into schemes, or into a list of faults, each with the path of its key."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pagepulse.errors import RefusedFile
from pagepulse.policy.fields import GivenTwice, Misplaced, did_you_mean, found
from pagepulse.policy.filters import Filter
from pagepulse.policy.guard_settings import Guards, PsiGuard, RefaultGuard, RssFloorGuard, StepShareGuard, SwapGuard
from pagepulse.policy.limits import Goal, Quotas, Watermarks, Weights
from pagepulse.policy.pattern import AccessPattern, AgeRange, RateRange, SizeRange
from pagepulse.policy.scheme import Scheme, SchemeFile

MAX_FAULTS = 20
"""A file with more faults is told about the first of them."""

_EXPECTED = {"model_type": "an object", "tuple_type": "a list", "string_type": "a string",
             "string_unicode": "a string without half characters", "bool_type": "true or false"}
_MODELS: dict[str | int, type[BaseModel]] = {
    "schemes": Scheme, "access_pattern": AccessPattern, "size": SizeRange, "rate": RateRange, "age": AgeRange,
    "quotas": Quotas, "weights": Weights, "goals": Goal, "watermarks": Watermarks, "filters": Filter,
    "guards": Guards, "refault": RefaultGuard, "psi": PsiGuard, "swap": SwapGuard, "rss_floor": RssFloorGuard,
    "step_share": StepShareGuard}
"""Key -> the object, or the objects of the list, that it holds."""


def parse_schemes(data: bytes, name: str) -> tuple[Scheme, ...]:
    """The schemes in the text of a file.

    Args:
        data: UTF-8, with or without a byte order mark.
        name: Of the file, for messages.

    Raises:
        RefusedFile: With every fault, one a line, in its `why`.
    """
    try:
        return SchemeFile.model_validate(_decoded(data)).schemes
    except ValidationError as error:
        faults = [_fault(details) for details in error.errors(include_url=False)]
    except RecursionError:
        faults = ["expected JSON nested a few levels deep, got far more"]
    except ValueError as error:
        faults = [str(error)]
    raise refusal(name, faults) from None


def refusal(name: str, faults: Sequence[str], *, hint: str = "") -> RefusedFile:
    """The error for a file with these faults."""
    shown = list(faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        shown.append(f"... and {len(faults) - MAX_FAULTS} more")
    name = name if name.isprintable() else ascii(name)  # a name could hold commands for the terminal
    return RefusedFile(f"{name} is refused", why="\n        ".join(shown), hint=hint)


def _decoded(data: bytes) -> object:
    """The JSON value, with `GivenTwice` for the value of every key that occurs twice in its object."""
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8, got byte 0x{data[error.start]:02x} at offset {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON, got a fault at line {error.lineno}, column {error.colno}: "
                         f"{error.msg}") from None
    except ValueError:  # Python converts no more than some thousands of digits
        raise ValueError("expected numbers of a few digits, got one with thousands") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        result[key] = GivenTwice() if key in result else value
    return result


def _fault(details: ErrorDetails) -> str:
    """`path.of.key: what was expected, what was found`."""
    location = list(details["loc"])
    match details["type"]:
        case "extra_forbidden":
            key = location.pop()
            text = f"unknown key {found(key)}; {did_you_mean(str(key), _keys(location))}"
        case "missing":
            text = "expected a value, the key is missing"
        case "value_error":
            error = details["ctx"]["error"]
            text = str(error)
            if isinstance(error, Misplaced):
                location.append(error.path)
        case "literal_error":
            text = f"expected {details['ctx']['expected']}, got {found(details['input'])}"
        case kind:
            text = f"expected {_EXPECTED.get(kind, details['msg'])}, got {found(details['input'])}"
    path = _path(location)
    return f"{path}: {text}" if path else text


def _path(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _keys(parents: Sequence[str | int]) -> list[str]:
    """The keys that the object at this place may have."""
    names = [part for part in parents if isinstance(part, str)]
    model = _MODELS[names[-1]] if names else SchemeFile
    return [field.alias or name for name, field in model.model_fields.items()]
