# SPDX-License-Identifier: GPL-2.0-only
"""Recordings: several of them, or the parts of one, as one; all of it, or what lies between two times.

Times are those of CLOCK_MONOTONIC in the oldest one's boot: recordings of later boots are moved by what the clock on
the wall says of the two.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from pagepulse.capture.parts import PACKED, worth_opening
from pagepulse.capture.recorder import CLOCK
from pagepulse.capture.recording import Event, Recording
from pagepulse.errors import PagepulseError, RefusedFile
from pagepulse.model.snapshot import Snapshot

_SAME_BOOT_NS = 1_000_000_000  # recordings from before boots had names: how far the clocks of one boot drift apart
_SUFFIXES = (".data", ".data" + PACKED)


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, and how its times are told."""

    recording: Recording
    later_ns: int
    """To be added to its times."""
    begun_ns: int
    """On the common clock."""
    series: tuple[str, int]
    """Of which series it is a part, and which."""


@dataclass(frozen=True, slots=True)
class When:
    """A moment, in nanoseconds; of the two at most one. Neither: at any time."""

    wall_ns: int | None = None
    """By the clock on the wall, since 1970."""
    from_begin_ns: int | None = None
    """From the beginning of the recording."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """What is to be seen of a recording."""

    since: When = When()
    until: When = When()


EVER = TimeRange()


class Recordings:
    """What a report reads. Use `Recordings.open` and a `with` statement."""

    def __init__(self, sources: Sequence[_Source], shown: TimeRange, stack: ExitStack) -> None:
        self._stack = stack
        self.since_ns = _limit(shown.since, sources) or 0
        self.until_ns = _limit(shown.until, sources)
        self._is_limited = shown != EVER
        self._all = sorted(sources, key=lambda source: (source.begun_ns, source.series))
        self._sources = [source for source in self._all if self._may_hold(source)] or self._all[-1:]
        self.header = self._sources[-1].recording.header
        self.path = self._sources[-1].recording.path

    @classmethod
    def open(cls, paths: Iterable[Path], shown: TimeRange = EVER) -> Recordings:
        """Open files and folders of recordings, and check every chunk of them.

        Args:
            paths: A folder stands for all recordings in it, but for parts whose names tell that none of it is shown.
            shown: What is to be seen of them.

        Raises:
            RefusedFile: One of the files is no recording, or cannot be opened.
        """
        with ExitStack() as stack:
            opened = _all_opened(list(paths), shown, stack)
            oldest = min(opened, key=_realtime_ns)
            offset_ns = _clock(oldest, "realtime_ns") - _clock(oldest, "monotonic_ns")
            sources = [_source(recording, oldest, offset_ns) for recording in opened]
            return cls(sources, shown, stack.pop_all())

    @property
    def complaints(self) -> list[str]:
        """What is missing of them, in words for the user."""
        return [source.recording.complaint for source in self._sources if source.recording.complaint]

    def events(self) -> list[Event]:
        """What happened, in order, up to the end of what is shown. Whoever a recorder let go of counts as ended."""
        return self._happened

    @cached_property
    def _happened(self) -> list[Event]:
        events = [replace(event, at_ns=event.at_ns + source.later_ns)
                  for source in self._sources for event in source.recording.events()]
        parts = {source.series for source in self._all}
        for source in self._sources:
            series, part = source.series
            if (series, part + 1) not in parts and source is not self._all[-1]:
                events += self._ends_of(source)
        return sorted((event for event in events if self._is_before_end(event.at_ns)), key=lambda event: event.at_ns)

    def _ends_of(self, source: _Source) -> list[Event]:
        seen = {snapshot.pid: snapshot.end_ns for snapshot in self._of(source, None, 0)}
        last_ns = max(seen.values(), default=0)
        return [Event("ended", last_ns, {"pid": pid}) for pid in seen]

    def pids(self) -> list[int]:
        """The processes in what is shown, in the order in which they were first seen."""
        if not self._is_limited:
            return list(dict.fromkeys(pid for source in self._sources for pid in source.recording.pids()))
        return list(dict.fromkeys(snapshot.pid for snapshot in self.snapshots()))

    def snapshots(self, pid: int | None = None, lead_ns: int = 0) -> Iterator[Snapshot]:
        """All that end within what is shown, oldest first. Can be called again.

        Args:
            pid: Those of this process alone.
            lead_ns: Begin so much earlier.

        Raises:
            RefusedFile: A snapshot came through whole and makes no sense.
        """
        since_ns = max(self.since_ns - lead_ns, 0)
        merged = heapq.merge(*(self._of(source, pid, since_ns) for source in self._sources),
                             key=lambda snapshot: snapshot.end_ns)
        for snapshot in merged:
            if not self._is_before_end(snapshot.end_ns):
                return
            yield snapshot

    def last(self, pid: int | None = None) -> Snapshot:
        """The newest snapshot; of this process, if one is given.

        Raises:
            PagepulseError: There is none.
        """
        if len(self._sources) == 1 and self.until_ns is None:
            source = self._sources[0]
            return _moved(source.recording.last(pid), source.later_ns)
        newest = deque(self.snapshots(pid), maxlen=1)
        if not newest:
            raise self._nothing()
        return newest[0]

    def require_snapshots(self) -> None:
        """Refuse to report on nothing.

        Raises:
            PagepulseError: There is no snapshot in what is shown.
        """
        if not self._is_limited and len(self._sources) == 1:
            self._sources[0].recording.require_snapshots()
        if not any(True for _ in islice(self.snapshots(), 1)):
            raise self._nothing()

    def close(self) -> None:
        """Let go of the files."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _of(self, source: _Source, pid: int | None, since_ns: int) -> Iterator[Snapshot]:
        for snapshot in source.recording.snapshots(pid, max(since_ns - source.later_ns, 0)):
            yield _moved(snapshot, source.later_ns)

    def _is_before_end(self, at_ns: int) -> bool:
        return self.until_ns is None or at_ns <= self.until_ns

    def _may_hold(self, source: _Source) -> bool:
        """Whether it can hold anything of what is shown: a part ends where the next one begins."""
        following = (source.series[0], source.series[1] + 1)
        ends_ns = next((other.begun_ns for other in self._all if other.series == following), None)
        return self._is_before_end(source.begun_ns) and (ends_ns is None or ends_ns >= self.since_ns)

    def _nothing(self) -> PagepulseError:
        if self._is_limited:
            return PagepulseError("no snapshot lies between these times",
                                  hint="see --since and --until; without them all of a recording is shown")
        return PagepulseError(f"{self.path} holds no snapshot",
                              why="the recording ended before its first aggregation interval did",
                              hint="record for longer than one --aggregate interval")


