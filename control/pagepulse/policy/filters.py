# SPDX-License-Identifier: GPL-2.0-only
"""Filters: what memory of a pattern a scheme may have after all. As in DAMON, the first that matches decides.

What no filter matches is treated as the opposite of the last one: after a last filter that allows, only what was
allowed is left; after one that rejects, all but what was rejected (damos_filters_default_reject() in mm/damon/core.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pagepulse.model.memory import CHUNK, PAGE
from pagepulse.model.snapshot import Snapshot
from pagepulse.policy.fields import AddressOrUnset, GlobOrUnset, Misplaced, PathOrUnset, found
from pagepulse.policy.objects import SchemeObject, unset
from pagepulse.policy.pattern import SizeRange

FilterType = Literal["anon", "file", "address", "mapping", "hugepage_size", "young", "cgroup"]
Mask = npt.NDArray[np.bool_]

_CGROUP_MOUNT = ["", "sys", "fs", "cgroup"]
_HIERARCHIES = {"memory", "unified"}
"""Of version 1 and of both at once: directories below the mount, and no part of a group's path."""
_ARGUMENTS: dict[FilterType, tuple[str, ...]] = {
    "anon": (), "file": (), "young": (), "address": ("start", "end"), "mapping": ("glob",),
    "hugepage_size": ("size",), "cgroup": ("path",)}


class Filter(SchemeObject):
    """Allows or rejects a kind of memory."""

    type: FilterType
    matching: bool = Field(default=True, description="false: what is not of this kind. Default: true.")
    allow: bool = Field(default=False, description="true: allow what the filter is for, false: reject it.")
    start: AddressOrUnset = Field(default_factory=unset, description="address: from here on.")
    end: AddressOrUnset = Field(default_factory=unset, description="address: up to here, exclusive.")
    glob: GlobOrUnset = Field(default_factory=unset, description="mapping: its name or path, with * and ?.")
    path: PathOrUnset = Field(default_factory=unset, description="cgroup: the process is in it, or below it.")
    size: SizeRange = Field(default=SizeRange(), description="hugepage_size: of the page that maps the memory.")

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        needed = _ARGUMENTS[self.type]
        for key in ("start", "end", "glob", "path", "size"):
            if key in self.model_fields_set and key not in needed:
                raise Misplaced(key, f"expected no such key in a filter of type {self.type}")
            if key in needed and key not in self.model_fields_set:
                raise Misplaced(key, f"expected a value, as a filter of type {self.type} needs it; the key is missing")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"expected start below end, got {self.start:#x} and {self.end:#x}")
        return self

    @model_validator(mode="after")
    def _names_a_cgroup_as_the_kernel_does(self) -> Self:
        parts = (self.path or "").split("/")
        if parts[:4] == _CGROUP_MOUNT:
            rest = parts[5:] if parts[4:5] and parts[4] in _HIERARCHIES else parts[4:]
            raise Misplaced("path", "expected a path without the mount, as the kernel names the group, got "
                                    f"{found(self.path)}; write {found('/' + '/'.join(rest))}")
        return self


class Where(NamedTuple):
    """What is the same for all pages of a candidate."""

    mapping: str = ""
    """Its name, as in `Snapshot.mappings`."""
    cgroups: tuple[str, ...] = ("/",)
    """Of the process: its path in each hierarchy that has a say on memory (version 2's, version 1's of memory)."""


ANYWHERE = Where()


class Pages(NamedTuple):
    """Contiguous pages: shape (n,) each, one entry for each 4 KiB."""

    start: int
    """Address of the first one."""
    young: Mask
    huge: Mask


def default_allows(filters: Sequence[Filter]) -> bool:
    """Whether memory that no filter matches is allowed."""
    return not filters or not filters[-1].allow


def rejects_all(filters: Sequence[Filter], *, young: bool) -> bool:
    """Whether it is certain that nothing passes, whatever the memory is.

    Args:
        filters: In their order.
        young: Whether pages whose accessed bit is set count, too.
    """
    return not any(_some_pass(filters, anon=anon, young=is_young)
                   for anon in (False, True) for is_young in {False, young})


def _some_pass(filters: Sequence[Filter], *, anon: bool, young: bool) -> bool:
    """Whether something of a kind may pass; what else is asked of it may turn out either way."""
    known = {"anon": anon, "file": not anon, "young": young}
    for entry in filters:
        if entry.type not in known:
            if entry.allow:
                return True
        elif known[entry.type] == entry.matching:
            return entry.allow
    return default_allows(filters)


