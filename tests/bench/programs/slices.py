# SPDX-License-Identifier: GPL-2.0-only
"""What a load says of its work: a JSON line for each slice of time. Used by the loads and by those who read them."""

import json
import math
import time
from collections import Counter
from pathlib import Path

SLICE_NS = 50_000_000
_STEPS = 32
"""Steps of the latencies' histogram for each doubling: each 2.2 % wide."""


class Slices:
    """Counts operations, and their latencies if there are any, and writes a line for each slice."""

    def __init__(self, path):
        self._path = Path(path)
        self._start_ns = time.monotonic_ns()
        self._operations = 0
        self._latencies = Counter()

    def did(self, operations, begun_ns=None):
        """So many operations are done; a request that began at `begun_ns` is answered."""
        now_ns = time.monotonic_ns()
        self._operations += operations
        if begun_ns is not None:
            self._latencies[math.floor(math.log2(max(1, now_ns - begun_ns)) * _STEPS)] += 1
        if now_ns - self._start_ns >= SLICE_NS:
            said = {"start_ns": self._start_ns, "end_ns": now_ns, "operations": self._operations,
                    "latencies": self._latencies}
            with self._path.open("a") as file:
                file.write(json.dumps(said) + "\n")
            self._start_ns, self._operations, self._latencies = now_ns, 0, Counter()


def percentile_us(slices, share):
    """The latency that this share of all requests does not exceed, in microseconds, to 2.2 %; None without requests."""
    total = Counter()
    for part in slices:
        total.update({int(step): count for step, count in part["latencies"].items()})
    left = math.ceil(share * sum(total.values()))
    for step in sorted(total):
        left -= total[step]
        if left <= 0:
            return 2 ** ((step + 1) / _STEPS) / 1000
    return None
