# SPDX-License-Identifier: GPL-2.0-only
"""A recording's worth of snapshots that every report draws."""

from __future__ import annotations

import pytest

from builders import BASE, MIB, SECOND, region, snapshot, touched_region

NAMES = ("/usr/bin/prog", "[anon: table]", "/usr/lib/libc.so.6", "[stack]")


@pytest.fixture(name="taken")
def _taken():
    """30 snapshots: 16 MiB of 64 hot, 16 warm now and then, a library, a stack that cannot be cleared."""
    taken = []
    for n in range(30):
        hot = [touched_region(BASE + i * 4 * MIB, 4 * MIB, mapping=1, since_ns=10 * SECOND) for i in range(4)]
        warm = [touched_region(BASE + 16 * MIB, 16 * MIB, 0.05 if n % 10 < 5 else 0, mapping=1)]
        new = [region(BASE + 32 * MIB, 32 * MIB, mapping=1, unknown_bytes=32 * MIB if n < 5 else 0)]
        rest = [touched_region(BASE + 1024 * MIB, 2 * MIB, 0.3, mapping=2),
                region(0x7FFC_0000_0000, 132 * 1024, mapping=3, unclearable_bytes=132 * 1024)]
        taken.append(snapshot(touched_region(0x5555_5555_4000, MIB, 0.1, mapping=0), *hot, *warm, *new, *rest,
                              mappings=NAMES, start_ns=10 * SECOND + n * SECOND // 10, dropped=n // 10 * (n % 10 == 9),
                              idle_bytes=(67 * MIB, 50 * MIB, 0, 0, 0)))
    return taken
