# SPDX-License-Identifier: GPL-2.0-only
"""Servers that keep data in memory, and databases."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import ClassVar

from bench.programs.program import Measured, Program, ProgramError, Service

VALUE_BYTES = 400


class Redis(Service):
    """Keys by Zipf's law, all of them."""

    name = "redis"
    about = "redis-server, 1 million keys of 400 bytes, all asked for by Zipf's law, one write to nine reads"
    keys, asked_for = 1_000_000, 1_000_000
    pause_s = 0.0
    """Between batches of 16 requests."""

    def start(self) -> None:
        """Server, then load."""
        address = self.place / "socket"
        server = self.spawn("redis-server", "--port", "0", "--unixsocket", address, "--save", "", "--appendonly", "no",
                            "--enable-debug-command", "local")
        self.await_(address.exists, "its socket")
        self.load("load_store.py", "redis", address, str(self.keys), str(self.asked_for), str(VALUE_BYTES),
                  str(self.pause_s))
        self.pid = server.pid


class RedisIdle(Redis):
    """The same, mostly idle."""

    name = "redis-idle"
    about = "the same, with 1 key in 50 asked for"
    asked_for = 20_000


class RedisQuiet(RedisIdle):
    """The same, as servers are most of the time."""

    name = "redis-quiet"
    about = "the same, with 400 requests a second"
    pause_s = 0.04


class Memcached(Service):
    """Keys by Zipf's law."""

    name = "memcached"
    about = "memcached, one thread, 1 million keys of 400 bytes, asked for by Zipf's law, one write to nine reads"

    def start(self) -> None:
        """Server, then load."""
        address = self.place / "socket"
        server = self.spawn("memcached", "-s", address, "-m", "1024", "-t", "1")
        self.await_(address.exists, "its socket")
        self.load("load_store.py", "memcached", address, "1000000", "1000000", str(VALUE_BYTES))
        self.pid = server.pid


class Sqlite(Service):
    """SQLite is a library: the load is the program."""

    name = "sqlite"
    about = "sqlite through Debian's Python, 500 000 rows of 400 bytes in its cache, read by Zipf's law, some written"

    def start(self) -> None:
        """The load."""
        self.pid = self.load("load_sqlite.py", "500000", str(VALUE_BYTES)).pid


class Postgres(Program):
    """PostgreSQL, of which the one server process is watched that serves the load's connection."""

    name = "postgres"
    about = "postgres, pgbench -S on 3 million accounts, one connection, whose server process is watched"
    user: ClassVar[str] = "postgres"
    _SCALE = 30
    _WARM_UP_S = 8

    def start(self) -> None:
        """Cluster, server, data, load."""
        binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        data = self.place / "data"
        self._run(binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
        server = self.spawn(binaries / "postgres", "-D", data, "-k", self.place, "-h", "", "-F", "-c",
                            "shared_buffers=640MB", end_signal="QUIT")
        self.await_(lambda: any(self.place.glob(".s.PGSQL.*")), "its socket")
        self.await_(self._answers, "an answer")
        self._run("pgbench", "-h", self.place, "-i", "-q", "-s", str(self._SCALE), "postgres")
        self._run("psql", "-h", self.place, "-c", "create extension pg_prewarm", "-c",
                  "select pg_prewarm('pgbench_accounts'), pg_prewarm('pgbench_accounts_pkey')", "postgres")
        self.spawn("pgbench", "-h", self.place, "-S", "-M", "prepared", "-n", "-c", "1", "-T", "7200", "-l",
                   "--sampling-rate", "0.02", "--log-prefix", "transactions", "postgres")
        self.await_(lambda: any(part.stat().st_size for part in self.place.glob("transactions.*")), "transactions")
        self.pid = self._backend(server.pid)
        time.sleep(self._WARM_UP_S)

    def measure(self, seconds: float) -> Measured:
        """From pgbench's log: each line has the number of a transaction, its latency, and when it ended."""
        begun_us, busy_before_ns = time.time_ns() // 1000, self.busy_ns()
        time.sleep(seconds)
        ended_us, busy_ns = time.time_ns() // 1000, self.busy_ns() - busy_before_ns
        self.await_(lambda: self._log(ended_us, ended_us + 10_000_000), "the rest of the log", 10)
        inside = self._log(begun_us, ended_us)
        (first_us, first, _), (last_us, last, _) = inside[0], inside[-1]
        slowest = sorted(latency_us for _, _, latency_us in inside)
        rate = (last - first) * 1e6 / (last_us - first_us)
        return Measured(rate, rate * (ended_us - begun_us) * 1000 / busy_ns, float(slowest[int(len(slowest) * 0.99)]))

    def _log(self, begun_us: int, ended_us: int) -> list[tuple[int, int, int]]:
        """Time, number and latency of the logged transactions between both times."""
        path = next(self.place.glob("transactions.*"))
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - (1 << 20)))
            lines = log.read().decode().splitlines()[1:-1]  # what may be cut off
        fields = ([int(field) for field in line.split()[:6]] for line in lines)
        parsed = [(epoch_s * 1_000_000 + us, number, latency_us) for _, number, latency_us, _, epoch_s, us in fields]
        return [entry for entry in parsed if begun_us <= entry[0] <= ended_us]

    def _answers(self) -> bool:
        return not self._call("psql", "-h", self.place, "-c", "select 1", "postgres").returncode

    def _run(self, *command: str | Path) -> None:
        done = self._call(*command)
        if done.returncode:
            raise ProgramError(f"{Path(command[0]).name}: {done.stderr.strip()[-600:]}")

    def _call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, user=self.user, group=self.user, extra_groups=[], cwd=self.place, check=False,
                              capture_output=True, text=True)

    def _backend(self, server_pid: int) -> int:
        """The process that serves the load, 0 while there is none."""
        children = Path(f"/proc/{server_pid}/task/{server_pid}/children").read_text().split()
        return next((int(child) for child in children
                     if b"[local]" in Path(f"/proc/{child}/cmdline").read_bytes()), 0)
