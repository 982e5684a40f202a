# SPDX-License-Identifier: GPL-2.0-only
"""Metrics: what a status becomes for Prometheus; and whoever asks for them in a bad way harms nobody."""

import socket
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from builders import MIB
from pagepulse.errors import PagepulseError
from pagepulse.model.system import Evictions
from pagepulse.policy.guards import Verdict
from pagepulse.policy.result import SchemeResult
from pagepulse.service.exporter import Exporter
from pagepulse.service.metrics import NAMES, OTHER, StatusCollector, by_name
from pagepulse.service.status import scheme_status
from unit.service.test_status import process, status, target

SCHEME = scheme_status(SchemeResult("idle", "pageout", 10 * MIB, 9 * MIB, 4, 1, {"no swap space": MIB}),
                       [Verdict("refault", "limits", 4096, "some came back"), Verdict("psi", "open")], "")


def told(newest) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Series -> value, through the text that goes over the wire."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(lambda: newest))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families for sample in family.samples}


def value(series, name: str, /, **labels: str) -> float:
    return series[name, tuple(sorted(labels.items()))]


def test_a_status_becomes_openmetrics():
    series = told(status(target(process(1), process(2), schemes=(SCHEME,), evictions=Evictions(5 * MIB, MIB))))
    assert value(series, "pagepulse_working_set_bytes", target="redis") == 4 * MIB
    assert value(series, "pagepulse_idle_bytes", target="redis", at_least_seconds="10") == 10 * MIB
    assert value(series, "pagepulse_evicted_bytes_total", target="redis") == 5 * MIB
    assert value(series, "pagepulse_refaulted_bytes_total", target="redis") == MIB
    assert value(series, "pagepulse_daemon_cpu_seconds_total") == 2
    assert value(series, "pagepulse_build_info", version="1.0") == 1
    scheme = {"target": "redis", "scheme": "idle", "action": "pageout"}
    assert value(series, "pagepulse_scheme_applied_bytes_total", **scheme) == 9 * MIB
    assert value(series, "pagepulse_scheme_not_applied_bytes_total", **scheme, reason="no swap space") == MIB
    guard = {"target": "redis", "scheme": "idle", "guard": "refault"}
    assert value(series, "pagepulse_guard_active", **guard, stance="limits") == 1
    assert value(series, "pagepulse_guard_active", **guard, stance="stops") == 0
    assert value(series, "pagepulse_guard_limit_bytes", **guard) == 4096


@pytest.mark.parametrize("state", ["watching", "waiting", "paused", "failed"])
def test_a_target_is_in_one_state(state):
    series = told(status(target(state=state)))
    assert {labels: one for (name, labels), one in series.items() if name == "pagepulse_target_state" and one} == {
        (("state", state), ("target", "redis")): 1}


def test_a_refused_configuration_is_told():
    refused = replace(status(), reload=replace(status().reload, error="expected a number", failures=2))
    series = told(refused)
    assert value(series, "pagepulse_config_last_reload_successful") == 0
    assert value(series, "pagepulse_config_reload_failures_total") == 2


def test_a_daemon_without_targets_tells_of_itself():
    assert value(told(status()), "pagepulse_paused") == 0


# --- how many series -------------------------------------------------------------------------------------------------

@given(st.lists(st.tuples(st.sampled_from([OTHER, *(f"program-{n}" for n in range(40))]), st.integers(0, 1000)),
                max_size=120))
def test_names_are_bounded_and_nothing_is_lost(programs):
    processes = [replace(process(number), name=name, rss_bytes=size) for number, (name, size) in enumerate(programs)]
    groups = by_name(processes, NAMES)
    names = [name for name, _ in groups]
    assert len(names) == len(set(names)) <= NAMES + 1
    assert sorted(one.pid for _, members in groups for one in members) == list(range(len(processes)))
    smallest = min((sum(one.rss_bytes for one in members) for name, members in groups if name != OTHER), default=0)
    own = {name for name in names if name != OTHER}
    assert all(one.rss_bytes <= smallest for one in processes if one.name not in own and one.name != OTHER)


def test_no_process_id_is_a_label():
    series = told(status(target(*(process(pid) for pid in range(300)))))
    assert not {label for _, labels in series for label, _ in labels} & {"pid"}
    assert value(series, "pagepulse_process_count", target="redis", name="redis") == 300


# --- over HTTP -------------------------------------------------------------------------------------------------------

@pytest.fixture(name="exporter")
def _exporter():
    exporter = Exporter("127.0.0.1:0", lambda: status(target(process(1))))
    exporter.start()
    yield exporter
    exporter.close()


def get(exporter, path="/metrics", method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{exporter.port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_metrics_are_told_over_http(exporter):
    assert 'pagepulse_working_set_bytes{target="redis"} 2.097152e+06' in get(exporter)


@pytest.mark.parametrize(("path", "method", "code"), [("/etc/passwd", "GET", 404), ("/metrics", "POST", 405),
                                                      ("/metrics", "DELETE", 405)])
def test_nothing_else_is_told(exporter, path, method, code):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(exporter, path, method)
    refused.value.close()
    assert refused.value.code == code


def test_who_says_nothing_keeps_nobody_waiting(exporter):
    silent = [socket.create_connection(("127.0.0.1", exporter.port), timeout=10) for _ in range(4)]
    try:
        assert "pagepulse_uptime_seconds" in get(exporter)
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize("rubbish", [b"\0" * 100, b"GET /metrics", b"G" * 70000 + b"\r\n\r\n", b"\r\n\r\n"])
def test_rubbish_and_hanging_up_harm_nobody(exporter, rubbish):
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as peer:
        peer.sendall(rubbish)
    assert "pagepulse_uptime_seconds" in get(exporter)


def test_a_port_in_use_is_refused(exporter):
    with pytest.raises(PagepulseError, match="metrics cannot be told") as refused:
        Exporter(f"127.0.0.1:{exporter.port}", status)
    assert "in use" in refused.value.why


def test_an_address_that_is_not_ours_is_refused():
    with pytest.raises(PagepulseError, match=r"cannot be told at 203\.0\.113\.1:9753"):
        Exporter("203.0.113.1:9753", status)


def test_ipv6_is_an_address_too():
    exporter = Exporter("[::1]:0", status)
    exporter.close()