def _limit(when: When, sources: Sequence[_Source]) -> int | None:
    """On the common clock.

    Of what the clock on the wall showed, the last that it had shown by then tells: it may have been set since the
    first, and the other one stands still while the machine is suspended.
    """
    if when.from_begin_ns is not None:
        return min(source.begun_ns for source in sources) + when.from_begin_ns
    if when.wall_ns is None:
        return None
    shown = _shown_on_the_wall(sources)
    at_ns, wall_ns = next((one for one in reversed(shown) if one[1] <= when.wall_ns), shown[0])
    return min([at_ns + when.wall_ns - wall_ns, *(later_ns for later_ns, _ in shown if later_ns > at_ns)])


def _shown_on_the_wall(sources: Sequence[_Source]) -> list[tuple[int, int]]:
    """When on the common clock, and what: as each part began, and after each jump."""
    shown = [(source.begun_ns, _realtime_ns(source.recording)) for source in sources]
    for source in sources:
        jumps = [event for event in source.recording.events() if event.kind == CLOCK]
        shown += [(event.at_ns + source.later_ns, int(event.data["realtime_ns"])) for event in jumps]
    return sorted(shown)


def _files(paths: Iterable[Path], shown: TimeRange) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(entry for entry in path.iterdir() if entry.name.endswith(_SUFFIXES)
                           and not entry.name.startswith("."))
            if not found:
                raise RefusedFile(f"there is no recording in {path}", why="no name in it ends in .data or .data.xz")
            found = [entry for entry in found if entry.suffix != PACKED or entry.with_suffix("") not in found]
            # What is told from the beginning needs the beginning.
            is_by_wall = shown.since.from_begin_ns is None and shown.until.from_begin_ns is None
            files += worth_opening(found, shown.since.wall_ns, shown.until.wall_ns) if is_by_wall else found
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def _all_opened(paths: Sequence[Path], shown: TimeRange, stack: ExitStack) -> list[Recording]:
    """Each once. Their recorder may end a part meanwhile, which then has another name: folders are listed again."""
    tried: set[Path] = set()
    opened: dict[tuple[str, int], Recording] = {}
    while new := [path for path in _files(paths, shown) if path not in tried]:
        tried.update(new)
        for path in new:
            recording = _opened(path, is_listed=path not in paths)
            if recording is not None:
                opened.setdefault(_series(stack.enter_context(recording)), recording)
    return list(opened.values())


def _opened(path: Path, *, is_listed: bool) -> Recording | None:
    """Packing may replace a file after it was listed, and its recorder remove it: None."""
    try:
        return Recording.open(path)
    except RefusedFile:
        packed = path.with_name(path.name + PACKED)
        if path.exists():
            raise
        if packed.exists():
            return Recording.open(packed)
        if is_listed:
            return None
        raise


def _clock(recording: Recording, name: str) -> int:
    clock = recording.header.get("clock")
    value = clock.get(name) if isinstance(clock, dict) else None
    return value if isinstance(value, int) else 0


def _realtime_ns(recording: Recording) -> int:
    return _clock(recording, "realtime_ns")


def _source(recording: Recording, oldest: Recording, offset_ns: int) -> _Source:
    later_ns = _clock(recording, "realtime_ns") - _clock(recording, "monotonic_ns") - offset_ns
    boots = [one.header.get("boot_id") for one in (recording, oldest)]
    if boots[0] == boots[1] if all(boots) else abs(later_ns) < _SAME_BOOT_NS:
        later_ns = 0
    return _Source(recording, later_ns, _clock(recording, "monotonic_ns") + later_ns, _series(recording))


def _series(recording: Recording) -> tuple[str, int]:
    """Of which series it is a part, and which; a recording that is none is one by itself."""
    series = recording.header.get("series")
    if isinstance(series, dict) and isinstance(series.get("id"), str) and isinstance(series.get("part"), int):
        return series["id"], series["part"]
    return str(recording.path).removesuffix(PACKED), 0


def _moved(snapshot: Snapshot, later_ns: int) -> Snapshot:
    """The same at another time."""
    if not later_ns:
        return snapshot
    regions = snapshot.regions.copy()
    regions["since_ns"] = (regions["since_ns"].astype("i8") + later_ns).clip(0)
    regions.flags.writeable = False
    return replace(snapshot, start_ns=snapshot.start_ns + later_ns, end_ns=snapshot.end_ns + later_ns, regions=regions)
