# SPDX-License-Identifier: GPL-2.0-only
"""A scheme as one English sentence, exact enough to notice that it is not the one that was meant."""

from __future__ import annotations

from pagepulse.policy.fields import Action, Rate, exact_rate, exact_size, exact_time
from pagepulse.policy.scheme import AgeRange, RateRange, Scheme, SizeRange

_DOES: dict[Action, str] = {
    "stat": "counts memory",
    "cold": "lets the kernel reclaim first the memory",
    "pageout": "pages out memory",
}


def sentence(scheme: Scheme) -> str:
    """`prcl: pages out memory that was not touched for at least 5 s, ...; at most 128 MiB each second.`."""
    pattern = scheme.access_pattern
    parts = [_idle(pattern.age.min_ns)] if scheme.acts else []
    conditions = " and ".join(filter(None, (_rate(pattern.rate), _age(pattern.age, scheme))))
    if regions := " ".join(filter(None, (_size(pattern.size), conditions))):
        parts.append(f"in regions {regions}")
    parts.append(_interval(scheme.apply_interval_ns))
    what = ", ".join(filter(None, parts))
    return f"{scheme.name}: {_DOES[scheme.action]} {what}; {_quotas(scheme)}.".replace(" ;", ";")


def _idle(min_idle_ns: int) -> str:
    if not min_idle_ns:
        return "that is not in use right now"
    return f"that was not touched for at least {exact_time(min_idle_ns)}"


def _size(size: SizeRange) -> str:
    if size.max_bytes is None:
        return f"of {exact_size(size.min_bytes)} or more" if size.min_bytes else ""
    return f"of {exact_size(size.min_bytes)} to {exact_size(size.max_bytes)}"


def _rate(rate: RateRange) -> str:
    if rate.max in {Rate(share=0.0), Rate(hz=0.0)}:
        return "that are not touched"
    bounds = [] if rate.min in {Rate(share=0.0), Rate(hz=0.0)} else [_often("at least", rate.min)]
    if rate.max is not None:
        bounds.append(_often("at most", rate.max))
    return f"that are touched {' and '.join(bounds)}" if bounds else ""


def _often(word: str, rate: Rate) -> str:
    if rate.hz is not None:
        return f"{word} {rate.hz:g} times a second"
    return f"in {word} {exact_rate(rate)} of sampling intervals"


def _age(age: AgeRange, scheme: Scheme) -> str:
    lower, upper = exact_time(age.min_ns), age.max_ns
    if upper is not None:
        return f"whose pattern has held for {lower} to {exact_time(upper)}"
    return f"whose pattern has held for {lower} or more" if age.min_ns and not scheme.acts else ""


def _interval(interval_ns: int | None) -> str:
    return "" if interval_ns is None else f"looking {_each(interval_ns)}"


def _quotas(scheme: Scheme) -> str:
    limits = [exact_size(scheme.limit_bytes)] if scheme.limit_bytes is not None else []
    if scheme.quotas.time_ns is not None:
        limits.append(f"{exact_time(scheme.quotas.time_ns)} of work")
    if not limits:
        return "without a limit" if scheme.acts else "changes nothing"
    return f"at most {' and '.join(limits)} {_each(scheme.quotas.reset_interval_ns)}"


def _each(interval_ns: int) -> str:
    return "each second" if interval_ns == 1_000_000_000 else f"each {exact_time(interval_ns)}"
