# SPDX-License-Identifier: GPL-2.0-only
"""The scheme language: which memory, what to do with it, and how much of that at most.

The names in a file are DAMON's; the attributes here carry their units. A model exists only if all of it is sound:
unknown keys, impossible ranges and values without a sensible unit are refused (see `parse` for the words).
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pagepulse.model.memory import CHUNK
from pagepulse.policy.fields import (
    ACT_ON_IDLE,
    ActionName,
    DailyIntervalOrUnset,
    Misplaced,
    NodeOrUnset,
    SchemeName,
    exact_size,
)
from pagepulse.policy.filters import Filter, rejects_all
from pagepulse.policy.guard_settings import Guards
from pagepulse.policy.limits import Quotas, Watermarks
from pagepulse.policy.objects import SchemeObject, unset
from pagepulse.policy.pattern import AccessPattern

DEFAULT_QUOTA_BYTES = 128 * 1024 * 1024
"""What an action may treat in each reset interval unless its quotas say otherwise; DAMON_RECLAIM's default."""
COLLAPSE_QUOTA_BYTES = 32 * 1024 * 1024
"""The same for hugepage and collapse: at some 2.5 ms for each 2 MiB, 4 % of one CPU."""
_WHOLE_CHUNKS = frozenset({"hugepage", "collapse"})
_LEAVES_YOUNG = ACT_ON_IDLE - {"nohugepage"} | {"willneed"}
"""Actions for pages that are idle, or not there. nohugepage is not one: what it splits may be in use."""


class Scheme(SchemeObject):
    """One scheme: an action for the memory that shows a pattern."""

    name: SchemeName
    comment: str = ""
    action: ActionName
    target_node: NodeOrUnset = Field(default_factory=unset, description=(
        "NUMA node to which migrate_hot and migrate_cold move memory."))
    access_pattern: AccessPattern
    apply_interval_ns: DailyIntervalOrUnset = Field(default_factory=unset, alias="apply_interval", description=(
        "How often to act, at least once a day. Default: at each aggregation interval."))
    quotas: Quotas = Quotas()
    watermarks: Watermarks = Watermarks()
    filters: Annotated[tuple[Filter, ...], Field(strict=False)] = Field(default=(), description=(
        "The first that matches decides; what none matches is treated as the opposite of the last."))
    guards: Guards = Guards()
    restore_huge_pages: bool = Field(default=True, description=(
        "For pageout: what went as huge pages and comes back, as small ones then, is made huge again. Default: true."))

    @property
    def acts(self) -> bool:
        """False for stat, which only counts."""
        return self.action != "stat"

    @property
    def restores(self) -> bool:
        """Whether huge pages that it paged out are made huge again: what nohugepage takes is meant to stay small."""
        return self.action == "pageout" and self.restore_huge_pages

    @property
    def limit_bytes(self) -> int | None:
        """Bytes that may be treated in each reset interval; None: no limit."""
        if self.acts and "size_bytes" not in self.quotas.model_fields_set:
            return COLLAPSE_QUOTA_BYTES if self.action in _WHOLE_CHUNKS else DEFAULT_QUOTA_BYTES
        return self.quotas.size_bytes

    @model_validator(mode="after")
    def _idle_time_is_given(self) -> Self:
        # An action at age 0 hits everything. Who wants that has to write it.
        if self.action in ACT_ON_IDLE and "min_ns" not in self.access_pattern.age.model_fields_set:
            raise Misplaced("access_pattern.age.min",
                            f"expected a time, as {self.action} acts on what was idle that long; the key is missing")
        return self

    @model_validator(mode="after")
    def _node_is_given_to_migrate(self) -> Self:
        if self.action in {"migrate_hot", "migrate_cold"}:
            if self.target_node is None:
                raise Misplaced("target_node", f"expected a NUMA node, as {self.action} moves memory to it; "
                                               "the key is missing")
        elif self.target_node is not None:
            raise Misplaced("target_node", f"expected no node for {self.action}; migrate_hot and migrate_cold have one")
        return self

    @model_validator(mode="after")
    def _only_pageout_restores(self) -> Self:
        if self.action != "pageout" and "restore_huge_pages" in self.model_fields_set:
            raise Misplaced("restore_huge_pages", f"expected no such key for {self.action}; pageout has it")
        return self

    @model_validator(mode="after")
    def _goals_have_something_to_tune(self) -> Self:
        if not self.acts and self.quotas.goals:
            raise Misplaced("quotas.goals", f"expected no goals for {self.action}, which changes nothing that they "
                                            "could measure")
        return self

    @model_validator(mode="after")
    def _quota_has_room_for_a_huge_page(self) -> Self:
        size_bytes = self.quotas.size_bytes
        if self.action in _WHOLE_CHUNKS and size_bytes is not None and size_bytes < CHUNK:
            raise Misplaced("quotas.size", f"expected at least 2 MiB, one huge page, as {self.action} makes whole "
                                           f"ones, got {exact_size(size_bytes)}")
        return self

    @model_validator(mode="after")
    def _filters_leave_something(self) -> Self:
        if rejects_all(self.filters, young=True):
            raise Misplaced("filters", "expected that some memory may pass, got filters that reject all of it")
        if self.action in _LEAVES_YOUNG and rejects_all(self.filters, young=False):
            raise Misplaced("filters", f"expected that what is not young may pass, as {self.action} leaves young pages "
                                       "alone, got filters that reject all else")
        return self


class SchemeFile(SchemeObject):
    """A scheme file of pagepulse."""

    schema_uri: str = Field(default="", alias="$schema", description="For editors; pagepulse does not read it.")
    comment: str = ""
    schemes: Annotated[tuple[Scheme, ...], Field(strict=False)]  # JSON has lists, not tuples

    @model_validator(mode="after")
    def _some_and_all_differ(self) -> Self:
        if not self.schemes:
            raise Misplaced("schemes", "expected at least one scheme, got an empty list")
        first: dict[str, int] = {}
        for number, scheme in enumerate(self.schemes):
            if first.setdefault(scheme.name, number) != number:
                raise Misplaced(f"schemes[{number}].name", f"expected a name of its own, got {scheme.name!r}, "
                                                           f"the name of schemes[{first[scheme.name]}]")
        return self
