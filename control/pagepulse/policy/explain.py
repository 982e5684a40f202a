# SPDX-License-Identifier: GPL-2.0-only
"""A scheme as one English sentence, exact enough to notice that it is not the one that was meant."""

from __future__ import annotations

from pagepulse.policy.fields import (
    ACT_ON_BUSY,
    ACT_ON_IDLE,
    Action,
    Rate,
    exact_rate,
    exact_share,
    exact_size,
    exact_time,
)
from pagepulse.policy.filters import Filter, default_allows
from pagepulse.policy.guard_settings import Guard
from pagepulse.policy.guards import TAKES_MEMORY
from pagepulse.policy.limits import Goal, Quotas, Watermarks, Weights
from pagepulse.policy.pattern import NEVER, AgeRange, RateRange, SizeRange
from pagepulse.policy.scheme import Scheme

_DOES: dict[Action, str] = {
    "stat": "counts memory",
    "cold": "lets the kernel reclaim first the memory",
    "lru_deprio": "lets the kernel reclaim first the memory",
    "pageout": "pages out memory",
    "willneed": "reads in memory",
    "hugepage": "gives huge pages to memory",
    "collapse": "gives huge pages to memory",
    "nohugepage": "splits huge pages and pages out what is idle of the memory",
    "migrate_hot": "moves to NUMA node {node} memory",
    "migrate_cold": "moves to NUMA node {node} memory",
}
_METRICS = {"free_memory": "free memory", "available_memory": "available memory",
            "psi_some": "memory pressure (some)", "psi_full": "memory pressure (full)",
            "refault_rate": "the share of evicted memory that comes back"}
_GUARDS_OF_ALL = {"psi"}
"""Guards of every action; all the others are of actions that take memory."""
_FOR_EVER_NS = 10 * 365 * 86_400 * 1_000_000_000


def sentence(scheme: Scheme) -> str:
    """`prcl: pages out memory that was not touched for at least 5 s, ...; at most 128 MiB each second.`."""
    pattern = scheme.access_pattern
    parts = [_idle(pattern.age.min_ns)] if scheme.action in ACT_ON_IDLE else []
    conditions = " and ".join(filter(None, (_rate(pattern.rate), _age(pattern.age, scheme))))
    if regions := " ".join(filter(None, (_size(pattern.size), conditions))):
        parts.append(f"in regions {regions}")
    parts += [_filters(scheme.filters), _interval(scheme.apply_interval_ns)]
    does = _DOES[scheme.action].format(node=scheme.target_node)
    clauses = (f"{does} {', '.join(filter(None, parts))}".rstrip(), _quotas(scheme),
               _goals(scheme.quotas), _watermarks(scheme.watermarks), _guards(scheme),
               "" if scheme.restore_huge_pages else "huge pages that come back stay small")
    return f"{scheme.name}: {'; '.join(filter(None, clauses))}."


def _idle(min_idle_ns: int) -> str:
    if not min_idle_ns:
        return "that is not in use right now"
    return f"that was not touched for at least {exact_time(min_idle_ns)}"


def _size(size: SizeRange) -> str:
    if size.max_bytes is None:
        return f"of {exact_size(size.min_bytes)} or more" if size.min_bytes else ""
    return f"of {exact_size(size.min_bytes)} to {exact_size(size.max_bytes)}"


def _rate(rate: RateRange) -> str:
    if rate.max in NEVER:
        return "that are not touched"
    bounds = [] if rate.min in NEVER else [_often("at least", rate.min)]
    if rate.max is not None:
        bounds.append(_often("at most", rate.max))
    return f"that are touched {' and '.join(bounds)}" if bounds else ""


def _often(word: str, rate: Rate) -> str:
    if rate.hz is not None:
        return f"{word} {rate.hz:g} times a second"
    if rate.nr_accesses is not None:
        return f"in {word} {rate.nr_accesses:g} sampling intervals of an aggregation"
    return f"in {word} {exact_rate(rate)} of sampling intervals"


