# SPDX-License-Identifier: GPL-2.0-only
"""Debian's Prometheus and a daemon: rules and alerts are sound, it scrapes, and the sums come out.

    python -m fleet.prometheus

Needs root, for the daemon, and the package `prometheus`. Everything listens on this machine alone.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from live.daemon import Daemon
from live.machine import wait_until
from workload import ROOT, Workload

RULES = ROOT / "packaging" / "prometheus"
PATIENCE_S = 90
_CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/pagepulse.recording.yml", "{rules}/pagepulse.alerts.yml"]
scrape_configs:
  - job_name: pagepulse
    static_configs: [{{targets: ["{target}"]}}]
"""


def main() -> int:
    """Check the rules, then scrape a daemon; what is wrong ends it with a message."""
    rules = [str(RULES / f"pagepulse.{kind}.yml") for kind in ("recording", "alerts")]
    subprocess.run(["promtool", "check", "rules", *rules], check=True)
    subprocess.run(["promtool", "test", "rules", str(RULES / "pagepulse.tests.yml")], check=True)
    place = Path(tempfile.mkdtemp(prefix="pagepulse-prometheus-"))
    try:
        _scrape(place)
    finally:
        shutil.rmtree(place)
    print("Prometheus scrapes the daemon, and its rules add up what it told")
    return 0


def _scrape(place: Path) -> None:
    daemon_port, own_port = _free_port(), _free_port()
    targets = '[targets.pulse]\nexe = "*/pulse"\nuser = "root"\n'
    with (Workload("pulse", "--size", "64MiB") as pulse,
          Daemon(place / "daemon", targets, f"127.0.0.1:{daemon_port}") as daemon):
        daemon.start()
        with _prometheus(place, daemon_port, own_port):
            resident, = _values(own_port, "pagepulse_resident_memory_bytes")
            assert resident >= 64 << 20, f"{resident} bytes of process {pulse.pid}"
            _values(own_port, "pagepulse_working_set_bytes > 0")
            total, = _values(own_port, "fleet:pagepulse_resident_memory_bytes:sum")
            assert total >= 64 << 20
            _values(own_port, 'up{job="pagepulse"} == 1')
            unsound = [rule["name"] for group in _ask(own_port, "rules")["groups"] for rule in group["rules"]
                       if rule["health"] == "err"]
            assert not unsound, unsound
        assert daemon.end() == 0


@contextmanager
def _prometheus(place: Path, daemon_port: int, own_port: int) -> Iterator[None]:
    config = place / "prometheus.yml"
    config.write_text(_CONFIG.format(rules=RULES, target=f"127.0.0.1:{daemon_port}"))
    line = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={place / 'data'}",
            f"--web.listen-address=127.0.0.1:{own_port}", "--log.level=warn"]
    with subprocess.Popen(line) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def _values(port: int, query: str) -> list[float]:
    """Of the series that a query finds, as soon as there are any."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        with suppress(urllib.error.URLError, ConnectionError):
            found[:] = _ask(port, "query", query=query)["result"]
        return bool(found)

    if not wait_until(is_there, PATIENCE_S):
        raise SystemExit(f"Prometheus knows no {query} after {PATIENCE_S} s")
    return [float(one["value"][1]) for one in found]


def _ask(port: int, what: str, **options: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{what}?{urllib.parse.urlencode(options)}",
                                timeout=10) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


if __name__ == "__main__":
    sys.exit(main())
