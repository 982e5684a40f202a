# SPDX-License-Identifier: GPL-2.0-only
"""Recordings for weeks: in parts, packed, read as one, and of that what lies between two times."""

from __future__ import annotations

import argparse
import lzma
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import BASE, MIB, SECOND, region, snapshot, touched_region
from pagepulse.capture import Recorder, Recording, Recordings, Rotation, Series, TimeRange, When
from pagepulse.capture.codec import Undecodable
from pagepulse.capture.packed import pack
from pagepulse.capture.parts import drop_oldest, ended_parts, ended_path, keep_old, worth_opening
from pagepulse.capture.recordings import EVER
from pagepulse.cli.times import parse_when, when
from pagepulse.errors import PagepulseError, RefusedFile, UsageError

EACH = Rotation(size_bytes=1)
"""Every snapshot ends a part."""


def many(count: int, pids: int = 1, apart_ns: int = SECOND):
    """Snapshots of several processes in turn, each of them different."""
    return [snapshot(touched_region(BASE, (1 + place % 3) * MIB, share=place % 5 / 5), region(BASE + 8 * MIB),
                     pid=1 + place % pids, start_ns=10 * SECOND + place * apart_ns, mappings=(f"[anon]{place % pids}",))
            for place in range(count)]


def write(path: Path, snapshots, rotation: Rotation = EACH, **header):
    begun_ns, wall_ns = snapshots[0].start_ns, time.time_ns()
    now = [begun_ns]
    with (patch("time.monotonic_ns", lambda: now[0]), patch("time.time_ns", lambda: wall_ns + now[0] - begun_ns),
          Series(path, {"boot_id": "one", **header}, rotation, force=True) as kept):
        for one in snapshots:
            now[0] = one.end_ns
            kept.write(one)
        kept.close({})
    return [*ended_parts(path), path]


def spans(snapshots):
    return [(one.pid, one.start_ns, one.end_ns, one.mappings, len(one.regions)) for one in snapshots]


def spans_in(paths, shown: TimeRange = EVER, pid=None):
    with Recordings.open(paths, shown) as recordings:
        return spans(recordings.snapshots(pid))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 12), pids=st.integers(1, 3), size=st.sampled_from([1, 1500, 1 << 20]),
       packed=st.sets(st.integers(0, 11)))
def test_the_parts_together_hold_what_was_written_packed_or_not(count, pids, size, packed):
    with tempfile.TemporaryDirectory() as folder:
        written = many(count, pids)
        parts = write(Path(folder) / "a.data", written, Rotation(size_bytes=size))
        parts = [pack(part) if place in packed and part.name != "a.data" else part for place, part in enumerate(parts)]
        assert spans_in(parts) == spans_in([Path(folder)]) == spans(written)


def test_each_part_is_a_recording_by_itself_and_the_newest_has_the_name_that_was_asked_for(tmp_path):
    *old, newest = parts = write(tmp_path / "a.data", many(3))
    assert newest == tmp_path / "a.data"
    assert len(old) == 2
    for part, expected in zip(parts, many(3), strict=True):
        with Recording.open(part) as recording:
            assert spans(recording.snapshots()) == spans([expected])
            assert not recording.complaint
    assert not list(tmp_path.glob(".*"))


def test_a_part_ends_by_age_too(tmp_path):
    assert len(write(tmp_path / "a.data", many(4), Rotation(every_ns=1))) == 4


def test_only_so_many_old_parts_are_kept(tmp_path):
    (tmp_path / "a-notes.data").write_text("mine")
    parts = write(tmp_path / "a.data", many(9), replace(EACH, keep=3))
    assert spans_in(parts) == spans(many(9)[-4:])
    assert (tmp_path / "a-notes.data").exists()


