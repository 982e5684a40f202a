# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests that run inside a machine: those of the live tests, and swap."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.swap import temporary_swap
from live.conftest import _probes, _programs, _reader  # noqa: F401 - fixtures are found by import


@pytest.fixture(name="swap", scope="module")
def _swap() -> Iterator[None]:
    """Compressed swap in memory, gone afterwards: the live tests that follow have cases without swap."""
    with temporary_swap(1 << 30) as swap:
        assert swap.device is not None, swap.why
        yield
