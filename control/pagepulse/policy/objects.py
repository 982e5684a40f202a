# SPDX-License-Identifier: GPL-2.0-only
"""What all objects of the scheme language have in common."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict


class SchemeObject(BaseModel):
    """A JSON object: every key known, every value of its own type."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def unset() -> None:
    """Default of what may be left out. A factory, so that the JSON schema does not offer null, which is refused."""


def refuse_empty(lower: int, upper: int | None, words: Callable[[int], str]) -> None:
    """Refuse a range that nothing lies in.

    Raises:
        ValueError: `lower` is above `upper`.
    """
    if upper is not None and lower > upper:
        raise ValueError(f"expected min not above max, got min {words(lower)} and max {words(upper)}")
