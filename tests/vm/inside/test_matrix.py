# SPDX-License-Identifier: GPL-2.0-only
"""What this kernel offers: one row of the README's table, recorded; and that nothing of it is missing on Debian's."""

from pathlib import Path

import pytest

from pagepulse.kernel.host import facts
from pagepulse.kernel.probes import CLEARING_FUNCTIONS

pytestmark = pytest.mark.live


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


def test_what_the_kernel_has_of_its_own_is_recorded(record_testsuite_property):
    found = [name for name, path in {"DAMON": "/sys/kernel/mm/damon", "MGLRU": "/sys/kernel/mm/lru_gen",
                                     "idle page tracking": "/sys/kernel/mm/page_idle", "PSI": "/proc/pressure"}.items()
             if Path(path).exists()]
    record_testsuite_property("has", ", ".join(found))
    assert "MGLRU" in found
    assert "PSI" in found
