# SPDX-License-Identifier: GPL-2.0-only
"""Identity: whether what is mapped at an address is what was mapped there before, as far as /proc/PID/maps tells."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import PAGE, Mapping

Pages = npt.NDArray[np.bool_]


def origin(mapping: Mapping) -> tuple[str, int]:
    """What its pages are pages of: a part of a file, or memory without one.

    Neither its edges nor what it permits: it may be cut, grow and be protected, and its pages stay the same.
    """
    return mapping.file, mapping.offset - mapping.start if mapping.file else 0


def without_file(mappings: Sequence[Mapping], start: int, count: int) -> Pages:
    """Which of `count` pages from `start` on lie in a mapping with no file behind it, shape (count,).

    Args:
        mappings: Sorted.
        start: A multiple of PAGE.
        count: Pages.
    """
    found = np.zeros(count, np.bool_)
    for mapping in _overlapping(mappings, start, start + count * PAGE):
        found[_within(mapping.start, mapping.end, start)] = mapping.anonymous
    return found


def changed(before: Sequence[Mapping], now: Sequence[Mapping], start: int, count: int) -> Pages:
    """Which of `count` pages from `start` on are not of the same mapping in both, or of none, shape (count,).

    A name counts, too: filters go by it.

    Args:
        before: Mappings, sorted.
        now: Mappings, sorted.
        start: A multiple of PAGE.
        count: Pages.
    """
    found = np.ones(count, np.bool_)
    for new in _overlapping(now, start, start + count * PAGE):
        for old in _overlapping(before, max(new.start, start), min(new.end, start + count * PAGE)):
            if old.name == new.name and origin(old) == origin(new):
                found[_within(max(old.start, new.start), min(old.end, new.end), start)] = False
    return found


def _overlapping(mappings: Sequence[Mapping], start: int, end: int) -> Iterator[Mapping]:
    first = max(bisect_right(mappings, start, key=lambda mapping: mapping.start) - 1, 0)
    for mapping in mappings[first:bisect_right(mappings, end - 1, key=lambda mapping: mapping.start)]:
        if mapping.end > start:
            yield mapping


def _within(low: int, high: int, start: int) -> slice:
    """The pages from `low` to `high`, counted from `start`."""
    return slice(max(low - start, 0) // PAGE, max(high - start, 0) // PAGE)
