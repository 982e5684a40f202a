# SPDX-License-Identifier: GPL-2.0-only
"""Bytes of a scheme file into schemes, or into a list of faults, each with the path of its key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pagepulse.errors import RefusedFile
from pagepulse.policy.damo import DamoDocument
from pagepulse.policy.damo_translate import Translation, place_in_damo, translated
from pagepulse.policy.fields import GivenTwice, Misplaced, did_you_mean, found
from pagepulse.policy.scheme import Scheme, SchemeFile

Location = tuple[str | int, ...]

MAX_FAULTS = 20
"""A file with more faults is told about the first of them."""

_EXPECTED = {"model_type": "an object", "tuple_type": "a list", "string_type": "a string",
             "string_unicode": "a string without half characters", "bool_type": "true or false"}
_BARE: Location = ("kdamonds", 0, "contexts", 0, "schemes")
"""Where a bare list of damo's schemes stands in the full document that it is made into."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a scheme file says."""

    schemes: tuple[Scheme, ...]
    notes: tuple[str, ...] = ()
    """Of a file of damo: what was left out, or taken for something else, without harm."""


def parse_document(data: bytes, name: str) -> Document:
    """The schemes in the text of a file: of pagepulse, or of damo, a full document or a bare list of schemes.

    Args:
        data: UTF-8, with or without a byte order mark.
        name: Of the file, for messages.

    Raises:
        RefusedFile: With every fault, one a line, in its `why`.
    """
    try:
        return _document(_decoded(data))
    except RecursionError:
        faults = ["expected JSON nested a few levels deep, got far more"]
    except _Faults as error:
        faults = error.faults
    except ValueError as error:
        faults = [str(error)]
    raise refusal(name, faults) from None


def parse_schemes(data: bytes, name: str) -> tuple[Scheme, ...]:
    """The schemes in the text of a file; see `parse_document`."""
    return parse_document(data, name).schemes


def scheme_text(schemes: Sequence[Scheme]) -> str:
    """The text of a scheme file with these schemes: `parse_schemes` of it gives the same ones."""
    written = [scheme.model_dump(mode="json", by_alias=True, exclude_unset=True) for scheme in schemes]
    return json.dumps({"schemes": written}, indent=2) + "\n"


class _Faults(Exception):
    """All that is wrong with a document."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__()
        self.faults = list(faults)


def _document(content: object) -> Document:
    if isinstance(content, list):
        return _of_damo({"kdamonds": [{"contexts": [{"ops": "vaddr", "schemes": content}]}]}, len(_BARE))
    if isinstance(content, dict) and "kdamonds" in content:
        return _of_damo(content, 0)
    if likeness := _likeness(content):
        raise _Faults([likeness])
    try:
        return Document(SchemeFile.model_validate(content).schemes)
    except ValidationError as error:
        raise _Faults([fault_words(one, SchemeFile) for one in error.errors(include_url=False)]) from None


def _likeness(content: object) -> str:
    """What a file that is neither ours nor damo's was meant to be, and how that is written; empty: nothing known."""
    if not isinstance(content, dict):
        return ""
    if "schemes" not in content and {"action", "access_pattern"} & content.keys():
        whose, written = ("damo's", "[{...}]") if _is_of_damo(content) else ("pagepulse's", '{"schemes": [{...}]}')
        return f"expected a list of schemes, got what looks like one scheme of {whose}; write {written} around it"
    if "contexts" in content:
        return ("expected damo's whole document, or a list of its schemes, got what looks like one of its kdamonds; "
                'write {"kdamonds": [{...}]} around it')
    if {"ops", "targets", "intervals", "nr_regions"} & content.keys():
        return ("expected damo's whole document, or a list of its schemes, got what looks like one of its contexts; "
                'write {"kdamonds": [{"contexts": [{...}]}]} around it')
    schemes = content.get("schemes")
    if isinstance(schemes, list) and any(_is_of_damo(scheme) for scheme in schemes):
        return ("schemes: expected schemes in pagepulse's language, got what looks like damo's; damo's are accepted as "
                'a list alone, [{...}], or in a whole document, {"kdamonds": [...]}')
    return ""


def _is_of_damo(scheme: object) -> bool:
    """Whether this looks like a scheme of damo's: it has keys that no scheme of ours has."""
    if not isinstance(scheme, dict):
        return False
    pattern = scheme.get("access_pattern")
    return "apply_interval_us" in scheme or (isinstance(pattern, dict) and "sz_bytes" in pattern)


def _of_damo(content: object, hidden: int) -> Document:
    """The schemes of damo's document; `hidden`: as many parts of each path are not in the file."""
    prefix = _path(_BARE[:hidden])
    try:
        translation = translated(DamoDocument.model_validate(content))
        schemes = SchemeFile.model_validate({"schemes": translation.schemes}).schemes
    except Misplaced as fault:
        raise _Faults([f"{fault.path}: {fault}".replace(prefix, "")]) from None
    except ValidationError as error:
        faults = error.errors(include_url=False)
        if error.title == SchemeFile.__name__:
            faults = [_replaced(one, translation) for one in faults]
        raise _Faults([fault_words(one, DamoDocument).removeprefix(prefix) for one in faults]) from None
    return Document(schemes, tuple(note.removeprefix(prefix) for note in translation.notes))


def _replaced(details: ErrorDetails, translation: Translation) -> ErrorDetails:
    """A fault of the translation, at its place in damo's document."""
    location, error = list(details["loc"]), details.get("ctx", {}).get("error")
    if len(location) < 2:
        return {**details, "loc": ()}
    if isinstance(error, Misplaced):
        location += error.path.split(".")
        details = {**details, "ctx": {"error": ValueError(str(error))}}
    return {**details, "loc": place_in_damo(translation, location)}


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


def fault_words(details: ErrorDetails, root: type[BaseModel]) -> str:
    """`path.of.key: what was expected, what was found`."""
    location = list(details["loc"])
    match details["type"]:
        case "extra_forbidden":
            key = location.pop()
            text = f"unknown key {found(key)}; {did_you_mean(str(key), _keys(root, location))}"
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


def _keys(root: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """The keys that the object at this place may have."""
    model = root
    for part in parents:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = _model_in(fields[part].annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel]:
    """The one model in an annotation: `Model`, `Model | None`, `tuple[Model, ...]`."""
    pending = [annotation]
    while pending:
        part = pending.pop()
        if isinstance(part, type) and get_origin(part) is None and issubclass(part, BaseModel):
            return part
        pending += get_args(part)
    raise AssertionError(f"no object in {annotation}")
