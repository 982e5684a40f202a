# SPDX-License-Identifier: GPL-2.0-only
"""From a document of damo to one in pagepulse's language that says the same.

DAMON counts whole sampling intervals, so its 0 % is anything below one of, usually, 20; rates here are estimates with
fractions. An upper bound of n samples therefore becomes (n + 1) / 20.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count, pairwise
from typing import Any

from pagepulse.policy.damo import (
    Ages,
    Context,
    DamoDocument,
    DamosFilter,
    DamosScheme,
    Goal,
    Intervals,
    Pattern,
    Quotas,
    Rates,
    Watermarks,
    Weights,
)
from pagepulse.policy.damo_values import UNLIMITED, Counted
from pagepulse.policy.fields import Misplaced, exact_share

Place = tuple[str | int, ...]

_USUAL_SAMPLE_NS, _USUAL_AGGREGATION_NS = 5_000_000, 100_000_000
_USUAL_REGIONS = {"min": "10", "max": "1,000"}
_SECOND_NS = 1_000_000_000
_KEYS: dict[Place, tuple[str, ...]] = {
    ("access_pattern", "size"): ("access_pattern", "sz_bytes"),
    ("access_pattern", "rate"): ("access_pattern", "nr_accesses"),
    ("quotas", "size"): ("quotas", "sz_bytes"), ("quotas", "time"): ("quotas", "time_ms"),
    ("quotas", "reset_interval"): ("quotas", "reset_interval_ms"),
    ("watermarks", "interval"): ("watermarks", "interval_us"), ("watermarks", "high"): ("watermarks", "high_permil"),
    ("watermarks", "mid"): ("watermarks", "mid_permil"), ("watermarks", "low"): ("watermarks", "low_permil"),
    ("apply_interval",): ("apply_interval_us",), ("target_node",): ("dests",)}
_KEYS_IN_LISTS: dict[Place, tuple[str, ...]] = {
    ("goals", "target"): ("target_value",), ("filters", "type"): ("filter_type",), ("filters", "path"): ("memcg_path",),
    ("filters", "size"): ("hugepage_size",), ("filters", "start"): ("address_range", "start"),
    ("filters", "end"): ("address_range", "end")}


@dataclass(slots=True)
class Translation:
    """What a document of damo becomes."""

    schemes: list[dict[str, Any]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    """Where each of the schemes stands in damo's document."""
    filters: list[list[int | None]] = field(default_factory=list)
    """For each of the schemes: which of damo's filters became each of its filters; None: its target's regions did."""
    notes: list[str] = field(default_factory=list)
    """What was left out, or taken for something else; harmless."""


def translated(document: DamoDocument) -> Translation:
    """The schemes of all contexts, in their order.

    Raises:
        Misplaced: A scheme says something that has no meaning here.
    """
    result = Translation()
    given = {scheme.name for _, context in _contexts(document) for scheme in context.schemes}
    _refuse_different_targets(document)
    for place, context in _contexts(document):
        path = _path_of(place)
        with _below(path):
            within = _regions(context)
        result.notes += [f"{path}.{note}" for note in _notes(context)]
        for number, scheme in enumerate(context.schemes):
            where = f"{path}.schemes[{number}]"
            with _below(where):
                one = _scheme(scheme, context.intervals, scheme.name or _free_name(scheme, len(result.schemes), given))
                _refuse_second(one["name"], result)
            ordered = _in_damons_order(scheme.filters)
            one["filters"] = within + one["filters"]
            result.schemes.append(one)
            result.places.append((*place, "schemes", number))
            result.filters.append([None] * len(within) + [i for i, _ in ordered])
            result.notes += [f"{where}.{note}" for note in (*_unused(scheme), *_rounding(scheme, context.intervals))]
    return result


def place_in_damo(translation: Translation, location: Sequence[str | int]) -> Place:
    """Where in damo's document stands what came to be at this place of the translation: `schemes`, 0, `quotas`."""
    _, number, *rest = location
    place = translation.places[int(number)]
    match rest:
        case ["filters", int(i), *inner]:
            given = translation.filters[int(number)][i]
            if given is None:
                return (*place[:-2], "targets")
            return (*place, "filters", given, *_renamed(("filters", *inner), _KEYS_IN_LISTS, 1))
        case ["quotas", "goals", int(i), *inner]:
            return (*place, "quotas", "goals", i, *_renamed(("goals", *inner), _KEYS_IN_LISTS, 1))
        case _:
            return (*place, *_renamed(tuple(rest), _KEYS, 0))


def _renamed(location: Place, keys: dict[Place, tuple[str, ...]], skip: int) -> Place:
    """The location with damo's words at its begin; without the `skip` first parts, which only say where it is."""
    for length in (1, 2):
        if location[:length] in keys:
            return (*keys[location[:length]], *location[length:])
    return location[skip:]


def _path_of(place: Place) -> str:
    return f"kdamonds[{place[1]}].contexts[{place[3]}]"


