# SPDX-License-Identifier: GPL-2.0-only
"""redis in a group that has less memory than it wants, watched and not, in rounds; left in RESULTS as JSON.

    python -m bench.inside.pressure ROUNDS SETTLE_S MEASURE_S SHARE
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from bench.inside.groups import born_in, group_of, read
from bench.programs.stores import VALUE_BYTES, Redis
from bench.watching import watched
from demo.swap import temporary_swap
from pagepulse.model.snapshot import Snapshot
from workload import major_faults

SWAP_BYTES = 1 << 30
WITHOUT, WITH = "without", "with"
OPTIONS: dict[str, tuple[str, ...] | None] = {WITHOUT: None, WITH: ()}
ROUNDS = "rounds.json"
_SETTLED_S = 10
"""After the limit came down."""


class LimitedRedis(Redis):
    """The server in a group of its own, the load outside."""

    keys, asked_for = 400_000, 400_000

    def __init__(self, group: Path) -> None:
        super().__init__()
        self._group = group

    def start(self) -> None:
        """Server inside, load outside."""
        address = self.place / "socket"
        with born_in(self._group):
            server = self.spawn("redis-server", "--port", "0", "--unixsocket", address, "--save", "", "--appendonly",
                                "no", "--enable-debug-command", "local")
        self.await_(address.exists, "its socket")
        self.load("load_store.py", "redis", address, str(self.keys), str(self.asked_for), str(VALUE_BYTES), seconds=300)
        self.pid = server.pid


def part(program: Redis, group: Path, side: str, settle_s: float, measure_s: float) -> dict[str, float]:
    """One part of a round."""
    options = OPTIONS[side]
    with tempfile.TemporaryDirectory() as place:
        with nullcontext() if options is None else watched(program.pid, Path(place), settle_s, *options) as watch:
            if watch is None:
                time.sleep(settle_s)
            faults, refaults = major_faults(program.pid), read(group, "workingset_refault_anon")
            reclaimed = read(group, "pgsteal")
            done = program.measure(measure_s)
            found = {"rate": done.rate, "faults": major_faults(program.pid) - faults,
                     "refaults": read(group, "workingset_refault_anon") - refaults,
                     "reclaimed": read(group, "pgsteal") - reclaimed, "seconds": measure_s, "p99_us": done.p99_us or 0}
        if watch is not None:
            cpu, tax = watch.shares()
            found |= {"cpu": cpu, "tax": tax, "snapshots": len(watch.snapshots)} | seen(watch.snapshots)
    return found


def seen(snapshots: list[Snapshot]) -> dict[str, float]:
    """In how many nothing was cleared, and means of what was known."""
    count = max(len(snapshots), 1)
    return {"spared": sum(one.spared for one in snapshots),
            "wss_bytes": sum(one.wss_bytes for one in snapshots) / count,
            "unknown_bytes": sum(one.unknown_bytes for one in snapshots) / count,
            "rss_bytes": sum(one.rss_bytes for one in snapshots) / count,
            "some_avg10": sum(one.pressure.some_avg10 for one in snapshots if one.pressure is not None) / count}


def main() -> int:
    """All rounds, each in an order drawn by lot."""
    rounds, settle_s, measure_s, share = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    found: dict[str, list[dict[str, float]]] = {side: [] for side in OPTIONS}
    with temporary_swap(SWAP_BYTES) as swap, group_of("limited") as group, LimitedRedis(group) as program:
        if swap.device is None:
            print(f"no swap: {swap.why}")
            return 1
        whole = int((group / "memory.current").read_text())
        (group / "memory.max").write_text(str(int(whole * share)))
        time.sleep(_SETTLED_S)
        for _ in range(rounds):
            for side in random.sample(list(OPTIONS), len(OPTIONS)):
                found[side].append(part(program, group, side, settle_s, measure_s))
                print(side, json.dumps(found[side][-1]), flush=True)
    facts = {"whole_bytes": whole, "mglru": Path("/sys/kernel/mm/lru_gen/enabled").read_text().strip(), **found}
    (Path(os.environ["RESULTS"]) / ROUNDS).write_text(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
