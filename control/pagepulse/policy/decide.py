# SPDX-License-Identifier: GPL-2.0-only
"""From a scheme and a snapshot to the ranges of memory that an action may have.

Two steps. `candidates` picks regions, coldest first. Regions are averages, so every page of a candidate is read again
before something is done to it, and `cold_runs` picks the pages that are cold one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagepulse.model.memory import CHUNK, PAGE, Addresses
from pagepulse.model.runs import runs_of
from pagepulse.model.snapshot import Snapshot
from pagepulse.policy.fields import ACT_ON_BUSY
from pagepulse.policy.filters import ANYWHERE, Filter, Pages, Where, may_pass, passing
from pagepulse.policy.match import Mask, matches, shares
from pagepulse.policy.priority import priorities
from pagepulse.policy.quota import Usage, remaining_bytes
from pagepulse.policy.scheme import Scheme

_CHUNK_PAGES = CHUNK // PAGE
_WORTH_A_HUGE_PAGE = 7 / 8  # of its pages are resident


@dataclass(frozen=True, slots=True)
class Candidate:
    """A region that a scheme wants to act on."""

    scheme: str
    start: int
    end: int
    min_idle_ns: int
    """Only pages that were not touched for this long may be acted on."""
    age_ns: int
    share: float
    """Share of the sampling intervals in which a page of it is touched, 0 to 1."""
    present_bytes: int
    filters: tuple[Filter, ...] = ()
    """The pages have to pass these, too."""
    where: Where = ANYWHERE


@dataclass(frozen=True, slots=True)
class PageState:
    """What is known of each page of a range. Arrays of shape (n,), one entry for each 4 KiB from `start`."""

    start: int
    """Address of the first page, a multiple of PAGE."""
    present: Mask
    young: Mask
    """Accessed bit set now."""
    huge: Mask
    """Mapped by a 2 MiB entry. All pages of such an entry share its accessed bit."""
    idle_since_ns: npt.NDArray[np.int64]
    """CLOCK_MONOTONIC since when the page is known to be untouched; NEVER_IDLE_NS if it is not."""
    patience_ns: npt.NDArray[np.int64] | int = 0
    """How long it has to be idle, whatever the scheme says: it was paged out before, and came back."""
    rests: Mask | bool = False
    """Was tried a while ago to no effect, or needs no second time: it is left alone for now."""
    to_read: Mask | bool = True
    """Not resident, and somewhere to be read from: in swap, or in a file. The others were never there."""

    def is_idle(self, min_idle_ns: int, now_ns: int) -> Mask:
        """Which pages were not touched for so long, nor for as long as they have to. Shape (n,)."""
        idle: Mask = self.idle_since_ns <= now_ns - np.maximum(self.patience_ns, min_idle_ns)
        return idle


def due(scheme: Scheme, last_ns: int | None, now_ns: int) -> bool:
    """Whether the scheme is to be applied at this snapshot; `last_ns` is when it last was, None: never."""
    return last_ns is None or scheme.apply_interval_ns is None or now_ns - last_ns >= scheme.apply_interval_ns


def candidates(scheme: Scheme, snapshot: Snapshot, usage: Usage, *, cgroups: tuple[str, ...] = ("/",),
               goal_bytes: int | None = None) -> list[Candidate]:
    """Regions that show the scheme's pattern and of which something may pass its filters, by priority.

    What acts on busy memory takes the hottest first, all else the coldest; among equals the oldest, then the least
    touched, then the lowest address. Empty if quotas or goals leave nothing: then no page needs to be read.

    Args:
        scheme: The scheme.
        snapshot: Of the target.
        usage: Of the scheme's quotas.
        cgroups: Of the target: `Where.cgroups`.
        goal_bytes: What the goals allow (`Tuning.limit_bytes`); None: no limit.
    """
    left = remaining_bytes(scheme, usage, snapshot.end_ns, goal_bytes=goal_bytes)
    if left is not None and left < PAGE:
        return []
    mask = matches(scheme, snapshot)
    if scheme.filters:
        mask &= may_pass(scheme.filters, snapshot, cgroups)
    rows = np.flatnonzero(mask)
    if not rows.size:
        return []
    regions, share = snapshot.regions, shares(snapshot)
    age_ns = snapshot.end_ns - regions["since_ns"]
    score = priorities(snapshot, share, scheme.quotas.weights, hot=scheme.action in ACT_ON_BUSY)
    order = rows[np.lexsort((regions["start"][rows], share[rows], -age_ns[rows], -score[rows]))]
    min_idle_ns = scheme.access_pattern.age.min_ns
    where = [Where(mapping, cgroups) for mapping in snapshot.mappings]
    columns = [regions[name][order].tolist() for name in ("start", "end", "present_bytes", "mapping")]
    return [Candidate(scheme.name, start, end, min_idle_ns, age, part, present, scheme.filters, where[mapping])
            for start, end, present, mapping, age, part in zip(
                *columns, age_ns[order].tolist(), share[order].tolist(), strict=True)]


def allowed(candidate: Candidate, pages: PageState) -> Mask:
    """Pages of the candidate that pass its filters, whatever their state. Shape (n,)."""
    first = max(0, -(-(candidate.start - pages.start) // PAGE))
    last = max(first, (candidate.end - pages.start) // PAGE)
    mask = passing(candidate.filters, Pages(pages.start, pages.young, pages.huge), candidate.where)
    mask[:first] = False
    mask[last:] = False
    return mask


def cold_runs(candidate: Candidate, pages: PageState, now_ns: int, limit_bytes: int | None = None) -> Addresses:
    """Runs of the candidate's pages that are resident, idle for long enough, not young, and pass its filters.

    A page that is absent, young or touched too recently ends a run; nothing is bridged. What came back from an
    earlier page-out has to be idle for longer. A huge page counts as touched
    if any of it was, and is taken whole or not at all: not if it reaches out of the candidate, nor if it does not fit
    into the limit.

    Args:
        candidate: Whose bounds and idle time hold. Pages outside its bounds are left alone.
        pages: Read just now. Pages of the candidate that are not in it are left alone.
        now_ns: When they were read.
        limit_bytes: At most this much in all, first addresses first; None: no limit.

    Returns:
        Shape (m, 2): start and end, sorted, disjoint and not adjoining.
    """
    cold = _cold(candidate, pages, now_ns)
    if limit_bytes is not None:
        _keep_at_most(cold, pages, limit_bytes // PAGE)
    return runs_of(cold, pages.start)


def _cold(candidate: Candidate, pages: PageState, now_ns: int) -> Mask:
    """Pages that may be acted on, were there no limit. Shape (n,)."""
    cold: Mask = _looks_cold(candidate, pages, now_ns) & allowed(candidate, pages)
    _keep_whole_chunks(cold, pages)
    return cold


def _looks_cold(candidate: Candidate, pages: PageState, now_ns: int) -> Mask:
    looks: Mask = pages.present & ~pages.young & pages.is_idle(candidate.min_idle_ns, now_ns)
    return looks & np.logical_not(pages.rests)


def withheld(candidate: Candidate, pages: PageState, now_ns: int) -> Mask:
    """Pages that are cold and may not go all the same, for their filters or as parts of huge pages. Shape (n,).

    To read them again in a moment would tell the same.
    """
    return _looks_cold(candidate, pages, now_ns) & ~_cold(candidate, pages, now_ns)


def in_use(candidate: Candidate, pages: PageState, known: Mask, now_ns: int) -> Mask:
    """Pages that stay although their region looks idle: they pass its filters, and are known to be touched.

    Args:
        candidate: Whose bounds and idle time hold.
        pages: Read just now.
        known: Pages that were seen untouched at least once; of the others nobody knows.
        now_ns: When they were read.

    Returns:
        Shape (n,).
    """
    touched: Mask = pages.young | (pages.idle_since_ns > now_ns - candidate.min_idle_ns)
    return touched & pages.present & known & allowed(candidate, pages)


def absent_runs(candidate: Candidate, pages: PageState, limit_bytes: int | None = None) -> Addresses:
    """Runs of the candidate's pages that are in swap or in a file, and pass its filters: shape (m, 2), sorted."""
    absent = ~pages.present & pages.to_read & np.logical_not(pages.rests) & allowed(candidate, pages)
    if limit_bytes is not None:
        absent[np.flatnonzero(absent)[limit_bytes // PAGE:]] = False
    return runs_of(absent, pages.start)


def present_runs(candidate: Candidate, pages: PageState, limit_bytes: int | None = None) -> Addresses:
    """Runs of the candidate's pages that are resident and pass its filters: shape (m, 2), sorted."""
    present = pages.present & np.logical_not(pages.rests) & allowed(candidate, pages)
    if limit_bytes is not None:
        present[np.flatnonzero(present)[limit_bytes // PAGE:]] = False
    return runs_of(present, pages.start)


def chunks_to_collapse(candidate: Candidate, pages: PageState, limit_bytes: int | None = None) -> Addresses:
    """Aligned 2 MiB of the candidate that are worth one huge page: hardly a page of them is missing.

    What is missing would be filled with zeroes, and be memory that the program never asked for: what makes THP dear.

    Args:
        candidate: Whose bounds and filters hold.
        pages: Read just now.
        limit_bytes: At most this much in all, first addresses first; None: no limit.

    Returns:
        Shape (m, 2): start and end of each.
    """
    fine = _by_chunk(pages, allowed(candidate, pages)).all(axis=1) & ~_by_chunk(pages, pages.huge).any(axis=1)
    fine &= ~_by_chunk(pages, pages.present & pages.rests).any(axis=1)
    fine &= _by_chunk(pages, pages.present).sum(axis=1) >= _WORTH_A_HUGE_PAGE * _CHUNK_PAGES
    return _chunks(fine, pages, limit_bytes)


def chunks_to_split(candidate: Candidate, pages: PageState, now_ns: int, limit_bytes: int | None = None) -> Addresses:
    """Huge pages of the candidate that are touched in spite of it: split, it will be seen which part of them is.

    Args:
        candidate: Whose bounds and filters hold. Huge pages that are idle as a whole are for `cold_runs`.
        pages: Read just now.
        now_ns: When they were read.
        limit_bytes: At most this much in all, first addresses first; None: no limit.

    Returns:
        Shape (m, 2): start and end of each.
    """
    touched = pages.young | (pages.idle_since_ns > now_ns - candidate.min_idle_ns)
    wanted = _by_chunk(pages, allowed(candidate, pages) & pages.huge & np.logical_not(pages.rests))
    chosen: Mask = np.logical_and(wanted.all(axis=1), _by_chunk(pages, touched).any(axis=1))
    return _chunks(chosen, pages, limit_bytes)


def _by_chunk(pages: PageState, mask: Mask) -> Mask:
    """The mask in rows of whole aligned chunks; pages beyond the range are false. Shape (c, 512)."""
    before = pages.start // PAGE % _CHUNK_PAGES
    rows: Mask = np.pad(mask, (before, -(before + mask.size) % _CHUNK_PAGES)).reshape(-1, _CHUNK_PAGES)
    return rows


def _chunks(chosen: Mask, pages: PageState, limit_bytes: int | None) -> Addresses:
    index = np.flatnonzero(chosen)[: None if limit_bytes is None else limit_bytes // CHUNK].astype(np.uint64)
    start = np.uint64(pages.start // CHUNK * CHUNK) + index * np.uint64(CHUNK)
    return np.column_stack((start, start + np.uint64(CHUNK)))


def _keep_whole_chunks(cold: Mask, pages: PageState) -> None:
    """Drop, in place, the pages of huge pages that are not cold as a whole."""
    if not pages.huge.any():
        return
    before = pages.start // PAGE % _CHUNK_PAGES
    after = -(before + cold.size) % _CHUNK_PAGES
    whole = np.pad(cold & pages.huge, (before, after)).reshape(-1, _CHUNK_PAGES).all(axis=1)
    cold &= ~pages.huge | np.repeat(whole, _CHUNK_PAGES)[before:before + cold.size]


def _keep_at_most(cold: Mask, pages: PageState, count: int) -> None:
    """Drop, in place, what is beyond the first `count` pages, and the huge page that would be cut by that."""
    chosen = np.flatnonzero(cold)
    if chosen.size <= count:
        return
    cut = int(chosen[count])
    if not pages.huge[cut]:
        cold[cut:] = False
        return
    # What the huge page leaves free goes to small pages behind it, or a quota below 2 MiB would stop at the first one.
    chunk = cut - (pages.start // PAGE + cut) % _CHUNK_PAGES  # not before the first page: it is whole, or not cold
    behind = cold[chunk:] & ~pages.huge[chunk:]
    cold[chunk:] = False
    small = chunk + np.flatnonzero(behind)[:count - np.count_nonzero(cold)]
    cold[small] = True