@contextmanager
def _below(path: str) -> Iterator[None]:
    """Faults in here have a path that is seen from this one."""
    try:
        yield
    except Misplaced as fault:
        raise Misplaced(f"{path}.{fault.path}", str(fault)) from None


def _refuse_second(name: str, result: Translation) -> None:
    for other, place in zip(result.schemes, result.places, strict=True):
        if other["name"] == name:
            raise Misplaced("name", f"expected a name of its own, got {name!r}, the name of {_path_of(place)}"
                                    f".schemes[{place[-1]}]")


def _refuse_different_targets(document: DamoDocument) -> None:
    """Here all schemes of a file are for all targets; in damo's document, for those of their context."""
    first, pids = "", None
    for place, context in _contexts(document):
        if not (context.targets and context.schemes):
            continue
        its = [target.pid for target in context.targets]
        if first and its != pids:
            raise Misplaced(f"{_path_of(place)}.targets", f"expected the targets of {first}, as all schemes of a file "
                                                          "are for the same ones here; make a file of each context")
        first, pids = first or _path_of(place), its


def _contexts(document: DamoDocument) -> Iterator[tuple[Place, Context]]:
    for k, kdamond in enumerate(document.kdamonds):
        for c, context in enumerate(kdamond.contexts):
            yield ("kdamonds", k, "contexts", c), context


