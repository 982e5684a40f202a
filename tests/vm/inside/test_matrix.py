# SPDX-License-Identifier: GPL-2.0-only
"""What this kernel offers: one row of the README's table, recorded; and that nothing of it is missing on Debian's."""

import numpy as np
import pytest

from pagepulse.cli.doctor import matrix_row
from pagepulse.kernel.host import facts
from pagepulse.kernel.probes import CLEARING_FUNCTIONS

pytestmark = pytest.mark.live


@pytest.mark.parametrize("kind", ["u4", "u8", "i8", "f8"])
def test_the_processor_sorts(kind):
    """An emulated one did not always: what a machine says of the engine would say nothing."""
    for count in (8, 16, 32, 64, 256, 1000, 5000):
        values = np.random.default_rng(count).permutation(count).astype(kind)
        assert values[np.argsort(values)].tolist() == list(range(count))
        assert values[np.argpartition(values, count // 2)][count // 2] == count // 2


def test_every_kprobe_attaches_and_the_tracepoint_is_not_needed(probes, record_testsuite_property):
    record_testsuite_property("probes", " ".join(probes.attached))
    assert probes.attached == [f"kprobe:{function}" for function in ("handle_mm_fault", *CLEARING_FUNCTIONS)]


def test_page_tables_have_five_levels_and_the_direct_map_is_found_where_kaslr_put_it(reader, record_testsuite_property):
    """QEMU's largest processor has LA57. The map's usual places are left only by chance."""
    levels = facts().page_table_levels
    record_testsuite_property("page tables", f"{levels} levels, direct map at {reader.direct_map:#x}")
    assert levels == 5
    assert reader.direct_map >= 0xFF11_0000_0000_0000  # Documentation/arch/x86/x86_64/mm.rst
    assert reader.direct_map % (1 << 30) == 0


def test_the_row_that_doctor_prints_of_this_kernel(reader, probes, record_testsuite_property):
    """A kernel with idle page tracking would have another way to clear shared memory: Debian has none."""
    row = matrix_row(facts(), reader.direct_map, probes.attached)
    record_testsuite_property("row of the matrix", f"| {' | '.join(row.values())} |")
    others = row["others"].split(", ")
    assert {"reclaim", "clear_refs"} <= set(others)
    assert {"MGLRU", "MGLRU (off)"} & set(others)
    assert "idle page tracking" not in others
    assert "2 MiB pages" in row["page_tables"]
    assert facts().has_psi