def _age(age: AgeRange, scheme: Scheme) -> str:
    lower, upper = exact_time(age.min_ns), age.max_ns
    if upper is not None:
        return f"whose pattern has held for {lower} to {exact_time(upper)}"
    told = scheme.action in ACT_ON_IDLE
    return f"whose pattern has held for {lower} or more" if age.min_ns and not told else ""


def _filters(filters: tuple[Filter, ...]) -> str:
    if not filters:
        return ""
    rules = [f"{'allowing' if entry.allow else 'rejecting'} what is {'' if entry.matching else 'not '}{_kind(entry)}"
             for entry in filters]
    rest = "allowing" if default_allows(filters) else "rejecting"
    return f"{', then '.join(rules)}, and {rest} the rest"


def _kind(entry: Filter) -> str:
    return {
        "anon": "anonymous",
        "file": "of a file",
        "young": "young",
        "address": f"in {entry.start or 0:#x}-{entry.end or 0:#x}",
        "mapping": f"in a mapping named {entry.glob!r}",
        "hugepage_size": f"in a page {_size(entry.size) or 'of any size'}",
        "cgroup": f"of a process in the cgroup {entry.path!r}",
    }[entry.type]


def _interval(interval_ns: int | None) -> str:
    return "" if interval_ns is None else f"looking {_each(interval_ns)}"


def _quotas(scheme: Scheme) -> str:
    limits = [exact_size(scheme.limit_bytes)] if scheme.limit_bytes is not None else []
    if scheme.quotas.time_ns is not None:
        limits.append(f"{exact_time(scheme.quotas.time_ns)} of work")
    if not limits:
        return "without a limit" if scheme.acts else "changes nothing"
    each = _each(scheme.quotas.reset_interval_ns)
    return f"at most {' and '.join(limits)} {each}{_order(scheme)}"


def _order(scheme: Scheme) -> str:
    """How the weights say that it orders; nothing where they are the usual ones."""
    weights = scheme.quotas.weights
    if weights == Weights():
        return ""
    first = "hottest" if scheme.action in ACT_ON_BUSY else "coldest"
    given = [f"{name} {value:g}" for name, value in weights if value]
    return f", {first} first by {', '.join(given)}" if given else ", oldest first"


def _goals(quotas: Quotas) -> str:
    if not quotas.goals:
        return ""
    goals = " or ".join(_goal(goal) for goal in quotas.goals)
    if quotas.goal_tuner == "temporal":
        return f"all of that until {goals}, then nothing"
    return f"tuned until {goals}"


def _goal(goal: Goal) -> str:
    if goal.reads:
        return f"the number in the {goal.metric} {goal.path!r} is {goal.target_value:g}"
    return f"{_METRICS[goal.metric]} is {exact_share(goal.target_value)}"


def _watermarks(marks: Watermarks) -> str:
    if marks.metric == "none":
        return ""
    return (f"only while {_METRICS[marks.metric]} is within {exact_share(marks.low)} and {exact_share(marks.high)}, "
            f"beginning below {exact_share(marks.mid)}, asked {_each(marks.interval_ns)}")


def _guards(scheme: Scheme) -> str:
    """Those that the action has, as far as they are not what they are in a file that says nothing of them."""
    if not scheme.acts:
        return ""
    guards = [(name, guard) for name, guard in scheme.guards if name in _GUARDS_OF_ALL or scheme.action in TAKES_MEMORY]
    off = [name for name, guard in guards if not guard.enabled]
    changed = [f"{name} ({values})" for name, guard in guards if guard.enabled and (values := _changed(guard))]
    clauses = [f"{word} the guard{'s' if len(told) > 1 else ''} {_listed(told)}"
               for word, told in (("with", changed), ("without", off)) if told]
    return ", ".join(clauses)


def _changed(guard: Guard) -> str:
    """`max_some 100%`: what is not the default, in the words of the file."""
    given, usual = (one.model_dump(mode="json", by_alias=True) for one in (guard, type(guard)()))
    return ", ".join(f"{key} {value}" for key, value in given.items() if value != usual[key])


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _each(interval_ns: int) -> str:
    if interval_ns >= _FOR_EVER_NS:
        return "in all"
    return "each second" if interval_ns == 1_000_000_000 else f"each {exact_time(interval_ns)}"