def _regions(context: Context) -> list[dict[str, Any]]:
    """Filters that leave of all memory what fvaddr is for: the regions of the targets. DAMON's vaddr replaces them."""
    if context.ops != "fvaddr" or not context.schemes:
        return []
    each = [sorted((region.start, region.end) for region in target.regions) for target in context.targets]
    for t, target in enumerate(context.targets):
        for r, region in enumerate(target.regions):
            if region.start >= region.end:
                raise Misplaced(f"targets[{t}].regions[{r}]", "expected start below end, "
                                                              f"got {region.start:#x} and {region.end:#x}")
    if not each or not all(each):
        raise Misplaced("targets", "expected regions, as fvaddr is for nothing else; vaddr is for all memory")
    if any(regions != each[0] for regions in each):
        raise Misplaced("targets", "expected the same regions for all targets, as filters are for all of them here; "
                                   "make a file of each target")
    spans = _merged(each[0])
    outside = {"type": "address", "matching": False, "start": spans[0][0], "end": spans[-1][1]}
    return [outside, *({"type": "address", "start": end, "end": start} for (_, end), (start, _) in pairwise(spans))]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans, with one in place of those that meet."""
    merged = [spans[0]]
    for start, end in spans[1:]:
        if start > merged[-1][1]:
            merged.append((start, end))
        else:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    return merged


def _notes(context: Context) -> Iterator[str]:
    if context.targets:
        yield "targets: not used; the command line says whom to watch"
    intervals = context.intervals
    if (intervals.sample_us, intervals.aggr_us) != (_USUAL_SAMPLE_NS, _USUAL_AGGREGATION_NS):
        yield "intervals: not used but for what rates and ages mean; --sample and --aggregate give them"
    if context.nr_regions not in (None, _USUAL_REGIONS):
        yield "nr_regions: not used; pagepulse finds the regions itself"
    if context.ops == "fvaddr":
        yield "ops: fvaddr is taken as vaddr, and the regions of its targets as filters of addresses"


def _unused(scheme: DamosScheme) -> Iterator[str]:
    if scheme.action in {"migrate_hot", "migrate_cold"}:
        return
    for key in ("dests", "target_nid"):
        if getattr(scheme, key) not in ((), None):
            yield f"{key}: not used; {scheme.action} moves nothing to a node"


def _rounding(scheme: DamosScheme, intervals: Intervals) -> Iterator[str]:
    if scheme.access_pattern is None:
        return
    given, most = scheme.access_pattern.nr_accesses.max, _most(intervals)
    samples = _samples(given, most)
    if samples < most:
        yield (f"access_pattern.nr_accesses.max: {samples} of {most} samples, in DAMON less than {samples + 1}, "
               f"is taken as {_upper(given, most)}")


def _free_name(scheme: DamosScheme, number: int, given: set[str | None]) -> str:
    """A name that no other scheme has: `pageout-0`, or `pageout-0-2` where one was called so."""
    names = (f"{scheme.action}-{number}{tail}" for tail in chain([""], (f"-{n}" for n in count(2))))
    return next(name for name in names if name not in given)


def _scheme(scheme: DamosScheme, intervals: Intervals, name: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": name, "action": scheme.action,
        "access_pattern": _pattern(scheme.access_pattern, intervals), "quotas": _quotas(scheme.quotas),
        "filters": [_filter(one, i) for i, one in _in_damons_order(scheme.filters)]}
    if scheme.action in {"migrate_hot", "migrate_cold"}:
        result["target_node"] = _node(scheme)
    if scheme.apply_interval_us:
        result["apply_interval"] = f"{scheme.apply_interval_us} ns"
    if scheme.watermarks is not None:
        result["watermarks"] = _watermarks(scheme.watermarks)
    return result


def _node(scheme: DamosScheme) -> int:
    nodes = [one.id for one in scheme.dests] or ([] if scheme.target_nid is None else [scheme.target_nid])
    if len(nodes) != 1:
        raise Misplaced("dests", f"expected one NUMA node to migrate to, got {len(nodes)}")
    return nodes[0]


def _pattern(pattern: Pattern | None, intervals: Intervals) -> dict[str, Any]:
    if pattern is None:
        return {"age": {"min": "0 s"}}
    size, rates, most = pattern.sz_bytes, pattern.nr_accesses, _most(intervals)
    return {"size": {"min": size.min, "max": _or_max(size.max)},
            "rate": {"min": _lower(rates, most), "max": _upper(rates.max, most)},
            "age": _ages(pattern.age, intervals)}


def _most(intervals: Intervals) -> int:
    """DAMON's largest nr_accesses."""
    return max(intervals.aggr_us // max(intervals.sample_us, 1), 1)


def _samples(given: float | Counted, most: int) -> int:
    count = given.count if isinstance(given, Counted) else given * most
    return math.floor(min(count, most) + 1e-9)


def _lower(rates: Rates, most: int) -> str:
    return exact_share(_samples(rates.min, most) / most)


def _upper(given: float | Counted, most: int) -> str:
    samples = _samples(given, most) + 1
    return "max" if samples >= most else exact_share(samples / most)


def _ages(ages: Ages, intervals: Intervals) -> dict[str, str]:
    shortest, longest = (round(min(one.count * intervals.aggr_us, UNLIMITED)) if isinstance(one, Counted) else one
                         for one in (ages.min, ages.max))
    return {"min": f"{shortest} ns", "max": "max" if longest >= UNLIMITED else f"{longest} ns"}


def _or_max(value: int) -> int | str:
    return "max" if value >= UNLIMITED else value


def _quotas(quotas: Quotas) -> dict[str, Any]:
    """In DAMON a limit of 0 is none. A reset interval of 0 resets nothing, and is left to its default."""
    result: dict[str, Any] = {"size": _limit(quotas.sz_bytes, 4096)}
    result["time"] = "max" if quotas.time_ms in (0, UNLIMITED) else f"{quotas.time_ms} ns"
    limited = result["size"] != "max" or result["time"] != "max" or quotas.goals
    if limited and quotas.reset_interval_ms:
        result["reset_interval"] = f"{quotas.reset_interval_ms} ns"
    if quotas.weights is not None and any(_relative(quotas.weights).values()):
        result["weights"] = _relative(quotas.weights)
    if quotas.goals:  # damo writes a tuner in any case
        result["goal_tuner"] = quotas.goal_tuner
    result["goals"] = [_goal(goal, quotas.reset_interval_ms or _SECOND_NS) for goal in quotas.goals]
    return result


def _limit(size_bytes: int, least: int) -> int | str:
    return "max" if size_bytes == 0 else _or_max(max(size_bytes, least))


def _relative(weights: Weights) -> dict[str, float]:
    given = {"size": weights.sz_permil, "rate": weights.nr_accesses_permil, "age": weights.age_permil}
    return {name: round(weight * 1000, 9) for name, weight in given.items()}


def _goal(goal: Goal, reset_interval_ns: int) -> dict[str, Any]:
    """DAMON gives the time of pressure in each reset interval."""
    return {"metric": goal.metric, "target": exact_share(min(goal.target_value / reset_interval_ns, 1.0))}


def _watermarks(marks: Watermarks) -> dict[str, Any]:
    if marks.metric == "none":
        return {}
    return {"metric": marks.metric, "interval": f"{max(marks.interval_us, 1)} ns",
            "high": exact_share(marks.high_permil), "mid": exact_share(marks.mid_permil),
            "low": exact_share(marks.low_permil)}


def _in_damons_order(filters: tuple[DamosFilter, ...]) -> list[tuple[int, DamosFilter]]:
    """DAMON's core asks the filters of addresses before all others."""
    return sorted(enumerate(filters), key=lambda one: one[1].filter_type != "address")


def _filter(given: DamosFilter, number: int) -> dict[str, Any]:
    result: dict[str, Any] = {"type": given.filter_type, "matching": given.matching, "allow": given.allow}
    match given.filter_type:
        case "address":
            if given.address_range is None:
                raise Misplaced(f"filters[{number}].address_range", "expected a range, got null")
            result |= {"start": given.address_range.start, "end": given.address_range.end}
        case "cgroup":
            if not given.memcg_path:
                raise Misplaced(f"filters[{number}].memcg_path", "expected a path, got none")
            result["path"] = "/" + given.memcg_path.lstrip("/")
        case "hugepage_size":
            least, most = given.hugepage_size or (0, UNLIMITED)
            result["size"] = {"min": least, "max": _or_max(most)}
        case _:
            pass
    return result
