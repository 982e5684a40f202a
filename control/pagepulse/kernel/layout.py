# SPDX-License-Identifier: GPL-2.0-only
"""Layout: numpy's view of bpf/pagepulse.h, and nothing else. A test compiles the header and compares field by field."""

from __future__ import annotations

import numpy as np

WINDOWS_PER_RUN = 512
TABLES_PER_RUN = 256
TABLE_ENTRIES = 512

OK, NO_MAP, GONE, CHANGED = 0, 1, 2, 3
"""enum pp_status."""

REQUEST = np.dtype([("base", "<u8"), ("start", "<u8"), ("pidfd", "<u4"), ("count", "<u4"), ("mm", "<u8"),
                    ("exec_id", "<u8"), ("pgd", "<u8"), ("tgid", "<u4"), ("pad", "<u4")])
WINDOW = np.dtype([("address", "<u8"), ("young", "<u8"), ("present", "<u8"), ("level", "<u4"), ("pad", "<u4")])
FILTER = np.dtype([("mm", "<u8"), ("tgid", "<u4"), ("self", "<u4"), ("faults_epoch", "<u4"), ("taken_epoch", "<u4")])
LOSS = np.dtype([("faults", "<u8"), ("taken", "<u8"), ("faults_begun", "<u8", 2), ("faults_done", "<u8", 2),
                 ("taken_begun", "<u8", 2), ("taken_done", "<u8", 2)])

PRESENT, ACCESSED, LEAF, PROTNONE = 0x1, 0x20, 0x80, 0x100
"""Bits of an x86 page-table entry: arch/x86/include/asm/pgtable_types.h."""

SWAP_TYPE_SHIFT, SWAP_TYPES = 59, 23
"""Of an entry that is not empty and not present: its type, and how many of the types are swap files however the kernel
was configured. The others are pages that are being moved, markers and the like: include/linux/swap.h."""

PARENT_LOST = 0xFFFF_FFFF_FFFF_FFFF
"""What copy_page_tables reports for a table that was replaced while it was copied."""

ARRAYS = {
    "request": (REQUEST, 1), "windows": (WINDOW, WINDOWS_PER_RUN),
    "tables": (np.dtype("<u8"), TABLES_PER_RUN * TABLE_ENTRIES),
    "parents": (np.dtype("<u8"), TABLES_PER_RUN), "filter": (FILTER, 1), "loss": (LOSS, 1),
}
"""BPF array maps that are mapped into our memory: name -> (dtype of an entry, number of entries)."""