@pytest.mark.parametrize("jump", [timedelta(0), timedelta(days=-400), timedelta(days=400), timedelta(microseconds=-1)])
def test_a_clock_that_jumps_or_stands_still_costs_no_part_but_the_oldest(tmp_path, jump):
    before = datetime(2026, 11, 23, 12, tzinfo=UTC)
    with patch("pagepulse.capture.series.datetime") as clock:
        for now, written in ((before, many(5)[:3]), (before + jump, many(5)[3:])):
            clock.now.return_value = now
            write(tmp_path / "a.data", written, replace(EACH, keep=3))
            (tmp_path / "a.data").rename(ended_path(tmp_path / "a.data", now))
    assert len(ended_parts(tmp_path / "a.data")) == 4
    assert spans_in([tmp_path]) == spans(many(5)[-4:])


def test_a_packed_part_and_its_remains_count_once_and_go_together(tmp_path):
    first, *_ = write(tmp_path / "a.data", many(3))
    content = first.read_bytes()
    pack(first)
    first.write_bytes(content)  # as if the packer had been killed before it took the old one away
    assert spans_in([tmp_path]) == spans(many(3))
    with Series(tmp_path / "a.data", {}, replace(EACH, keep=1), force=True) as kept:
        kept.write(many(1)[0])
        assert len(list(tmp_path.glob("a-*"))) == 1


def test_what_holds_is_told_again_at_the_beginning_of_each_part(tmp_path):
    with Series(tmp_path / "a.data", {}, EACH) as kept:
        kept.event("watched", {"pid": 1, "name": "one"})
        kept.event("watched", {"pid": 2, "name": "two"})
        kept.event("exec", {"pid": 1})
        for one in many(2):
            kept.write(one)
        kept.event("ended", {"pid": 2})
        kept.write(many(3)[-1])
        kept.close({})
    told = []
    for part in [*ended_parts(tmp_path / "a.data"), tmp_path / "a.data"]:
        with Recording.open(part) as recording:
            told.append([(event.kind, event.data["pid"]) for event in recording.events()])
    assert told == [[("watched", 1), ("watched", 2), ("exec", 1)], [("watched", 1), ("watched", 2), ("ended", 2)],
                    [("watched", 1)]]


def test_where_no_new_part_can_be_begun_it_goes_on_in_the_old_one(tmp_path):
    (tmp_path / ".a.data.next").mkdir()
    with Series(tmp_path / "a.data", {}, EACH) as kept:
        for one in many(3):
            kept.write(one)
        assert "no new part can be begun" in kept.fault
        kept.close({})
    assert spans_in([tmp_path / "a.data"]) == spans(many(3))


def test_the_packer_is_told_of_what_is_not_packed_yet(tmp_path):
    told = []
    with Series(tmp_path / "a.data", {}, EACH, pack=told.append) as kept:
        for one in many(3):
            kept.write(one)
        kept.close({})
    assert [len(parts) for parts in told] == [0, 1, 2]
    assert told[-1] == ended_parts(tmp_path / "a.data")


def test_a_recorder_that_was_killed_leaves_a_part(tmp_path):
    path, = write(tmp_path / "a.data", many(1), Rotation())
    keep_old(path)
    keep_old(path)
    assert not path.exists()
    assert len(ended_parts(path)) == 1


@pytest.mark.parametrize("left", [b"", b"\x89page", None])
def test_a_recorder_that_was_killed_before_its_first_snapshot_leaves_nothing(tmp_path, left):
    path = tmp_path / "a.data"
    Recorder(path, {}).close({}) if left is None else path.write_bytes(left)
    keep_old(path)
    assert not list(tmp_path.iterdir())


def test_starts_without_a_snapshot_push_no_part_out(tmp_path):
    path, rotation = tmp_path / "a.data", replace(EACH, keep=3)
    before = [part.name for part in write(path, many(4), rotation)[:-1]]
    keep_old(path)
    for _ in range(5):
        keep_old(path)
        Series(path, {}, rotation).close({})
    assert [part.name for part in ended_parts(path)][:3] == before
    assert len(ended_parts(path)) == 4


def test_stubs_that_are_there_count_for_nothing_packed_or_not(tmp_path):
    path = tmp_path / "a.data"
    write(path, many(3), EACH)
    for day in range(1, 6):
        stub = ended_path(path, datetime(2030, 1, day, tzinfo=UTC))
        Recorder(stub, {}).close({})
        if day % 2:
            pack(stub)
    real = ended_parts(path)[:2]
    drop_oldest(path, 2)
    assert set(real) <= set(ended_parts(path))


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("mine, and no recording"),
                                  lambda path: path.symlink_to("elsewhere"), os.mkfifo])