def may_pass(filters: Sequence[Filter], snapshot: Snapshot, cgroups: tuple[str, ...]) -> Mask:
    """Regions of which something may pass the filters; of the others, nothing does.

    Addresses, mappings and cgroups are known of a region; whether a page is young or huge only of the page. Where a
    filter matches a part of a region, or that is not known, its verdict and those of the filters behind it can both be.

    Args:
        filters: In their order.
        snapshot: Of the target.
        cgroups: Of the target: `Where.cgroups`.

    Returns:
        Shape (n,) for the n regions of the snapshot.
    """
    regions = snapshot.regions
    undecided = np.ones(len(regions), np.bool_)
    passes = np.zeros(len(regions), np.bool_)
    for entry in filters:
        some, whole = _of_regions(entry, snapshot, cgroups)
        if not entry.matching:
            some, whole = ~whole, ~some
        if entry.allow:
            passes |= undecided & some
        undecided &= ~whole
    return passes | undecided if default_allows(filters) else passes


def passing(filters: Sequence[Filter], pages: Pages, where: Where) -> Mask:
    """Pages that pass the filters, exactly. Shape (n,)."""
    undecided = np.ones(pages.young.size, np.bool_)
    passes = np.zeros(pages.young.size, np.bool_)
    for entry in filters:
        matched = undecided & (_of_pages(entry, pages, where) == entry.matching)
        if entry.allow:
            passes |= matched
        undecided &= ~matched
    return passes | undecided if default_allows(filters) else passes


def by_page(filters: Sequence[Filter]) -> bool:
    """Whether some filter can only be answered page by page."""
    return any(entry.type in {"address", "young", "hugepage_size"} for entry in filters)


def _of_regions(entry: Filter, snapshot: Snapshot, cgroups: tuple[str, ...]) -> tuple[Mask, Mask]:
    """Regions of which some page, and regions of which every page is of the filter's kind."""
    regions = snapshot.regions
    if entry.type == "address":
        start, end = _bounds(entry)
        return ((regions["start"] < end) & (regions["end"] > start),
                (regions["start"] >= start) & (regions["end"] <= end))
    if entry.type in {"young", "hugepage_size"}:
        return np.ones(len(regions), np.bool_), np.zeros(len(regions), np.bool_)
    of_mapping = np.array([_of_all(entry, Where(name, cgroups)) for name in snapshot.mappings] or [False])
    mask: Mask = of_mapping[regions["mapping"]] if len(regions) else np.zeros(0, np.bool_)
    if entry.type not in {"anon", "file"} or not snapshot.shared:
        return mask, mask
    some, whole = _of_files(snapshot)
    return (mask & ~whole, mask & ~some) if entry.type == "anon" else (mask | some, mask | whole)


def _of_files(snapshot: Snapshot) -> tuple[Mask, Mask]:
    """Regions of which some, and of which all is a file's memory, whatever its name: shared memory can have one."""
    regions = snapshot.regions
    starts, ends = (np.array([one[i] for one in snapshot.shared], np.uint64) for i in (0, 1))
    nearest = np.minimum(np.searchsorted(ends, regions["start"], side="right"), ends.size - 1)
    meets = (starts[nearest] < regions["end"]) & (ends[nearest] > regions["start"])
    return meets, meets & (starts[nearest] <= regions["start"]) & (ends[nearest] >= regions["end"])


def _of_pages(entry: Filter, pages: Pages, where: Where) -> Mask:
    count = pages.young.size
    match entry.type:
        case "young":
            return pages.young
        case "address":
            start, end = _bounds(entry)
            addresses = np.uint64(pages.start) + np.arange(count, dtype=np.uint64) * np.uint64(PAGE)
            inside: Mask = (addresses >= start) & (addresses < end)
            return inside
        case "hugepage_size":
            small, large = (_within(entry.size, size) for size in (PAGE, CHUNK))
            return np.where(pages.huge, large, small).astype(np.bool_)
        case _:
            return np.full(count, _of_all(entry, where))


def _of_all(entry: Filter, where: Where) -> bool:
    """For the types that are the same for a whole mapping."""
    match entry.type:
        case "anon":
            return _is_anonymous(where.mapping)
        case "file":
            return not _is_anonymous(where.mapping)
        case "mapping":
            return fnmatchcase(where.mapping, _literal_brackets(entry.glob or ""))
        case _:
            path = (entry.path or "/").rstrip("/")
            return any(its == path or its.startswith(f"{path}/") for its in where.cgroups)


def _is_anonymous(mapping: str) -> bool:
    """Whether no file is behind it. Named shared memory, too, has a name in brackets, and a file of shmem behind it."""
    return mapping.startswith("[") and not mapping.startswith("[anon_shmem")


def _literal_brackets(pattern: str) -> str:
    """`[heap]` is a name, not a set of characters."""
    return pattern.replace("[", "[[]")


def _bounds(entry: Filter) -> tuple[np.uint64, np.uint64]:
    return np.uint64(entry.start or 0), np.uint64(entry.end or 0)


def _within(size: SizeRange, size_bytes: int) -> bool:
    return size.min_bytes <= size_bytes and (size.max_bytes is None or size_bytes <= size.max_bytes)
