# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests that run inside a machine: those of the live tests, and swap."""

from __future__ import annotations

import subprocess

import pytest

from live.conftest import _probes, _programs, _reader  # noqa: F401 - fixtures are found by import


@pytest.fixture(name="swap", scope="session")
def _swap() -> None:
    """Compressed swap in memory. The machine ends with the tests: nothing is undone."""
    subprocess.run(["modprobe", "zram"], check=True)
    subprocess.run(["sh", "-c", "echo 1G > /sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0"],
                   check=True, stdout=subprocess.DEVNULL)
