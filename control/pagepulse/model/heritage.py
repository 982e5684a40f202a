# SPDX-License-Identifier: GPL-2.0-only
"""Heritage: what was known of a program that became another one, where the new one has the same part of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pagepulse.model.memory import Mapping
from pagepulse.model.regions import STATE, Rows, split_at

LASTS_NS = 5_000_000_000
"""How long after its exec a program may take to load its libraries."""


@dataclass(frozen=True, slots=True)
class Heritage:
    """Regions and their mappings as they were. Its accessed bits went with the old memory; ages and evidence stay.

    Heap, stack and everything else without a file are gone.
    """

    regions: Rows
    mappings: Sequence[Mapping] = ()
    until_ns: int = 0
    """What is mapped later than that is new."""

    @classmethod
    def none(cls) -> Heritage:
        """Nothing was known before."""
        return cls(np.empty(0, STATE))

    def onto(self, regions: Rows, mappings: Sequence[Mapping], now_ns: int) -> Rows:
        """The regions, and what is inherited for mappings that have no region yet.

        Args:
            regions: Of the new program, sorted.
            mappings: Of the new program.
            now_ns: Now.
        """
        if now_ns > self.until_ns or not len(self.regions):
            return regions
        old = {_part(mapping): mapping for mapping in self.mappings if mapping.file}
        heirs = [self._moved(old[_part(mapping)], mapping.start) for mapping in mappings
                 if _part(mapping) in old and not _overlaps(regions, mapping)]
        together = np.concatenate((regions, *heirs))
        return together[np.argsort(together["start"], kind="stable")]

    def _moved(self, old: Mapping, start: int) -> Rows:
        """The old regions of this mapping, as if it had begun here."""
        rows = split_at(self.regions, np.array([old.start, old.end], np.uint64))
        rows = rows[(rows["start"] >= old.start) & (rows["end"] <= old.end)].copy()
        for column in ("start", "end"):
            rows[column] = rows[column] - np.uint64(old.start) + np.uint64(start)
        return rows


def _part(mapping: Mapping) -> tuple[str, int, int, bool]:
    return mapping.file, mapping.offset, mapping.end - mapping.start, mapping.shared


def _overlaps(regions: Rows, mapping: Mapping) -> bool:
    return bool(((regions["start"] < mapping.end) & (regions["end"] > mapping.start)).any())