def test_what_is_no_recording_is_not_moved(tmp_path, make):
    path = tmp_path / "a.data"
    make(path)
    with pytest.raises(PagepulseError, match="stays as it is"):
        keep_old(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.data"]


def test_what_another_recorder_writes_is_neither_moved_nor_packed(tmp_path):
    path = tmp_path / "a.data"
    with Recorder(path, {}) as recorder:
        recorder.write(many(1)[0])
        for touch in (keep_old, pack):
            with pytest.raises(PagepulseError, match="is being written"):
                touch(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.data"]


# --- packed --------------------------------------------------------------------------------------------------------

def test_a_packed_recording_is_smaller_and_an_ordinary_xz_file(tmp_path):
    path, = write(tmp_path / "a.data", many(300), Rotation())
    size, times = path.stat().st_size, path.stat().st_mtime_ns
    packed = pack(path)
    assert not path.exists()
    assert packed.stat().st_size < 0.7 * size
    assert packed.stat().st_mtime_ns == times
    assert packed.stat().st_mode & 0o777 == 0o600
    (tmp_path / "b.data").write_bytes(lzma.decompress(packed.read_bytes()))
    assert spans_in([tmp_path / "b.data"]) == spans_in([packed]) == spans(many(300))


def test_what_is_not_whole_is_not_packed(tmp_path):
    path, = write(tmp_path / "a.data", many(3), Rotation())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Undecodable):
        pack(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.data"]


@settings(max_examples=40, deadline=None)
@given(share=st.integers(0, 999), is_cut=st.booleans(), bit=st.integers(0, 7))
def test_a_packed_recording_that_is_cut_or_damaged_gives_what_is_before_or_says_why(share, is_cut, bit):
    with tempfile.TemporaryDirectory() as folder:
        packed = pack(write(Path(folder) / "a.data", many(40), Rotation())[0])
        content = bytearray(packed.read_bytes())
        place = 6 + share * (len(content) - 6) // 1000  # behind what makes it an xz file
        if is_cut:
            del content[place:]
        else:
            content[place] ^= 1 << bit
        packed.write_bytes(content)
        try:
            found = spans_in([packed])
        except RefusedFile:
            return
        assert found == spans(many(40))[:len(found)]


# --- between two times ---------------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(pids=st.integers(1, 3), apart=st.sampled_from([SECOND // 2, 7 * SECOND, 40 * SECOND]), parts=st.booleans(),
       since=st.integers(0, 1000), until=st.integers(0, 1000))
def test_of_a_recording_what_ends_between_two_times_and_nothing_else(pids, apart, parts, since, until):
    written = many(60, pids, apart)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "a.data", written, Rotation(size_bytes=4000 if parts else None))
        with Recordings.open([Path(folder)]) as recordings:
            origin_ns = recordings._sources[0].begun_ns
        since_ns, until_ns = (written[-1].end_ns * share // 1000 for share in (since, until))
        shown = TimeRange(When(from_begin_ns=since_ns - origin_ns), When(from_begin_ns=until_ns - origin_ns))
        expected = [one for one in written if since_ns <= one.end_ns <= until_ns]
        assert spans_in([Path(folder)], shown) == spans(expected)


DAY = 86_400 * SECOND


@pytest.mark.parametrize(("since", "until", "opened"), [
    (None, None, [1, 2, 3, 4, 5]), (3.5, None, [3, 4, 5]), (None, 1.5, [1, 2, 3]), (3.2, 3.4, [3, 4, 5]),
    (99, None, [5])])
def test_parts_whose_names_tell_that_nothing_of_them_is_shown_are_not_even_opened(tmp_path, since, until, opened):
    """Within a day of what is shown, the clock on the wall may have been set meanwhile."""
    begun = datetime(2026, 11, 1, tzinfo=UTC)
    stamps = {day: f"{begun + timedelta(days=day):%Y%m%dT%H%M%S.%fZ}" for day in range(1, 6)}
    parts = [tmp_path / f"a-{stamp}.data.xz" for stamp in stamps.values()]
    begun_ns = int(begun.timestamp()) * SECOND
    limits = [None if day is None else begun_ns + int(day * DAY) for day in (since, until)]
    assert worth_opening(parts, *limits) == [parts[day - 1] for day in opened]


def test_what_is_no_part_is_always_opened_and_each_recording_has_its_own_parts(tmp_path):
    names = ["a-20261101T000000.000000Z.data", "a-notes.data", "a.data", "b-20261103T000000.000000Z.data.xz",
             "c-20269999T000000.000000Z.data"]
    since_ns = int(datetime(2026, 11, 3, tzinfo=UTC).timestamp()) * SECOND
    found = [tmp_path / name for name in names]
    assert worth_opening(found, since_ns, None) == found[1:]
    assert worth_opening(found, None, since_ns - 9 * DAY) == found


def test_of_a_damaged_part_that_is_not_shown_nothing_is_said(tmp_path):
    parts = write(tmp_path / "a.data", many(2))
    parts[0].rename(old := tmp_path / "a-20200101T000000.000000Z.data")
    old.write_bytes(b"not a recording at all")
    with pytest.raises(RefusedFile):
        spans_in([tmp_path])
    assert spans_in([tmp_path], TimeRange(since=When(1_700_000_000 * SECOND))) == spans(many(2)[1:])


def test_nothing_between_two_times_is_said(tmp_path):
    parts = write(tmp_path / "a.data", many(2))
    with (Recordings.open(parts, TimeRange(until=When(1))) as recordings,
          pytest.raises(PagepulseError, match="no snapshot lies between")):
        recordings.require_snapshots()


def test_recordings_of_another_boot_are_moved_by_the_clock_on_the_wall(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 1000 * SECOND)
    write(tmp_path / "a.data", many(1), Rotation())
    monkeypatch.setattr("time.time_ns", lambda: 1600 * SECOND)
    write(tmp_path / "b.data", many(1), Rotation(), boot_id="two")
    with Recordings.open([tmp_path]) as recordings:
        first, second = recordings.snapshots()
        assert second.end_ns - first.end_ns == 600 * SECOND
        assert [event.data["pid"] for event in recordings.events() if event.kind == "ended"] == [1]


@pytest.mark.parametrize("jump_s", [3600, -400])
def test_the_time_of_day_is_that_of_the_part_that_was_written_then(tmp_path, monkeypatch, jump_s):
    """An hour of suspend between two parts, during which CLOCK_MONOTONIC stood still; or a clock that was set back."""
    for name, first, wall_s in (("a", 0, 1000), ("b", 10, 1010 + jump_s)):
        monkeypatch.setattr("time.time_ns", lambda wall_s=wall_s: wall_s * SECOND)
        write(tmp_path / f"{name}.data", many(20)[first:first + 10], Rotation())
    for since_s, left in ((1010 + jump_s + 4, 6), (1010 + jump_s - 1, 20 if jump_s < 0 else 10)):
        assert len(spans_in([tmp_path], TimeRange(When(since_s * SECOND + 1)))) == left


@pytest.mark.parametrize("jump_s", [3600, -400])
def test_the_time_of_day_is_told_anew_in_a_recording_during_which_it_jumped(tmp_path, monkeypatch, jump_s):
    path, written = tmp_path / "r.data", many(20)
    monotonic_ns, wall_ns = [written[0].start_ns], [1000 * SECOND]
    monkeypatch.setattr("time.monotonic_ns", lambda: monotonic_ns[0])
    monkeypatch.setattr("time.time_ns", lambda: wall_ns[0])
    with Recorder(path, {}) as recorder:
        for place, one in enumerate(written):
            wall_ns[0] += one.end_ns - monotonic_ns[0] + (jump_s * SECOND if place == 10 else 0)
            monotonic_ns[0] = one.end_ns
            recorder.write(one)
        recorder.close({})
    with Recordings.open([path]) as recordings:
        assert [event.at_ns for event in recordings.events() if event.kind == "clock"] == [written[10].end_ns]
    for since_s, left in ((1019 + jump_s, 1), (1010 + jump_s, 20 if jump_s < 0 else 10), (1011 + jump_s, 9)):
        assert len(spans_in([path], TimeRange(When(since_s * SECOND)))) == left


def test_files_of_one_boot_keep_their_times_to_the_nanosecond(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.data", many(3), Rotation())
    assert spans_in([tmp_path]) == [span for one in spans(many(3)) for span in (one, one)]


def test_one_that_is_still_written_says_so_and_gives_what_there_is(tmp_path):
    with Series(tmp_path / "a.data", {}, EACH) as kept:
        for count in range(1, 4):
            kept.write(many(count)[-1])
            with Recordings.open([tmp_path]) as recordings:
                assert spans(recordings.snapshots()) == spans(many(count))
                assert ["still being written" in text for text in recordings.complaints] == [True]
        kept.close({})


def opening_after(what):
    """While the first of several recordings is opened, this happens."""
    to_do, opened = [what], Recording.open

    def open_later(path):
        if to_do:
            to_do.pop()()
        return opened(path)
    return patch.object(Recording, "open", open_later)


def test_a_part_that_ends_while_its_folder_is_opened_is_not_missed(tmp_path):
    *before, last = many(4)
    with Series(tmp_path / "r.data", {}, EACH) as kept:
        for one in before:
            kept.write(one)
        with opening_after(lambda: kept.write(last)):
            assert spans_in([tmp_path]) == spans([*before, last])


def test_a_part_that_is_packed_while_its_folder_is_opened_counts_once(tmp_path):
    first, *_ = write(tmp_path / "r.data", many(3))
    with opening_after(lambda: pack(first)):
        assert spans_in([tmp_path]) == spans(many(3))


def test_a_part_that_is_removed_while_its_folder_is_opened_is_no_error(tmp_path):
    first, *_ = write(tmp_path / "r.data", many(3))
    with opening_after(first.unlink):
        assert spans_in([tmp_path]) == spans(many(3)[1:])
    with opening_after((tmp_path / "r.data").unlink), pytest.raises(RefusedFile, match="cannot open"):
        spans_in([tmp_path / "r.data"])


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(RefusedFile, match="no recording in"):
        Recordings.open([tmp_path])


def test_sizes_and_times_that_make_no_sense_are_told():
    assert not Rotation(size_bytes=1 << 20, every_ns=SECOND, keep=1).fault
    for rotation in (Rotation(size_bytes=1), Rotation(every_ns=1), Rotation(keep=0)):
        assert " must be at least " in rotation.fault


# --- times ---------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 23, 14, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(("text", "expected"), [
    ("now", NOW), ("today", datetime(2026, 11, 23, tzinfo=UTC)), ("yesterday", datetime(2026, 11, 22, tzinfo=UTC)),
    ("-90m", datetime(2026, 11, 23, 12, 35, 30, tzinfo=UTC)), ("2h ago", datetime(2026, 11, 23, 12, 5, 30, tzinfo=UTC)),
    ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
    ("@1700000000", datetime.fromtimestamp(1.7e9, UTC)),
])
def test_times_are_written_as_for_journalctl(text, expected):
    assert parse_when(text, NOW) == When(round(expected.timestamp()) * SECOND)


def test_a_time_without_a_zone_is_of_this_place():
    assert parse_when("2026-11-20 10:00", NOW).wall_ns == round(datetime(2026, 11, 20, 10).timestamp()) * SECOND  # noqa: DTZ001
    assert parse_when("10:00:05", NOW).wall_ns == round(datetime(2026, 11, 23, 10, 0, 5).timestamp()) * SECOND  # noqa: DTZ001


def test_a_time_may_count_from_the_beginning_of_the_recording():
    assert parse_when("+10s") == When(from_begin_ns=10 * SECOND)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "+", "-", "10", "2026-13-01", "@", "@x"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected 2026-11-23 14:05"):
        when(text)


def test_an_existing_file_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "a.data").write_text("mine")
    with pytest.raises(UsageError):
        Series(tmp_path / "a.data", {})
