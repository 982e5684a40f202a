# SPDX-License-Identifier: GPL-2.0-only
"""NUMA: which nodes there are, and moving a process's pages between them by move_pages(2)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pagepulse.errors import TargetGone
from pagepulse.kernel.actions import CHANGED, Effect
from pagepulse.kernel.syscalls import move_pages
from pagepulse.kernel.target import Target
from pagepulse.model.identity import changed
from pagepulse.model.memory import PAGE, Addresses, Mapping
from pagepulse.units import format_size

_PAGES_PER_CALL = 2048
_NODES = Path("/sys/devices/system/node/has_memory")


def nodes_with_memory(path: Path = _NODES) -> tuple[int, ...]:
    """Nodes that pages can be moved to; empty where the kernel knows no NUMA."""
    try:
        ranges = [part.split("-") for part in path.read_text().strip().split(",") if part]
    except OSError:
        return ()
    return tuple(node for ends in ranges for node in range(int(ends[0]), int(ends[-1]) + 1))


def migrate(target: Target, runs: Addresses, node: int, announce: Callable[[str], None] | None, *,
            chosen_in: Sequence[Mapping] | None = None, limit_bytes: int | None = None) -> Effect:
    """Move pages to a node, and ask where they are then. Pages that are there already are no part of it.

    Args:
        target: Whose memory.
        runs: Shape (n, 2), start and end, sorted; multiples of PAGE.
        node: Where to.
        announce: Given in a dry run: called with each call's text instead of making the call.
        chosen_in: The mappings in which the pages were chosen: what is another one by now is not moved.
        limit_bytes: At most this much, first addresses first; None: no limit.

    Raises:
        TargetGone: The target exited or became another program.
    """
    effect = Effect()
    pages = np.concatenate([np.arange(start, end, PAGE, dtype=np.uint64) for start, end in runs.tolist()])
    for first in range(0, len(pages), _PAGES_PER_CALL):
        batch = pages[first:first + _PAGES_PER_CALL]
        where = _ask(target, batch, None)
        batch = batch[(where >= 0) & (where != node)]
        if limit_bytes is not None:
            batch = batch[:max(limit_bytes - effect.tried_bytes, 0) // PAGE]
        batch = _same(target, batch, chosen_in, effect)
        if len(batch):
            _move(target, np.ascontiguousarray(batch), node, announce, effect)
    return effect


def _same(target: Target, pages: Addresses, chosen_in: Sequence[Mapping] | None, effect: Effect) -> Addresses:
    """The pages whose mapping is the one in which they were chosen."""
    if chosen_in is None or not len(pages):
        return pages
    first = int(pages[0])
    other = changed(chosen_in, target.mappings(), first, (int(pages[-1]) - first) // PAGE + 1)
    same = ~other[((pages - np.uint64(first)) // np.uint64(PAGE)).astype(np.int64)]
    effect.tried_bytes += int(np.count_nonzero(~same)) * PAGE
    effect.leave(CHANGED, int(np.count_nonzero(~same)) * PAGE)
    return pages[same]


def _move(target: Target, pages: Addresses, node: int, announce: Callable[[str], None] | None, effect: Effect) -> None:
    """The one function that makes the call, or says that it would."""
    effect.calls += 1
    effect.tried_bytes += len(pages) * PAGE
    if announce is not None:
        size = format_size(len(pages) * PAGE)
        pid = target.process.pid
        announce(f"move_pages(pid {pid}, {len(pages)} pages from {int(pages[0]):#x}, node {node}): {size}")
        effect.leave("dry run", len(pages) * PAGE)
        return
    target.check_identity()
    _ask(target, pages, node)
    there = _ask(target, pages, None) == node
    effect.applied_bytes += int(np.count_nonzero(there)) * PAGE
    effect.leave("still on another node", int(np.count_nonzero(~there)) * PAGE)
    left = pages[~there]
    effect.fruitless.append(np.column_stack((left, left + np.uint64(PAGE))))


def _ask(target: Target, pages: Addresses, node: int | None) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    try:
        return move_pages(target.process.pid, pages, node)
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise TargetGone(f"process {target.process.pid} has exited") from None
        return np.full(len(pages), -(error.errno or errno.EIO), np.int32)
