# SPDX-License-Identifier: GPL-2.0-only
"""Scheme files for hypothesis: sound ones, sound ones with a few things changed, and any JSON at all."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from pagepulse.policy.fields import ACT_ON_IDLE, ACTIONS
from pagepulse.policy.filters import Filter, rejects_all

Json = Any

SIZES = st.one_of(st.integers(4096, 2**40), st.sampled_from(["4 KiB", "1.5GiB", "2M", "1,024 KB"]))
TIMES = st.one_of(st.integers(1, 2**40).map(lambda ns: f"{ns} ns"), st.sampled_from(["5 s", "1.5h", "100 ms", "2d"]))
INTERVALS = st.sampled_from(["1 ns", "100 ms", "5 s", "1.5h", "1d"])
SHARES = st.integers(0, 100_000).map(lambda thousandths: f"{thousandths / 1000:.3f}%")
SOME_SHARES = st.integers(1, 100).map(lambda percent: f"{percent}%")
NUMBERS = st.one_of(st.integers(1, 10**6), st.floats(0.001, 1e6))
RATES = st.one_of(SHARES, st.integers(0, 1000).map(lambda hz: f"{hz} Hz"),
                  st.integers(0, 20).map(lambda count: f"{count} samples"))
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
PATHS = st.from_regex(r"/[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True)


def some(**keys: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """An object with any of these keys."""
    return st.fixed_dictionaries({}, optional=keys)


def bounds(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """A range that is open at one end at least, so that it is never empty."""
    return st.one_of(some(min=values), st.fixed_dictionaries({"max": values}), some(min=values, max=st.just("max")))


PATTERNS = some(size=bounds(SIZES), rate=bounds(RATES), age=bounds(TIMES))
GOALS = st.one_of(
    st.fixed_dictionaries({"metric": st.sampled_from(["free_memory", "available_memory", "psi_some", "psi_full",
                                                      "refault_rate"]), "target": SOME_SHARES}),
    st.fixed_dictionaries({"metric": st.sampled_from(["file", "socket"]), "target": NUMBERS, "path": PATHS}))
QUOTAS = some(size=SIZES, time=TIMES, reset_interval=TIMES, weights=some(size=NUMBERS, rate=NUMBERS, age=NUMBERS))
TUNED_QUOTAS = st.builds(
    lambda quotas, goals, tuner: quotas | {"goals": goals} | tuner, QUOTAS, st.lists(GOALS, min_size=1, max_size=3),
    some(goal_tuner=st.sampled_from(["consist", "temporal"])))
WATERMARKS = st.one_of(
    st.just({"metric": "none"}),
    st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100)).map(sorted).filter(
        lambda marks: marks[0] < marks[1]).map(
        lambda marks: {"metric": "psi_some", "interval": "1 s"} | dict(zip(
            ("low", "mid", "high"), (f"{mark}%" for mark in marks), strict=True))))
FILTERS = st.tuples(
    st.one_of(
        st.sampled_from([{"type": "anon"}, {"type": "file"}, {"type": "young"}]),
        st.builds(lambda glob: {"type": "mapping", "glob": glob}, st.sampled_from(["[heap]", "*", "/usr/*"])),
        st.builds(lambda start, pages: {"type": "address", "start": hex(start), "end": start + 4096 * pages},
                  st.integers(0, 2**47), st.integers(1, 100)),
        st.builds(lambda path: {"type": "cgroup", "path": path}, PATHS),
        st.builds(lambda size: {"type": "hugepage_size", "size": size}, bounds(SIZES))),
    some(matching=st.booleans(), allow=st.booleans())).map(lambda parts: parts[0] | parts[1])
FILTER_LISTS = st.lists(FILTERS, max_size=3).filter(
    lambda filters: not rejects_all([Filter.model_validate(one) for one in filters], young=False))
ENABLED = st.booleans()
GUARDS = some(
    refault=some(enabled=ENABLED, window=TIMES, stop_accuracy=st.just("80%")),
    psi=some(max_some=SHARES, max_full=SHARES),
    swap=some(enabled=ENABLED, min_free=SHARES, max_out=SIZES), rss_floor=some(size=SIZES), step_share=some(max=SHARES))


@st.composite
def schemes(draw: st.DrawFn) -> Json:
    """A sound scheme in pagepulse's language."""
    action = draw(st.sampled_from(ACTIONS))
    scheme = draw(st.fixed_dictionaries(
        {"name": NAMES, "action": st.just(action), "access_pattern": PATTERNS},
        optional={"comment": st.text(max_size=20), "apply_interval": INTERVALS, "watermarks": WATERMARKS,
                  "quotas": QUOTAS if action == "stat" else st.one_of(QUOTAS, TUNED_QUOTAS),
                  "filters": FILTER_LISTS, "guards": GUARDS}))
    if action in {"hugepage", "collapse"} and "size" in scheme.get("quotas", {}):
        scheme["quotas"]["size"] = draw(st.sampled_from(["2 MiB", "1.5GiB", "max"]))
    if action in ACT_ON_IDLE:
        scheme["access_pattern"]["age"] = {"min": draw(TIMES)}
    if action.startswith("migrate"):
        scheme["target_node"] = draw(st.integers(0, 7))
    return scheme


DOCUMENTS = st.lists(schemes(), min_size=1, max_size=3, unique_by=lambda scheme: scheme["name"]).map(
    lambda all_schemes: {"schemes": all_schemes})
"""Sound files."""

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10),
              st.sampled_from(["max", "min", "5 s", "5%", "4 KiB", "5 %", "1 m 30 s", "pageout", "anon"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(
        st.one_of(st.text(max_size=10), st.sampled_from(["schemes", "kdamonds", "action", "quotas", "filters", "min"])),
        inner, max_size=4)), max_leaves=20)


def _places(value: Json) -> list[tuple[Json, Json]]:
    """Every container with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


@st.composite
def nearly(draw: st.DrawFn, documents: st.SearchStrategy[Json]) -> Json:
    """A document with one to three of its values replaced, left out, or under another name."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            return document
        holder, key = draw(st.sampled_from(range(len(places))).map(places.__getitem__))
        match draw(st.integers(0, 2)):
            case 0:
                holder[key] = draw(JSON)
            case 1:
                del holder[key]
            case _ if isinstance(holder, dict):
                holder[draw(st.text(max_size=8))] = holder.pop(key)
            case _:
                holder.insert(key, draw(JSON))
    return document
