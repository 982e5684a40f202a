# SPDX-License-Identifier: GPL-2.0-only
"""Metrics: a daemon's status as families of samples, named after the conventions of Prometheus.

How many series there are is bounded by the configuration: targets, their schemes, six guards each, and of the processes
those names that hold most, the rest together as `other`. No process id is a label: ids come and go for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from pagepulse.service.status import ProcessStatus, SchemeStatus, Status, TargetStatus

NAMES = 20
"""Of processes, in each target: those that hold most memory have series of their own."""
OTHER = "other"
"""The name that stands for all other processes of a target."""
_STATES = ("watching", "waiting", "paused", "failed")
_STANCES = ("limits", "stops")

Samples = Iterable[tuple[Sequence[str], float]]


class StatusCollector(Collector):
    """Families of samples of a daemon's newest status, made when they are asked for.

    Args:
        newest: Returns it; may be called in any thread.
    """

    def __init__(self, newest: Callable[[], Status]) -> None:
        self._newest = newest

    def collect(self) -> Iterator[Metric]:
        """All families."""
        status = self._newest()
        yield from _of_the_daemon(status)
        yield from _of_targets(status.targets)
        yield from _of_processes(status.targets)
        yield from _of_schemes([(target.name, scheme) for target in status.targets for scheme in target.schemes])

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would otherwise collect once to see what there is, before there is a daemon."""
        return iter(())


def _of_the_daemon(status: Status) -> Iterator[Metric]:
    yield InfoMetricFamily("pagepulse_build", "The daemon.", {"version": status.version})
    yield _one_gauge("pagepulse_uptime_seconds", "Since the daemon began to watch.", status.uptime_ns / 1e9)
    yield _one_gauge("pagepulse_daemon_resident_memory_bytes", "Of the daemon itself.", status.rss_bytes)
    yield _one_counter("pagepulse_daemon_cpu_seconds", "CPU time of the daemon, its actions included.",
                       status.cpu_ns / 1e9)
    yield _one_gauge("pagepulse_paused", "1: it was told to rest.", status.paused)
    reload = status.reload
    yield _one_gauge("pagepulse_config_last_reload_successful", "0: what the directory says now was refused.",
                     not reload.error)
    yield _one_gauge("pagepulse_config_age_seconds", "Since the configuration in force was read.",
                     (status.at_ns - reload.loaded_ns) / 1e9)
    yield _one_counter("pagepulse_config_reload_failures", "Configurations that were refused.", reload.failures)


def _of_targets(targets: Sequence[TargetStatus]) -> Iterator[Metric]:
    def gauge(name: str, about: str, value: Callable[[TargetStatus], float]) -> Metric:
        return _gauge(name, about, ("target",), [((one.name,), value(one)) for one in targets])

    def counter(name: str, about: str, value: Callable[[TargetStatus], float]) -> Metric:
        return _counter(name, about, ("target",), [((one.name,), value(one)) for one in targets])

    yield _gauge("pagepulse_target_state", "1: the target is in this state.", ("target", "state"),
                 [((one.name, state), one.state == state) for one in targets for state in _STATES])
    yield gauge("pagepulse_processes", "Watched processes.", lambda one: len(one.processes))
    yield gauge("pagepulse_processes_waiting", "Processes too young or too small to be watched, or still to be known.",
                lambda one: one.waiting_processes)
    yield gauge("pagepulse_processes_refused", "Processes that cannot be watched.", lambda one: len(one.refused))
    yield gauge("pagepulse_resident_memory_bytes", "Of the watched processes; what several map of one file, once.",
                lambda one: one.rss_bytes)
    yield gauge("pagepulse_working_set_bytes", "Touched within an aggregation interval.",
                lambda one: one.working_set_bytes)
    yield gauge("pagepulse_swap_bytes", "Swapped out of the watched processes.", lambda one: one.swap_bytes)
    yield _gauge("pagepulse_idle_bytes", "Not touched for at least so many seconds; 0: all that is known.",
                 ("target", "at_least_seconds"),
                 [((one.name, f"{idle.at_least_s:g}"), idle.size_bytes) for one in targets for idle in one.idle])
    yield gauge("pagepulse_unknown_bytes", "Resident, never yet seen untouched: neither hot nor cold.",
                lambda one: one.unknown_bytes)
    yield gauge("pagepulse_unclearable_bytes", "Resident, and the kernel does not clear its accessed bits.",
                lambda one: one.unclearable_bytes)
    yield counter("pagepulse_snapshots", "Aggregation intervals that were finished.", lambda one: one.snapshots)
    yield counter("pagepulse_lost_samples", "Reads that failed or were overtaken, and what the probes could not keep.",
                  lambda one: one.lost_samples)
    yield counter("pagepulse_evicted_bytes", "Given back: paged out by our schemes, and seen to be gone.",
                  lambda one: one.evictions.evicted_bytes)
    yield counter("pagepulse_refaulted_bytes", "Of these: touched again, and brought back.",
                  lambda one: one.evictions.returned_bytes)
    yield counter("pagepulse_monitoring_cpu_seconds", "CPU time that watching took.", lambda one: one.cpu_ns / 1e9)
    yield counter("pagepulse_monitoring_tax_seconds", "CPU time that the watched processes paid for being watched.",
                  lambda one: one.tax_ns / 1e9)
    yield gauge("pagepulse_budget_ratio", "What watching may cost, as a share of one CPU.",
                lambda one: one.budget_share)
    yield from _of_hosts_and_files(targets)


