# SPDX-License-Identifier: GPL-2.0-only
"""Actions: the one place that changes a target's memory for a scheme. `--dry-run` prints what it would call, from here.

What a call returns says little: PAGEOUT without swap succeeds and does nothing. So every page is read again afterwards,
and what is counted is what was seen to happen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pagepulse.errors import TargetGone
from pagepulse.kernel.host import swap_free_bytes
from pagepulse.kernel.kept import kept
from pagepulse.kernel.syscalls import (
    IOVECS_PER_CALL,
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    process_madvise,
)
from pagepulse.kernel.target import Target
from pagepulse.model.identity import changed, without_file
from pagepulse.model.memory import CHUNK, PAGE, Addresses, Mapping, PageBits
from pagepulse.model.runs import PageMask, mask_of, runs_of
from pagepulse.units import format_size

ADVICE = {"cold": MADV_COLD, "lru_deprio": MADV_COLD, "pageout": MADV_PAGEOUT, "willneed": MADV_WILLNEED,
          "hugepage": MADV_COLLAPSE, "collapse": MADV_COLLAPSE, "nohugepage": MADV_PAGEOUT}
"""Actions of schemes -> advice of process_madvise(2). MADV_HUGEPAGE is refused for other processes: a huge page is made
at once instead. nohugepage splits by `Actuator.split` what it does not page out."""

NO_SWAP = "no swap space"
"""The reason why memory without a file could not be paged out."""

CHANGED = "mapping changed"
"""The reason why what was chosen is left alone: something else is mapped there by now."""

_NAMES = {MADV_COLD: "MADV_COLD", MADV_PAGEOUT: "MADV_PAGEOUT", MADV_WILLNEED: "MADV_WILLNEED",
          MADV_COLLAPSE: "MADV_COLLAPSE"}
_BYTES_PER_CALL = 8 << 20  # the mmap lock is held through a call: keep that short


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
    fruitless: list[Addresses] = field(default_factory=list)
    """Runs that it is no use to try again soon, shape (n, 2) each: nothing happened to them, or once is enough."""

    def leave(self, reason: str, size_bytes: int) -> None:
        """Book bytes on which the action had no effect."""
        if size_bytes:
            self.reasons[reason] = self.reasons.get(reason, 0) + size_bytes


class Actuator:
    """Applies actions to a target.

    Args:
        target: The target.
        announce: Given in a dry run: called with each call's text instead of making the call.
        chosen_in: The mappings in which pages are chosen: what is another one by now is not touched. None: whatever
            lies there is meant.
    """

    def __init__(self, target: Target, announce: Callable[[str], None] | None = None,
                 chosen_in: Sequence[Mapping] | None = None) -> None:
        self._target = target
        self._announce = announce
        self._chosen_in = chosen_in

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
        mappings = self._target.mappings()
        before_bytes = _size_of(runs)
        runs = self._still_the_same(runs, mappings)
        size_bytes = CHUNK if splits and len(runs) else _size_of(runs)
        effect.tried_bytes += size_bytes + before_bytes - _size_of(runs)
        effect.leave(CHANGED, before_bytes - _size_of(runs))
        if not len(runs):
            return
        if self._announce is not None:
            effect.calls += 1
            self._announce(_in_words(self._target.process.pid, advice, runs))
            effect.leave("dry run", size_bytes)
            return
        refused = self._advise(advice, _cut(runs, mappings), effect)
        if splits:
            self._look_at_split(int(runs[0, 0]), effect)
        else:
            self._look(advice, runs, refused, effect)

    def _still_the_same(self, runs: Addresses, mappings: Sequence[Mapping]) -> Addresses:
        """The runs without pages whose mapping is another one than when they were chosen."""
        if self._chosen_in is None:
            return runs
        start, end = int(runs[0, 0]), int(runs[-1, 1])
        other = changed(self._chosen_in, mappings, start, (end - start) // PAGE)
        return runs_of(mask_of(runs, start, other.size) & ~other, start) if other.any() else runs

    def _look_at_split(self, start: int, effect: Effect) -> None:
        bits = self._target.read_pages(start, start + CHUNK)
        left = bits.huge | bits.lost
        effect.applied_bytes += int(np.count_nonzero(~left)) * PAGE
        effect.leave(_LOST, int(np.count_nonzero(bits.lost)) * PAGE)
        effect.leave("still a huge page", int(np.count_nonzero(bits.huge)) * PAGE)
        effect.fruitless.append(runs_of(bits.huge, start))

    def _advise(self, advice: int, runs: Addresses, effect: Effect) -> Addresses:
        """Make the calls; the kernel stops at a run that it refuses, so go on behind it. The refused runs, (n, 2)."""
        self._target.check_identity()
        refused = []
        while len(runs):
            part = runs[:IOVECS_PER_CALL]
            sizes = part[:, 1] - part[:, 0]
            effect.calls += 1
            done = self._advised_bytes(advice, np.column_stack((part[:, 0], sizes)))
            completed = int(np.searchsorted(np.cumsum(sizes), np.uint64(done), side="right"))
            if completed < len(part):
                refused.append(part[completed])
                effect.errors += 1
                completed += 1
            runs = runs[completed:]
        return np.array(refused, np.uint64).reshape(-1, 2)

    def _advised_bytes(self, advice: int, iovecs: Addresses) -> int:
        try:
            return process_madvise(self._target.process.pidfd, np.ascontiguousarray(iovecs), advice)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise TargetGone(f"process {self._target.process.pid} has exited") from None
            return 0

    def _look(self, advice: int, runs: Addresses, refused: Addresses, effect: Effect) -> None:
        """Count what happened: what is gone, huge, or there now; of COLD what the kernel did not skip."""
        # One read of all that lies between: scattered pages are thousands of runs, and a read of each costs more.
        bits = self._target.read_pages(int(runs[0, 0]), int(runs[-1, 1]))
        size = bits.present.size
        sorting = _Sorting(effect, bits, mask_of(runs, bits.start, size), mask_of(refused, bits.start, size))
        sorting.leave(_LOST, bits.lost)
        if advice in (MADV_COLD, MADV_PAGEOUT):
            self._look_for_idle(advice, sorting)
        else:
            sorting.apply(bits.huge if advice == MADV_COLLAPSE else bits.present)
            sorting.leave(_NOT_DONE[advice], ~bits.lost, fruitless=True)

    def _look_for_idle(self, advice: int, sorting: _Sorting) -> None:
        """Of COLD and PAGEOUT: judge by the entries, and ask of each page that stayed why it did."""
        bits, target = sorting.bits, self._target
        anonymous = without_file(target.mappings(), bits.start, bits.present.size)
        sorting.leave("unmapped by the target", self._given_up(sorting, anonymous))
        if advice == MADV_COLD:
            sorting.leave("paged out meanwhile", ~bits.present)
        else:
            gone = ~bits.present & ~sorting.refused
            sorting.effect.applied.append(runs_of(sorting.left & gone, bits.start))
            sorting.apply(gone)
            sorting.leave("refused by the kernel", ~bits.present)
        sorting.leave("touched meanwhile", bits.young)
        if advice == MADV_PAGEOUT and swap_free_bytes() < PAGE:
            sorting.leave(NO_SWAP, anonymous & ~sorting.refused)
        if not sorting.left.any():
            return
        why = kept(target.process.pid, bits.start, sorting.left)
        sorting.leave("shared with another process", why.shared, fruitless=True)
        sorting.leave("locked", why.locked, fruitless=True)
        sorting.leave("refused by the kernel", sorting.refused, fruitless=True)
        if advice == MADV_COLD:  # once is enough: what stays idle need not be told to the kernel each second
            sorting.effect.fruitless.append(runs_of(sorting.left, bits.start))
            sorting.apply(sorting.left)
        sorting.leave("kept by the kernel", sorting.left, fruitless=True)

    def _given_up(self, sorting: _Sorting, anonymous: PageMask) -> PageMask:
        """PageMask that went by munmap(2) or MADV_DONTNEED of the target's own: nothing tells where they are.

        Of a file they look as if they had been paged out, unless it is not mapped there any more.
        """
        bits = sorting.bits
        gone = ~bits.present & ~bits.swapped
        if self._chosen_in is not None and (gone & ~anonymous & sorting.left).any():
            anonymous = anonymous | changed(self._chosen_in, self._target.mappings(), bits.start, gone.size)
        given_up: PageMask = gone & (anonymous | sorting.refused)
        return given_up


class _Sorting:
    """The pages of a call, each of which is booked once, under what holds for it first.

    Args:
        effect: Booked in.
        bits: As they were read afterwards.
        asked: PageMask of the call, shape as those.
        refused: PageMask of runs that the kernel refused, shape as those.
    """

    def __init__(self, effect: Effect, bits: PageBits, asked: PageMask, refused: PageMask) -> None:
        self.effect, self.bits, self.refused = effect, bits, refused
        self.left = asked
        """What is not booked yet."""

    def leave(self, reason: str, pages: PageMask, *, fruitless: bool = False) -> None:
        """Nothing happened to these."""
        chosen = self.left & pages
        self.left = self.left & ~pages
        self.effect.leave(reason, int(np.count_nonzero(chosen)) * PAGE)
        if fruitless:
            self.effect.fruitless.append(runs_of(chosen, self.bits.start))

    def apply(self, pages: PageMask) -> None:
        """It happened to these."""
        self.effect.applied_bytes += int(np.count_nonzero(self.left & pages)) * PAGE
        self.left = self.left & ~pages


_LOST = "not known: the page tables changed meanwhile"
_NOT_DONE = {MADV_COLLAPSE: "not one page of 2 MiB afterwards",
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


def _cut(runs: Addresses, mappings: Sequence[Mapping]) -> Addresses:
    """The runs, cut where mappings meet: the kernel refuses a run as a whole for the sake of a locked part."""
    edges = np.unique(np.array([edge for one in mappings for edge in (one.start, one.end)], np.uint64))
    first, last = np.searchsorted(edges, runs[:, 0], side="right"), np.searchsorted(edges, runs[:, 1])
    if (first >= last).all():
        return runs
    pieces: list[tuple[int, int]] = []
    for (start, end), low, high in zip(runs.tolist(), first.tolist(), last.tolist(), strict=True):
        pieces += pairwise([start, *edges[low:high].tolist(), end])
    return np.array(pieces, np.uint64)


def _size_of(runs: Addresses) -> int:
    return int((runs[:, 1] - runs[:, 0]).sum())


def _in_words(pid: int, advice: int, runs: Addresses) -> str:
    ranges = ", ".join(f"{start:#x}-{end:#x}" for start, end in runs.tolist())
    size = format_size(int((runs[:, 1] - runs[:, 0]).sum()))
    return f"process_madvise(pid {pid}, [{ranges}], {_NAMES[advice]}): {size}"
