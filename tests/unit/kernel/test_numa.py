# SPDX-License-Identifier: GPL-2.0-only
"""Which NUMA nodes there are, as the kernel writes them."""

from __future__ import annotations

import pytest

from pagepulse.kernel.numa import nodes_with_memory


@pytest.mark.parametrize(("text", "nodes"), [("0\n", (0,)), ("0-1\n", (0, 1)), ("0,2-4,7\n", (0, 2, 3, 4, 7)),
                                             ("\n", ())])
def test_nodes_are_numbers_and_ranges(tmp_path, text, nodes):
    (tmp_path / "has_memory").write_text(text)
    assert nodes_with_memory(tmp_path / "has_memory") == nodes


def test_a_kernel_without_numa_has_none(tmp_path):
    assert nodes_with_memory(tmp_path / "has_memory") == ()