def _of_hosts_and_files(targets: Sequence[TargetStatus]) -> Iterator[Metric]:
    yield _gauge("pagepulse_memory_pressure_ratio", "Share of 10 s in which some, or all, waited for memory.",
                 ("target", "who"), [((one.name, who), share) for one in targets if one.pressure is not None
                                     for who, share in (("some", one.pressure.some_avg10),
                                                        ("full", one.pressure.full_avg10))])
    kept = [(one.name, one.recording) for one in targets if one.recording is not None]
    yield _gauge("pagepulse_recording_bytes", "Size of the recording.", ("target",),
                 [((name,), recording.size_bytes) for name, recording in kept])
    yield _gauge("pagepulse_recording_failed", "1: nothing is recorded, or no new file is begun.", ("target",),
                 [((name,), bool(recording.error)) for name, recording in kept])
    yield _counter("pagepulse_recording_lost_snapshots", "Snapshots that could not be written.", ("target",),
                   [((name,), recording.lost_snapshots) for name, recording in kept])


def _of_processes(targets: Sequence[TargetStatus]) -> Iterator[Metric]:
    """By name: what several processes of one name have is added up."""
    groups = [((target.name, name), members) for target in targets
              for name, members in by_name(target.processes, NAMES)]
    labels = ("target", "name")
    yield _gauge("pagepulse_process_count", "Processes of this name.", labels,
                 [(key, len(members)) for key, members in groups])
    yield _gauge("pagepulse_process_resident_memory_bytes", "Of processes of this name.", labels,
                 [(key, sum(one.rss_bytes for one in members)) for key, members in groups])
    yield _gauge("pagepulse_process_working_set_bytes", "Of processes of this name.", labels,
                 [(key, sum(one.working_set_bytes for one in members)) for key, members in groups])


def by_name(processes: Sequence[ProcessStatus], most: int) -> list[tuple[str, list[ProcessStatus]]]:
    """Processes by their names: those that hold most memory, at most so many, and the others as `OTHER`."""
    groups: dict[str, list[ProcessStatus]] = {}
    for process in processes:
        groups.setdefault(process.name, []).append(process)
    largest = sorted(groups.items(), key=lambda item: (-sum(one.rss_bytes for one in item[1]), item[0]))
    others = [process for _, members in largest[most:] for process in members]
    shown = largest[:most]
    if not others:
        return shown
    return [(name, members) for name, members in shown if name != OTHER] + [
        (OTHER, others + [process for name, members in shown if name == OTHER for process in members])]


def _of_schemes(schemes: Sequence[tuple[str, SchemeStatus]]) -> Iterator[Metric]:
    labels = ("target", "scheme", "action")

    def counter(name: str, about: str, value: Callable[[SchemeStatus], float]) -> Metric:
        return _counter(name, about, labels, [((t, one.name, one.action), value(one)) for t, one in schemes])

    yield counter("pagepulse_scheme_tried_bytes", "Bytes that the scheme acted on.", lambda one: one.tried_bytes)
    yield counter("pagepulse_scheme_applied_bytes", "Of these: seen to have changed.", lambda one: one.applied_bytes)
    yield counter("pagepulse_scheme_calls", "System calls that it made.", lambda one: one.calls)
    yield counter("pagepulse_scheme_refused_calls", "Of these: refused by the kernel.", lambda one: one.refused_calls)
    yield _counter("pagepulse_scheme_not_applied_bytes", "Bytes on which it had no effect.", (*labels, "reason"),
                   [((t, one.name, one.action, reason), size) for t, one in schemes
                    for reason, size in one.not_applied_bytes.items()])
    yield _gauge("pagepulse_scheme_waiting", "1: it does nothing now, because of watermarks, goals or guards.", labels,
                 [((t, one.name, one.action), bool(one.waits_for)) for t, one in schemes])
    guards = [((t, one.name, guard.guard), guard) for t, one in schemes for guard in one.guards]
    yield _gauge("pagepulse_guard_active", "1: the guard limits, or stops, its scheme now.",
                 ("target", "scheme", "guard", "stance"),
                 [((*key, stance), guard.stance == stance) for key, guard in guards for stance in _STANCES])
    yield _gauge("pagepulse_guard_limit_bytes", "What it lets go until it looks again.", ("target", "scheme", "guard"),
                 [(key, guard.limit_bytes) for key, guard in guards if guard.limit_bytes is not None])


def _gauge(name: str, about: str, labels: Sequence[str], samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, about, labels=labels), samples)


def _counter(name: str, about: str, labels: Sequence[str], samples: Samples) -> Metric:
    """Its samples get the suffix `_total`."""
    return _filled(CounterMetricFamily(name, about, labels=labels), samples)


def _filled(family: Any, samples: Samples) -> Metric:
    for values, value in samples:
        family.add_metric(values, float(value))
    filled: Metric = family
    return filled


def _one_gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=float(value))


def _one_counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, about, value=float(value))
