# SPDX-License-Identifier: GPL-2.0-only
"""Actions: the one place that changes a target's memory for a scheme. `--dry-run` prints what it would call, from here.

What a call returns says little: PAGEOUT without swap succeeds and does nothing. So every page is read again afterwards,
and what is counted is what was seen to happen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pagepulse.errors import TargetGone
from pagepulse.kernel.host import swap_free_bytes
from pagepulse.kernel.syscalls import (
    IOVECS_PER_CALL,
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    process_madvise,
)
from pagepulse.kernel.target import Target
from pagepulse.model.memory import CHUNK, PAGE, Addresses, PageBits
from pagepulse.units import format_size

ADVICE = {"cold": MADV_COLD, "lru_deprio": MADV_COLD, "pageout": MADV_PAGEOUT, "willneed": MADV_WILLNEED,
          "hugepage": MADV_COLLAPSE, "collapse": MADV_COLLAPSE, "nohugepage": MADV_PAGEOUT}
"""Actions of schemes -> advice of process_madvise(2). MADV_HUGEPAGE is refused for other processes: a huge page is made
at once instead. nohugepage splits by `Actuator.split` what it does not page out."""

NO_SWAP = "no swap space"
"""The reason why memory without a file could not be paged out."""

_NAMES = {MADV_COLD: "MADV_COLD", MADV_PAGEOUT: "MADV_PAGEOUT", MADV_WILLNEED: "MADV_WILLNEED",
          MADV_COLLAPSE: "MADV_COLLAPSE"}
_BYTES_PER_CALL = 8 << 20  # the mmap lock is held through a call: keep that short

Pages = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Effect:
    """What one application of an action came to. Reasons and `applied_bytes` add up to `tried_bytes`."""

    tried_bytes: int = 0
    applied_bytes: int = 0
    calls: int = 0
    errors: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    applied: list[Addresses] = field(default_factory=list)
    """Runs of pages, shape (n, 2) each, that were seen to be gone."""

    def leave(self, reason: str, size_bytes: int) -> None:
        """Book bytes on which the action had no effect."""
        if size_bytes:
            self.reasons[reason] = self.reasons.get(reason, 0) + size_bytes


class Actuator:
    """Applies actions to a target.

    Args:
        target: The target.
        announce: Given in a dry run: called with each call's text instead of making the call.
    """

    def __init__(self, target: Target, announce: Callable[[str], None] | None = None) -> None:
        self._target = target
        self._announce = announce

    def act(self, action: str, runs: Addresses) -> Effect:
        """Apply an action to runs of pages, and look at what happened.

        Args:
            action: A key of ADVICE.
            runs: Shape (n, 2), start and end, sorted; multiples of PAGE.

        Raises:
            TargetGone: The target exited or became another program.
        """
        effect = Effect()
        # Copying 2 MiB takes milliseconds, and the kernel stops a call at the first one that it refuses.
        piece_bytes = CHUNK if ADVICE[action] == MADV_COLLAPSE else _BYTES_PER_CALL
        for batch in _batches(runs, piece_bytes):
            self._call(ADVICE[action], batch, effect)
        return effect

    def split(self, chunks: Addresses) -> Effect:
        """Split huge pages: the kernel does so where a part of one is made cold, here its first 4 KiB.

        Args:
            chunks: Where they begin, shape (n,).

        Raises:
            TargetGone: The target exited or became another program.
        """
        effect = Effect()
        for start in chunks.tolist():
            self._call(MADV_COLD, np.array([[start, start + PAGE]], np.uint64), effect, splits=True)
        return effect

    def _call(self, advice: int, runs: Addresses, effect: Effect, *, splits: bool = False) -> None:
        """The one function that makes the call, or says that it would."""
        sizes = runs[:, 1] - runs[:, 0]
        size_bytes = CHUNK if splits else int(sizes.sum())
        effect.calls += 1
        effect.tried_bytes += size_bytes
        if self._announce is not None:
            self._announce(_in_words(self._target.process.pid, advice, runs))
            effect.leave("dry run", size_bytes)
            return
        done = self._advise(advice, np.column_stack((runs[:, 0], sizes)), effect)
        if splits:
            self._look_at_split(int(runs[0, 0]), effect)
        else:
            self._look(advice, runs, effect, refused_bytes=size_bytes - done)

    def _look_at_split(self, start: int, effect: Effect) -> None:
        bits = self._target.read_pages(start, start + CHUNK)
        effect.applied_bytes += int(np.count_nonzero(~bits.huge)) * PAGE
        effect.leave("still a huge page", int(np.count_nonzero(bits.huge)) * PAGE)

    def _advise(self, advice: int, iovecs: Addresses, effect: Effect) -> int:
        self._target.check_identity()
        try:
            done = process_madvise(self._target.process.pidfd, np.ascontiguousarray(iovecs), advice)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise TargetGone(f"process {self._target.process.pid} has exited") from None
            effect.errors += 1
            return 0
        effect.errors += done < int(iovecs[:, 1].sum())
        return done

    def _look(self, advice: int, runs: Addresses, effect: Effect, refused_bytes: int) -> None:
        """Count what happened: what is gone, huge, or there now; of COLD what the kernel went through."""
        # One read of all that lies between: scattered pages are thousands of runs, and a read of each costs more.
        bits = self._target.read_pages(int(runs[0, 0]), int(runs[-1, 1]))
        asked = _pages_of(runs, bits)
        if advice == MADV_PAGEOUT:
            self._look_at_page_out(bits, asked, effect, refused_bytes)
            return
        done = asked & (bits.huge if advice == MADV_COLLAPSE else bits.present)
        effect.applied_bytes += int(np.count_nonzero(done)) * PAGE
        effect.leave(_NOT_DONE[advice], int(np.count_nonzero(asked & ~done)) * PAGE)

    def _look_at_page_out(self, bits: PageBits, asked: Pages, effect: Effect, refused_bytes: int) -> None:
        gone = asked & ~bits.present
        effect.applied.append(_runs_of(gone, bits.start))
        effect.applied_bytes += int(np.count_nonzero(gone)) * PAGE
        effect.leave("touched meanwhile", int(np.count_nonzero(asked & bits.young)) * PAGE)
        left = np.flatnonzero(asked & bits.present & ~bits.young)
        if left.size:
            effect.leave(self._why_left(bits.start + int(left[0]) * PAGE, refused_bytes), left.size * PAGE)

    def _why_left(self, address: int, refused_bytes: int) -> str:
        if refused_bytes:
            return "refused by the kernel"
        if self._target.is_anonymous(address) and swap_free_bytes() < PAGE:
            return NO_SWAP
        return "shared, or kept by the kernel"


_NOT_DONE = {MADV_COLD: "unmapped meanwhile", MADV_COLLAPSE: "not one page of 2 MiB afterwards",
             MADV_WILLNEED: "read in later, if at all"}


def _batches(runs: Addresses, piece_bytes: int = _BYTES_PER_CALL) -> list[Addresses]:
    """Calls of at most IOVECS_PER_CALL runs and some `piece_bytes`; a longer run is cut."""
    pieces: list[tuple[int, int]] = []
    for start, end in runs.tolist():
        # At multiples of the piece's size, so that no huge page is cut.
        cuts = range((start // piece_bytes + 1) * piece_bytes, end, piece_bytes)
        edges = [start, *cuts, end]
        pieces += pairwise(edges)
    batches: list[list[tuple[int, int]]] = []
    filled = piece_bytes
    for piece in pieces:
        size = piece[1] - piece[0]
        if filled + size > piece_bytes or len(batches[-1]) == IOVECS_PER_CALL:
            batches.append([])
            filled = 0
        batches[-1].append(piece)
        filled += size
    return [np.array(batch, np.uint64) for batch in batches]


def _pages_of(runs: Addresses, bits: PageBits) -> Pages:
    """Which of the pages that were read are in these runs. Shape as those."""
    edges = np.zeros(bits.present.size + 1, np.int8)
    first, last = ((runs - np.uint64(bits.start)) // np.uint64(PAGE)).astype(np.int64).T
    edges[first] += 1
    edges[last] -= 1
    return np.cumsum(edges[:-1], dtype=np.int8) > 0


def _runs_of(pages: Pages, start: int) -> Addresses:
    edges = np.flatnonzero(np.diff(np.pad(pages, 1).astype(np.int8)))
    return (np.uint64(start) + edges.astype(np.uint64) * np.uint64(PAGE)).reshape(-1, 2)


def _in_words(pid: int, advice: int, runs: Addresses) -> str:
    ranges = ", ".join(f"{start:#x}-{end:#x}" for start, end in runs.tolist())
    size = format_size(int((runs[:, 1] - runs[:, 0]).sum()))
    return f"process_madvise(pid {pid}, [{ranges}], {_NAMES[advice]}): {size}"
