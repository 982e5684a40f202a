# SPDX-License-Identifier: GPL-2.0-only
"""Target: the memory of one running process, as the model wants it (`pagepulse.model.memory.Memory`)."""

from __future__ import annotations

import errno
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.kernel import layout
from pagepulse.kernel.maps import parse_maps
from pagepulse.kernel.pageflags import PageFlags
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.process import Process
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.refs import ClearRefs
from pagepulse.kernel.shared_probes import OneOfMany
from pagepulse.kernel.syscalls import IOVECS_PER_CALL, MADV_COLD, process_madvise
from pagepulse.kernel.taken import Taken
from pagepulse.model.clearing import COLD, REFS
from pagepulse.model.memory import CHUNK, PAGE, WINDOW, Addresses, ClearResult, Mapping, Masks, PageBits, WindowRead

_GIB = 1 << 30
_ASK_AGAIN_NS = 10_000_000_000  # a lock may be gone by then
_EXIT_S = 1.0  # an exiting process loses its memory first, and is dead a moment later


class Target:
    """The memory of one process.

    Args:
        process: The process; the caller closes it.
        reader: The reader.
        probes: What other agents clear is taken from here.
        clear: One of `model.clearing.WAYS`; with any but REFS, MADV_COLD until `clear_shared_together`.
    """

    def __init__(self, process: Process, reader: Reader, probes: Probes | OneOfMany, clear: str = COLD) -> None:
        self.process = process
        self._reader = reader
        self._probes = probes
        self.identity = reader.identity(process.pidfd)
        probes.watch(self.identity)
        self.refs = ClearRefs(process.pid, with_file_only=False) if clear == REFS else None
        try:
            self._flags = _page_flags(process)
        except BaseException:
            if self.refs is not None:
                self.refs.close()
            raise
        # Mappings that refused MADV_COLD (locked, or hugetlb on a file), and when to ask them again.
        self._refused: dict[tuple[int, str], int] = {}
        self._maps_text = ""
        self._mappings: list[Mapping] = []
        self.cleared: list[Mapping] = []
        """The same, with how they are cleared."""
        self._taken = Taken()
        self._taken_lost = probes.taken_lost
        self._is_blind = False  # since something was lost, until `read_windows` said so
        self.keeps_taken = True
        """What others clear counts until we clear it ourselves. False: we clear nothing, each read shows it once."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def mappings(self) -> list[Mapping]:
        """The mappings that can be monitored; parsed again only if the kernel's text has changed."""
        text = self._read_maps()
        if text != self._maps_text:
            self._maps_text, self._mappings = text, parse_maps(text)
            self._taken.keep_within(np.array([(m.start, m.end) for m in self._mappings], np.uint64).reshape(-1, 2))
            there = {(m.start, m.name) for m in self._mappings}
            self._refused = {key: due_ns for key, due_ns in self._refused.items() if key in there}
        self._ask_refused_again()
        self.cleared = self._mappings
        if self._refused or self.refs is not None:
            self.cleared = [self._as_cleared(mapping) for mapping in self._mappings]
        return self.cleared

    def _as_cleared(self, mapping: Mapping) -> Mapping:
        """The mapping, with how it is cleared now."""
        if self.refs is not None and mapping.clearable and not (self.refs.with_file_only and mapping.anonymous):
            return replace(mapping, together=True)
        is_refused = (mapping.start, mapping.name) in self._refused
        return replace(mapping, clearable=False) if is_refused and mapping.clearable else mapping

    def clear_shared_together(self) -> None:
        """From now on, clear all memory that has a file behind it by clear_refs: pages that others map, too."""
        self.refs = ClearRefs(self.process.pid, with_file_only=True)
        self._refused.clear()

    def populated(self, spans: Addresses) -> Addresses:
        """Chunks of these ranges that have a page table or a huge page: a read of one table for each GiB."""
        found = []
        pidfd = self.process.pidfd
        read_to = 0
        for start, end in spans.tolist():
            first = max(start // _GIB * _GIB, read_to)
            for copy in self._reader.middle_tables(pidfd, first, end, self.identity) if first < end else ():
                rows, columns = np.nonzero(_is_populated(copy.entries, copy.parents))
                found.append(np.uint64(copy.start) + rows.astype(np.uint64) * np.uint64(_GIB)
                             + columns.astype(np.uint64) * np.uint64(CHUNK))
                read_to = copy.start + len(copy.entries) * _GIB
        chunks = np.concatenate(found) if found else np.empty(0, np.uint64)
        return _inside(chunks, spans)

    def read_windows(self, addresses: Addresses) -> WindowRead:
        """Read windows; what another agent cleared since our own last clear, or read, counts as young."""
        read = self._reader.windows(self.process.pidfd, addresses, self.identity)
        if not self._probes.sees_taken:
            return read
        self._take_in()
        young = read.young | self._taken.among(addresses) & read.present
        if not self.keeps_taken:
            own = addresses[~self._is_shared_window(addresses)]
            self._taken.forget(np.column_stack((own, own + np.uint64(WINDOW))))
        blind, self._is_blind = self._is_blind, False
        return read._replace(young=young, blind=blind, taken_ns=self.now_ns() if blind else read.taken_ns)

    def _is_shared_window(self, addresses: Addresses) -> npt.NDArray[np.bool_]:
        """Which windows may be of several mappings, and read for each of them: a mapping begins or ends inside."""
        edges = np.unique([edge for m in self._mappings for edge in (m.start, m.end)]).astype(np.uint64)
        inside: npt.NDArray[np.bool_] = (np.searchsorted(edges, addresses, side="right")
                                         < np.searchsorted(edges, addresses + np.uint64(WINDOW)))
        return inside

    def read_pages(self, start: int, end: int) -> PageBits:
        """The accessed bits of every page of a range, those among them that another agent cleared.

        Where some of these were lost, and `read_windows` has not said so yet, all pages are young: none is acted on.

        Args:
            start: A multiple of PAGE.
            end: A multiple of PAGE.

        Raises:
            TargetGone: It exited or became another program.
        """
        first = start // CHUNK * CHUNK
        parts = [_page_bits(copy.entries, copy.parents)
                 for copy in self._reader.page_tables(self.process.pidfd, first, end, self.identity)]
        chosen = slice((start - first) // PAGE, (end - first) // PAGE)
        present, young, huge, swapped, lost = (np.concatenate(columns)[chosen] for columns in zip(*parts, strict=True))
        if self._probes.sees_taken:
            self._take_in()
            young |= self._taken.pages(start, end) & present
            if self._is_blind:
                young = present.copy()
        return PageBits(start, present, young, huge, swapped, lost)

    def _take_in(self) -> None:
        """Hear of what others cleared. After a read, never before: what is cleared in between would be in neither."""
        self._taken.keep(*self._probes.drain_taken())
        before, self._taken_lost = self._taken_lost, self._probes.taken_lost
        self._is_blind |= self._taken_lost != before

    def clear(self, ranges: Addresses) -> ClearResult:
        """Clear accessed bits: by MADV_COLD or, where the mapping is cleared so, with all others of its kind."""
        self._take_in()  # before the clear: what others take from then on is a new touch
        self._taken.forget(ranges)
        apart = self._is_apart(ranges[:, 0])
        result = self._clear_cold(ranges[apart])
        if self.refs is not None and not apart.all():
            self._taken.forget(np.array([(m.start, m.end) for m in self.cleared if m.together], np.uint64))
            with self._probes.own_clear:
                self.refs.clear()
            result = result._replace(calls=result.calls + 1)
        return result

    def _is_apart(self, addresses: Addresses) -> npt.NDArray[np.bool_]:
        """Which of these can be cleared by themselves."""
        if self.refs is None or not self.cleared:
            return np.ones(len(addresses), bool)
        starts = np.array([m.start for m in self.cleared], np.uint64)
        together = np.array([m.together for m in self.cleared], bool)
        # A window begins at or before the mapping that its pages are in.
        owner = np.searchsorted(starts, addresses + np.uint64(WINDOW - 1), side="right") - 1
        apart: npt.NDArray[np.bool_] = ~together[np.maximum(owner, 0)]
        return apart

    def _clear_cold(self, ranges: Addresses) -> ClearResult:
        """A range that the kernel refuses is skipped, and its mapping remembered.

        The kernel goes no further in a range than to what it refuses there. Where a part was locked since the mappings
        were looked at, each part is therefore asked for by itself.
        """
        calls = refused = 0
        iovecs = np.column_stack((ranges[:, 0], ranges[:, 1] - ranges[:, 0]))
        while len(iovecs):
            batch = np.ascontiguousarray(iovecs[:IOVECS_PER_CALL])
            done, error = self._advise(batch)
            calls += 1
            completed = int(np.searchsorted(np.cumsum(batch[:, 1]), np.uint64(done), side="right"))
            if not completed:  # where the kernel stops at a later range, the next call begins there and tells why
                parts = self._parts(int(batch[0, 0]), int(batch[0, 1])) if error == errno.EINVAL else []
                if len(parts) > 1:
                    iovecs = np.concatenate((np.array([part for _, part in parts], np.uint64), iovecs[1:]))
                    continue
                for mapping, _ in parts:
                    self._refused[mapping.start, mapping.name] = self.now_ns() + _ASK_AGAIN_NS
                refused += 1
                completed = 1
            iovecs = iovecs[completed:]
        return ClearResult(calls, refused)

    def _advise(self, iovecs: Addresses) -> tuple[int, int]:
        """Bytes done; and if the first range was refused, why: EINVAL if locked or hugetlb, ENOMEM if unmapped.

        Raises:
            TargetGone: The process has exited.
            PagepulseError: We may not.
        """
        try:
            with self._probes.own_clear:
                return process_madvise(self.process.pidfd, iovecs, MADV_COLD), 0
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise TargetGone(f"process {self.process.pid} has exited") from None
            if error.errno in {errno.EPERM, errno.EACCES}:
                raise PagepulseError(f"accessed bits of process {self.process.pid} may not be cleared",
                                     why=f"process_madvise: {error.strerror}",
                                     hint="run as root, with CAP_SYS_PTRACE and CAP_SYS_NICE") from None
            return 0, error.errno or errno.EINVAL

    def _parts(self, start: int, size: int) -> list[tuple[Mapping, tuple[int, int]]]:
        """The mappings that a range lies in by now, and from where and how much of it in each."""
        return [(m, (max(start, m.start), min(start + size, m.end) - max(start, m.start)))
                for m in parse_maps(self._read_maps()) if m.start < start + size and start < m.end]

    def _read_maps(self) -> str:
        text = self.process.maps_text()
        if not text:
            raise TargetGone(f"process {self.process.pid} has exited")
        return text

    def _ask_refused_again(self) -> None:
        """A lock may be gone. The question is a clear of the mapping's first pages, of which nothing was known."""
        due = {key for key, due_ns in self._refused.items() if due_ns <= self.now_ns()}
        for mapping in [m for m in self._mappings if (m.start, m.name) in due]:
            # As far as a whole huge page may reach: a part would split it.
            size = min(mapping.end, mapping.start // CHUNK * CHUNK + CHUNK) - mapping.start
            del self._refused[mapping.start, mapping.name]
            self._clear_cold(np.array([[mapping.start, mapping.start + size]], np.uint64))

    def unclearable(self, addresses: Addresses, masks: Masks) -> Masks:
        """Of the pages that were young right after a clear, those that the kernel skipped."""
        apart = self._is_apart(addresses)
        if apart.all():
            return self._flags.skipped(addresses, masks)
        skipped = np.zeros_like(masks)
        skipped[apart] = self._flags.skipped(addresses[apart], masks[apart])
        skipped[~apart] = self._flags.zero_pages(addresses[~apart], masks[~apart])
        return skipped

    def check_identity(self) -> None:
        """Make sure, before something is done to it, that the target is still the program that was watched.

        Raises:
            TargetGone: It exited or became another program.
        """
        if self._reader.identity(self.process.pidfd) != self.identity:
            raise TargetGone("the target has become another program (exec)")

    def is_anonymous(self, address: int) -> bool:
        """Whether the mapping at this address has no file behind it, as far as the last look at the mappings tells."""
        return any(m.anonymous for m in self._mappings if m.start <= address < m.end)

    def rss_bytes(self) -> int:
        """Resident memory."""
        return self.process.rss_bytes()

    def close(self) -> None:
        """Let go of the target; it goes on."""
        self._flags.close()
        if self.refs is not None:
            self.refs.close()


def _page_flags(process: Process) -> PageFlags:
    try:
        return PageFlags(process.pid)
    except OSError as error:
        if process.ends_within(_EXIT_S):
            raise TargetGone(f"process {process.pid} has exited") from None
        raise PagepulseError(f"process {process.pid} ({process.name}) cannot be watched any more",
                             why=f"its main thread has ended: /proc says of its memory '{error.strerror}'",
                             hint="watch a process whose main thread lives") from None


def _page_bits(entries: Masks, parents: Masks) -> tuple[npt.NDArray[np.bool_], ...]:
    """Present, young, huge, swapped and lost, shape (n * 512,) each, of n page tables."""
    here = np.uint64(layout.PRESENT | layout.LEAF | layout.PROTNONE)
    # A huge page that is being moved has an entry with none of these bits, and no table.
    moves = (parents != 0) & ((parents & here) == 0) & (parents >> np.uint64(layout.SWAP_TYPE_SHIFT) != 0)
    lost = (parents == np.uint64(layout.PARENT_LOST)) | moves
    leaf = ((parents & np.uint64(layout.LEAF)) != 0) & ~lost
    table = ((parents & np.uint64(layout.PRESENT)) != 0) & ~leaf & ~lost
    accessed = np.uint64(layout.ACCESSED)
    present = ((entries & np.uint64(layout.PRESENT | layout.PROTNONE)) != 0) & table[:, None] | leaf[:, None]
    young = np.where(leaf[:, None], ((parents & accessed) != 0)[:, None], (entries & accessed) != 0) & present
    swapped = (entries != 0) & ((entries & np.uint64(layout.PRESENT | layout.PROTNONE)) == 0) & table[:, None]
    swapped &= entries >> np.uint64(layout.SWAP_TYPE_SHIFT) < np.uint64(layout.SWAP_TYPES)
    return (present.reshape(-1), young.reshape(-1), np.repeat(leaf, layout.TABLE_ENTRIES), swapped.reshape(-1),
            np.repeat(lost, layout.TABLE_ENTRIES))


def _is_populated(entries: Masks, parents: Masks) -> npt.NDArray[np.bool_]:
    """Which 2 MiB, shape (n, 512), have a page table or lie in a huge page."""
    here = np.uint64(layout.PRESENT | layout.LEAF)
    parent_is_leaf = (parents & np.uint64(layout.LEAF)) != 0
    parent_is_table = ((parents & np.uint64(layout.PRESENT)) != 0) & ~parent_is_leaf
    populated: npt.NDArray[np.bool_] = ((entries & here) != 0) & parent_is_table[:, None] | parent_is_leaf[:, None]
    return populated


def _inside(chunks: Addresses, spans: Addresses) -> Addresses:
    """The chunks that overlap any of the sorted, disjoint spans, shape (n, 2)."""
    if not len(chunks) or not len(spans):
        return np.empty(0, np.uint64)
    owner = np.searchsorted(spans[:, 1], chunks, side="right")
    inside = owner < len(spans)
    inside[inside] = spans[owner[inside], 0] < chunks[inside] + np.uint64(CHUNK)
    return chunks[inside]
