# SPDX-License-Identifier: GPL-2.0-only
"""What holds for all tests: the width of the terminal, and which kernel the live ones need.

PAGEPULSE_REQUIRE_KERNEL=1 turns a live test that would be skipped into one that fails.
"""

from __future__ import annotations

import functools
import os

import pytest
from hypothesis import settings

from pagepulse.errors import PagepulseError
from pagepulse.kernel.host import facts, require
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Reader

REQUIRE_KERNEL = "PAGEPULSE_REQUIRE_KERNEL"


def pytest_configure() -> None:
    os.environ["COLUMNS"] = "80"
    settings.register_profile("pagepulse", deadline=None)  # how long an example takes is the machine's business
    settings.load_profile("pagepulse")


@functools.cache
def missing_for_live_tests() -> str:
    """Why live tests cannot run here; empty where they can."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        require(facts())
        with Programs() as programs:
            Reader(programs)
    except PagepulseError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("live") is None:
        return
    reason = missing_for_live_tests()
    if reason and os.environ.get(REQUIRE_KERNEL) == "1":
        pytest.fail(f"{REQUIRE_KERNEL}=1, but this test cannot run here: {reason}", pytrace=False)
    if reason:
        pytest.skip(reason)
