# SPDX-License-Identifier: GPL-2.0-only
"""Clearing: which way to clear accessed bits suits a target.

MADV_COLD clears any pages, flushes the TLB, and skips pages that several processes map. clear_refs clears these, too,
but all of a kind at once and without a flush. The first is right until most of a target turns out to be shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagepulse.model.memory import PAGE, Mapping
from pagepulse.model.windows import Windows, popcount

AUTO, COLD, REFS = "auto", "cold", "refs"
WAYS = (AUTO, COLD, REFS)

_LEAST_BYTES = 4 << 20  # a small program's memory is mostly that of its libraries, which no one asks about
_MOST = 0.5


def is_mostly_shared(windows: Windows, mappings: Sequence[Mapping], rss_bytes: int) -> bool:
    """Whether most of a target is memory with a file behind it (shared memory included) that MADV_COLD skips.

    Anonymous memory is not counted: what a fork shares is the process's own again when the child ends.

    Args:
        windows: What is known of its pages.
        mappings: Its mappings, as the windows number them.
        rss_bytes: Its resident memory.
    """
    with_file = np.array([m.clearable and not m.anonymous and not m.together for m in mappings], bool)
    if not with_file.any():
        return False
    here = with_file[windows.mapping]
    there, refused, known = (PAGE * float((popcount(masks[here]) * windows.weight[here]).sum()) for masks in
                             (windows.present, windows.refused, windows.known & ~windows.refused))
    return there > max(_MOST * rss_bytes, _LEAST_BYTES) and refused > max(known, _LEAST_BYTES)
