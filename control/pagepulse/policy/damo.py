# SPDX-License-Identifier: GPL-2.0-only
"""The documents of damo, DAMON's own tool (`damo args damon --format json`): their shape, and what of it is refused.

The keys are those of damo 2.0 to 3.4. What has no meaning here is refused by name where leaving it out would change
what is done to memory; where it would not, `damo_translate` notes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from pagepulse.policy.damo_values import Counted, accesses, age, boolean, number, permil, size, time_in
from pagepulse.policy.fields import ActionName, Misplaced, SchemeName, at_least, did_you_mean, exact_time, found, node
from pagepulse.policy.objects import SchemeObject

_METRICS = {
    "user_input": "write a scheme of pagepulse with a goal whose metric is file or socket, which reads the value",
    **dict.fromkeys(("node_mem_used_bp", "node_mem_free_bp", "node_memcg_used_bp", "node_memcg_free_bp",
                     "node_eligible_mem_bp"), "memory is not measured by NUMA node here"),
    **dict.fromkeys(("active_mem_bp", "inactive_mem_bp"), "the kernel's lists are not asked here"),
}
_FILTERS = {
    "active": "the kernel's lists are not asked here",
    "unmapped": "only mapped memory is monitored here",
    "target": "schemes are for all targets here",
    "probe_hits_wsum": "there are no probes of DAMON's here",
}
_KNOWN_FILTERS = {"anon": "anon", "young": "young", "memcg": "cgroup", "addr": "address",
                  "hugepage_size": "hugepage_size"}


def _none_of(reason: str) -> BeforeValidator:
    """Accepts what says nothing: null, false, 0, and what is empty."""
    def check(value: object) -> None:
        if value and value != "0":
            raise ValueError(f"expected none, got {found(value)}; {reason}")
    return BeforeValidator(check)


def _one_of(known: dict[str, str], without_meaning: dict[str, str], what: str) -> BeforeValidator:
    """Accepts the keys of `known`, as their values; refuses those of `without_meaning` by their reasons."""
    def check(value: object) -> str:
        if isinstance(value, str) and value in known:
            return known[value]
        if isinstance(value, str) and value in without_meaning:
            raise ValueError(f"expected {what} that has a meaning here, got {value!r}; {without_meaning[value]}")
        hint = did_you_mean(value, known) if isinstance(value, str) else f"known: {', '.join(known)}"
        raise ValueError(f"expected {what}, got {found(value)}; {hint}")
    return BeforeValidator(check)


def _or_null(parse: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else parse(value))


Us = Annotated[int, BeforeValidator(time_in("us"))]
Ms = Annotated[int, BeforeValidator(time_in("ms"))]
SomeTime = Annotated[int, BeforeValidator(at_least(1, "1 ns", time_in("us")))]
Bytes = Annotated[int, BeforeValidator(size)]
Number = Annotated[float, BeforeValidator(number)]
Permil = Annotated[float, BeforeValidator(permil)]
Flag = Annotated[bool, BeforeValidator(boolean)]
Accesses = Annotated[float | Counted, BeforeValidator(accesses)]
Age = Annotated[int | Counted, BeforeValidator(age)]


class Sizes(SchemeObject):
    """access_pattern.sz_bytes, in bytes."""

    min: Bytes
    max: Bytes


class Rates(SchemeObject):
    """access_pattern.nr_accesses."""

    min: Accesses
    max: Accesses


class Ages(SchemeObject):
    """access_pattern.age, in nanoseconds."""

    min: Age
    max: Age


class Pattern(SchemeObject):
    """access_pattern."""

    sz_bytes: Sizes
    nr_accesses: Rates
    age: Ages


class Weights(SchemeObject):
    """quotas.weights."""

    sz_permil: Permil
    nr_accesses_permil: Permil
    age_permil: Permil


class Goal(SchemeObject):
    """quotas.goals[]."""

    metric: Annotated[str, _one_of({"some_mem_psi_us": "psi_some"}, _METRICS, "a goal's metric")]
    complement: Annotated[None, _none_of("goals are not turned round here")] = None
    target_value: Us
    current_value: object = None
    nid: object = None
    memcg_path: object = None


class Quotas(SchemeObject):
    """quotas."""

    time_ms: Ms = 0
    sz_bytes: Bytes = 0
    reset_interval_ms: Ms = 0
    weights: Weights | None = None
    goals: Annotated[tuple[Goal, ...], Field(strict=False)] = ()
    goal_tuner: Annotated[str, _one_of({"consist": "consist", "temporal": "temporal"}, {}, "a goal tuner")] = "consist"
    effective_sz_bytes: object = None
    fail_charge_num: Annotated[None, _none_of("what is tried is charged here, whether it had an effect or not")] = None
    fail_charge_denom: object = None


class Watermarks(SchemeObject):
    """watermarks."""

    metric: Annotated[str, _one_of({"none": "none", "free_mem_rate": "free_memory"}, {}, "a watermark's metric")]
    interval_us: Us
    high_permil: Permil
    mid_permil: Permil
    low_permil: Permil


class Span(SchemeObject):
    """filters[].address_range, in bytes."""

    start: Bytes
    end: Bytes


class DamosFilter(SchemeObject):
    """filters[]. Older versions have no `allow`, or call it `filter_pass`."""

    filter_type: Annotated[str, _one_of(_KNOWN_FILTERS, _FILTERS, "a filter's type")]
    matching: Flag
    allow: Flag = Field(default=False, validation_alias=AliasChoices("allow", "filter_pass"))
    memcg_path: str | None = None
    address_range: Span | None = None
    hugepage_size: Annotated[tuple[Bytes, Bytes] | None, Field(strict=False)] = None
    damon_target_idx: object = None
    probe_hits_wsum_range: object = None


class Destination(SchemeObject):
    """dests[]: where to migrate to."""

    id: Annotated[int, BeforeValidator(lambda value: node(round(number(value))))]
    weight: Number


class DamosScheme(SchemeObject):
    """A scheme. Older files give it a name; what it came to, in stats and the like, is left alone."""

    name: SchemeName | None = None
    action: ActionName = "stat"
    target_nid: Annotated[int | None, _or_null(lambda value: node(round(number(value))))] = None
    dests: Annotated[tuple[Destination, ...], Field(strict=False)] = ()
    access_pattern: Pattern | None = None
    apply_interval_us: Annotated[int | None, _or_null(time_in("us"))] = None
    quotas: Quotas = Quotas()
    watermarks: Watermarks | None = None
    filters: Annotated[tuple[DamosFilter, ...], Field(strict=False)] = ()
    stats: object = None
    max_nr_snapshots: Annotated[None, _none_of("a scheme ends with the run here")] = None
    tried_regions: object = None
    tried_bytes: object = None


class Intervals(SchemeObject):
    """intervals, in nanoseconds."""

    sample_us: SomeTime
    aggr_us: SomeTime
    ops_update_us: object = None
    intervals_goal: object = None

    @model_validator(mode="after")
    def _samples_within_aggregation(self) -> Self:
        if self.sample_us > self.aggr_us:
            raise Misplaced("sample_us", f"expected at most aggr_us, {exact_time(self.aggr_us)}, got "
                                         f"{exact_time(self.sample_us)}")
        return self


class Primitives(SchemeObject):
    """sample_control.primitives_enabled."""

    page_table: object = None
    page_fault: Annotated[None, _none_of("accessed bits are read here, and nothing else")] = None


class SampleControl(SchemeObject):
    """sample_control."""

    primitives_enabled: Primitives = Primitives()
    sample_filters: Annotated[None, _none_of("accesses of all threads and kinds are seen here")] = None


class DamonRegion(Span):
    """targets[].regions[], in bytes."""

    nr_accesses: object = None
    age: object = None


class DamonTarget(SchemeObject):
    """targets[]."""

    pid: object = None
    obsolete: object = None
    regions: Annotated[tuple[DamonRegion, ...], Field(strict=False)] = ()


class Context(SchemeObject):
    """contexts[]."""

    ops: Annotated[str, _one_of({"vaddr": "vaddr", "fvaddr": "fvaddr"},
                                {"paddr": "only the memory of programs is monitored here: use vaddr"}, "operations")]
    addr_unit: object = None
    targets: Annotated[tuple[DamonTarget, ...], Field(strict=False)] = ()
    intervals: Intervals = Intervals.model_validate({"sample_us": "5 ms", "aggr_us": "100 ms"})
    nr_regions: object = None
    ops_attrs: object = None
    probes: Annotated[None, _none_of("there are no probes of DAMON's here")] = None
    sample_control: SampleControl | None = None
    pause: Annotated[None, _none_of("nothing is monitored while it pauses")] = None
    schemes: Annotated[tuple[DamosScheme, ...], Field(strict=False)] = ()


class Kdamond(SchemeObject):
    """kdamonds[]."""

    state: object = None
    pid: object = None
    refresh_ms: object = None
    contexts: Annotated[tuple[Context, ...], Field(strict=False)]


class DamoDocument(SchemeObject):
    """A document of damo."""

    kdamonds: Annotated[tuple[Kdamond, ...], Field(strict=False)]
