# SPDX-License-Identifier: GPL-2.0-only
"""Memory: what the model needs of a target's memory, real or simulated, and the shapes that cross.

`pagepulse.kernel` implements the protocol with BPF and process_madvise. The model itself never touches a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

PAGE = 4096
WINDOW_PAGES = 64
"""Pages of a window: one bit each in a 64-bit mask."""
WINDOW = WINDOW_PAGES * PAGE
CHUNK = 512 * PAGE
"""2 MiB: what one page table, or one huge page, maps."""
WINDOWS_PER_CHUNK = CHUNK // WINDOW

LEVEL_NONE, LEVEL_PAGE, LEVEL_CHUNK, LEVEL_GIB, LEVEL_LOST = 0, 1, 2, 4, 8
"""Where a window's entry was found: nowhere, in a page table, a 2 MiB or a 1 GiB leaf. The bit LEVEL_LOST is set beside
these where the page tables changed under the read, and nothing is known."""

Masks = npt.NDArray[np.uint64]
Addresses = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping (VMA) of the target that can be monitored."""

    start: int
    end: int
    name: str
    """Path, `[heap]`, `[stack]`, `[anon: NAME]`; `[anon]` where it has none."""
    clearable: bool = True
    """False: locked, hugetlb or device memory. MADV_COLD is refused there; it is read, never cleared."""
    anonymous: bool = True
    together: bool = False
    """Cleared only together with all others of which this is true (clear_refs): a clear of one takes all traces."""
    file: str = ""
    """Device and inode of the file behind it; empty: there is none."""
    offset: int = 0
    """Where in the file it begins."""
    shared: bool = False
    """Its pages are those of the file: the same memory in every process that maps them."""


class WindowRead(NamedTuple):
    """The accessed bits of n windows, read in one go."""

    young: Masks
    """Shape (n,): bit i is set if page i of the window has its accessed bit set."""
    present: Masks
    """Shape (n,): bit i is set if page i of the window is resident."""
    level: npt.NDArray[np.uint8]
    """Shape (n,): LEVEL_*."""
    taken_ns: int
    """CLOCK_MONOTONIC after the read."""
    blind: bool = False
    """Others cleared bits that nobody kept, anywhere in the target: what reads clear may have been touched before."""


class PageBits(NamedTuple):
    """The accessed bits of a contiguous range, page by page: shape (n,) each."""

    start: int
    """Address of the first page."""
    present: npt.NDArray[np.bool_]
    young: npt.NDArray[np.bool_]
    huge: npt.NDArray[np.bool_]
    """Mapped by a 2 MiB or 1 GiB entry, whose one accessed bit is that of all its pages."""
    swapped: npt.NDArray[np.bool_]
    """Not resident, and the entry says where in swap the page is. What is neither was never there, was given up by the
    target, or is in a file."""
    lost: npt.NDArray[np.bool_]
    """The page table was replaced under the read, or its huge page is being moved: nothing is known."""


class ClearResult(NamedTuple):
    """What became of one request to clear accessed bits."""

    calls: int
    """System calls made."""
    refused: int
    """Ranges that the kernel refused outright (unmapped, locked, hugetlb)."""


class Memory(Protocol):
    """A target's memory. Every method raises `TargetGone` once the target exited or became another program."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        ...

    def mappings(self) -> list[Mapping]:
        """The mappings that can be monitored, sorted by address. Those without any permission are left out."""
        ...

    def populated(self, spans: Addresses) -> Addresses:
        """Addresses of the chunks (2 MiB, aligned) that have a page table or a huge page.

        Args:
            spans: Shape (n, 2), start and end of disjoint sorted ranges.

        Returns:
            Shape (m,), sorted, without repetition.
        """
        ...

    def read_windows(self, addresses: Addresses) -> WindowRead:
        """Read the windows at these addresses, multiples of WINDOW. Any number of them."""
        ...

    def clear(self, ranges: Addresses) -> ClearResult:
        """Clear the accessed bits of these ranges, shape (n, 2): start and end. Read back to see the effect.

        Where one of them lies in a mapping that is cleared `together`, all such mappings are cleared, as a whole.
        """
        ...

    def unclearable(self, addresses: Addresses, masks: Masks) -> Masks:
        """Of the pages in `masks` (shape (n,)) that were young right after a clear: those that the kernel skipped.

        The others were cleared, and touched again before they could be read.
        """
        ...

    def rss_bytes(self) -> int:
        """Resident memory of the target."""
        ...
