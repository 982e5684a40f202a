# SPDX-License-Identifier: GPL-2.0-only
"""Recordings: what goes in comes out, and bad luck with the disk costs the tail at most."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tempfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import BASE, MIB, SECOND, region, series, snapshot, touched_region
from pagepulse.capture import Recorder, Recording, quantised
from pagepulse.capture.codec import DIFF, MAGIC, PREAMBLE, SNAP, VERSION, Undecodable, frame
from pagepulse.capture.details import decode_faults, decode_shared
from pagepulse.errors import PagepulseError, RefusedFile, UsageError
from pagepulse.model.memory import PAGE
from pagepulse.model.snapshot import IDLE_EDGES_NS, REGION, Cost, SharedRange, Snapshot
from pagepulse.model.system import Delays, Pressure


def record(path, snapshots, summary=None, header=None):
    with Recorder(path, header or {"command": ["true"]}, force=True) as recorder:
        for one in snapshots:
            recorder.write(one)
        if summary is not None:
            recorder.close(summary)
    return path


def read(path):
    with Recording.open(path) as recording:
        return list(recording.snapshots())


def same(ours: Snapshot, theirs: Snapshot) -> bool:
    fields = [name for name in Snapshot.__slots__ if name != "regions"]
    return (all(getattr(ours, name) == getattr(theirs, name) for name in fields)
            and quantised(ours.regions).tobytes() == theirs.regions.tobytes())


size = st.integers(0, 2**62)


@st.composite
def snapshots(draw):
    """A list of snapshots whose regions split, merge, come and go."""
    result = []
    end_ns = draw(st.integers(1, 2**40))
    for _ in range(draw(st.integers(0, 6))):
        borders = sorted(draw(st.sets(st.integers(1, 40), max_size=12)))
        spans = [(a, b) for a, b in pairwise(borders) if draw(st.booleans())]
        names = draw(st.lists(st.sampled_from(["[heap]", "/usr/lib/libc.so.6", "", "naïve\n\x1b[31m", "\udc80raw"]),
                              min_size=1, max_size=3))
        rows = np.zeros(len(spans), REGION)
        for row, (first, last) in zip(rows, spans, strict=True):
            row["start"], row["end"] = BASE + first * PAGE, BASE + last * PAGE
            for name in ("since_ns", "present_bytes", "unknown_bytes", "unclearable_bytes", "touched_bytes"):
                row[name] = draw(size)
            row["nr_accesses"], row["rate_hz"] = draw(st.floats(0, 2**60, width=32)), draw(st.floats(0, 20, width=32))
            row["mapping"] = draw(st.integers(0, len(names) - 1))
        start_ns, end_ns = end_ns, end_ns + draw(st.integers(1, 2**36))
        result.append(Snapshot(
            pid=draw(st.integers(1, 2**22)), start_ns=start_ns, end_ns=end_ns, sampling_ns=draw(st.integers(1, 2**40)),
            regions=rows, mappings=tuple(names), rss_bytes=draw(size), wss_bytes=draw(size),
            idle_bytes=tuple(draw(size) for _ in IDLE_EDGES_NS), unknown_bytes=draw(size),
            unclearable_bytes=draw(size), dropped=draw(size), cost=Cost(draw(size), draw(size))))
    return result


@given(snapshots())
@settings(deadline=None)
def test_any_snapshots_come_back_with_only_the_estimates_rounded(given_snapshots):
    with tempfile.TemporaryDirectory() as folder:
        path = record(Path(folder) / "r", given_snapshots, {"snapshots": len(given_snapshots)})
        assert len(read(path)) == len(given_snapshots)
        assert all(same(ours, theirs) for ours, theirs in zip(given_snapshots, read(path), strict=True))


def test_rounding_keeps_a_relative_precision_of_one_in_256():
    rng = np.random.default_rng(7)
    rows = np.concatenate([region(BASE + i * MIB, MIB) for i in range(500)])
    rows["touched_bytes"] = rng.integers(0, MIB, 500)
    rows["nr_accesses"] = rng.random(500) * 20
    rows["rate_hz"] = 10 ** rng.uniform(-6, 6, 500)
    for name in ("touched_bytes", "nr_accesses", "rate_hz"):
        error = np.abs(quantised(rows)[name].astype(float) - rows[name].astype(float))
        assert (error <= rows[name] / 256).all(), name
        assert error.any(), name


def test_rounding_never_makes_more_touched_than_is_present():
    whole = region(present_bytes=1003 * PAGE, touched_bytes=1003 * PAGE)
    assert quantised(whole)["touched_bytes"] == 1003 * PAGE


def test_not_known_stays_not_known():
    assert np.isnan(quantised(region(rate_hz=float("nan")))["rate_hz"][0])




@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The bytes of a recording and, for each of its snapshots, the byte at which it ends."""
    path = tmp_path_factory.mktemp("sample") / "r"
    taken = series([0, 1, .5], [0, .9, .5], [.1, 1, .4], [0, 0, 0])
    taken.append(snapshot(region(BASE, 4 * MIB), touched_region(BASE + 4 * MIB), mappings=("[heap]", "other"),
                          start_ns=taken[-1].end_ns))
    ends = []
    with Recorder(path, {"command": ["true"]}) as recorder:
        for one in taken:
            recorder.write(one)
            ends.append(recorder.size_bytes)
        recorder.event("exec", {"argv": ["x"]})
        recorder.close({"snapshots": len(taken)})
    return path.read_bytes(), ends, taken


def test_cut_anywhere_a_recording_gives_every_snapshot_that_was_finished(sample, tmp_path):
    data, ends, taken = sample
    path = tmp_path / "r"
    refused = 0
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        try:
            with Recording.open(path) as recording:
                got = list(recording.snapshots())
                assert recording.truncated
                assert "snapshots" in recording.complaint
        except RefusedFile:
            refused += 1
            assert cut < ends[0]
            continue
        assert len(got) == sum(end <= cut for end in ends)
        assert all(same(ours, theirs) for ours, theirs in zip(taken, got, strict=False))
    assert 0 < refused < ends[0]


@given(st.data())
@settings(deadline=None, max_examples=400)
def test_no_flipped_bit_makes_a_traceback_or_a_wrong_snapshot(sample, data):
    original, _, taken = sample
    damaged = bytearray(original)
    damaged[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r"
        path.write_bytes(damaged)
        try:
            with Recording.open(path) as recording:
                got = list(recording.snapshots())
                assert recording.complaint
                recording.events()
        except PagepulseError:
            return
    assert all(same(ours, theirs) for ours, theirs in zip(taken, got, strict=False))


@given(st.binary(max_size=300), st.sampled_from([SNAP, DIFF, b"MAPS", b"EVNT", b"DONE", b"NEW!"]))
@settings(deadline=None)
def test_a_forged_chunk_with_a_right_checksum_is_refused_or_skipped(payload, kind):
    with tempfile.TemporaryDirectory() as folder:
        path = record(Path(folder) / "r", series([0, 1]))
        path.write_bytes(path.read_bytes() + frame(kind, payload))
        try:
            with Recording.open(path) as recording:
                assert len(list(recording.snapshots())) >= 1
                recording.events()
                assert recording.summary is None or isinstance(recording.summary, dict)
        except PagepulseError:
            pass


def test_damage_in_the_middle_stops_there_and_says_what_is_lost(sample, tmp_path):
    data, ends, _ = sample
    path = tmp_path / "r"
    path.write_bytes(data[:ends[1] + 20] + b"\xff" + data[ends[1] + 21:])
    with Recording.open(path) as recording:
        assert len(list(recording.snapshots())) == 2
        assert "wrong checksum" in recording.complaint
        assert "is lost; the 2 snapshots before it are read" in recording.complaint


def test_the_header_says_how_the_recording_was_made_and_what_its_columns_are(tmp_path):
    path = record(tmp_path / "r", series([0]), {}, {"command": ["prog", "--flag"], "host": "box"})
    with Recording.open(path) as recording:
        assert recording.header["command"] == ["prog", "--flag"]
        assert recording.header["format"]["version"] == VERSION
        assert ["start", "<u8"] in recording.header["format"]["region"]
        assert recording.header["clock"]["realtime_ns"] > 0


def test_summary_and_events_come_back_and_the_recording_is_whole(tmp_path):
    path = tmp_path / "r"
    with Recorder(path, {}) as recorder:
        recorder.write(snapshot())
        recorder.event("exec", {"argv": ["a", "b"]})
        recorder.close({"snapshots": 1})
    with Recording.open(path) as recording:
        assert recording.summary == {"snapshots": 1}
        assert [(event.kind, event.data) for event in recording.events()] == [("exec", {"argv": ["a", "b"]})]
        assert not recording.truncated
        assert recording.complaint == ""


def test_a_recorder_that_was_killed_leaves_a_recording_that_says_so(tmp_path):
    path = tmp_path / "r"
    child = os.fork()
    if not child:
        recorder = Recorder(path, {})
        for one in series([0, 1], [1, 0], [0, 0]):
            recorder.write(one)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with Recording.open(path) as recording:
        assert len(list(recording.snapshots())) == 3
        assert recording.truncated
        assert recording.summary is None
        assert "killed" in recording.complaint


def test_the_newest_snapshot_is_found_from_the_newest_key_snapshot(tmp_path):
    taken = [snapshot(touched_region(share=n / 40), mappings=(f"[anon: {n // 15}]",), start_ns=n * SECOND)
             for n in range(1, 40)]
    path = record(tmp_path / "r", taken)
    with Recording.open(path) as recording:
        assert same(taken[-1], recording.last())
        assert sum(chunk.kind == SNAP for chunk in recording._chunks) == 4


def test_only_the_owner_may_read_a_recording(tmp_path):
    assert stat.S_IMODE(record(tmp_path / "r", []).stat().st_mode) == 0o600


def test_an_existing_file_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "r").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        Recorder(tmp_path / "r", {})
    assert (tmp_path / "r").read_text() == "precious"


def test_force_replaces_a_symbolic_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "r").symlink_to(tmp_path / "precious")
    record(tmp_path / "r", [])
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "r").is_symlink()


def test_force_refuses_what_is_no_regular_file(tmp_path):
    with pytest.raises(UsageError, match="not a regular file"):
        Recorder(tmp_path, {}, force=True)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PagepulseError, match="No such file"):
        Recorder(tmp_path / "no" / "r", {})


def fill_disk(monkeypatch, free_bytes):
    """From now on the disk takes this many bytes, the last write only in part."""
    really_write, left = os.write, [free_bytes]

    def write(fd, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = really_write(fd, bytes(data)[:left[0]])
        left[0] -= taken
        return taken
    monkeypatch.setattr(os, "write", write)


def test_a_full_disk_keeps_every_finished_snapshot_and_nothing_torn(tmp_path, monkeypatch):
    path = tmp_path / "r"
    taken = series([0, 1], [1, 0], [0, 0])
    with Recorder(path, {}) as recorder:
        recorder.write(taken[0])
        fill_disk(monkeypatch, 30)
        with pytest.raises(PagepulseError, match="No space left") as raised:
            recorder.write(taken[1])
        assert "free some space" in raised.value.hint
        assert path.stat().st_size == recorder.size_bytes
        with pytest.raises(PagepulseError, match="closed"):
            recorder.write(taken[2])
        recorder.close({})
    assert len(read(path)) == 1


def test_a_write_that_takes_only_a_part_is_continued(tmp_path, monkeypatch):
    really_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: really_write(fd, bytes(data)[:7]))
    assert len(read(record(tmp_path / "r", series([0, 1], [1, 1])))) == 2


def test_a_disk_full_from_the_start_leaves_no_file(tmp_path, monkeypatch):
    fill_disk(monkeypatch, 10)
    with pytest.raises(PagepulseError, match="cannot write"):
        Recorder(tmp_path / "r", {})
    assert not (tmp_path / "r").exists()


def test_a_recorder_that_is_forgotten_warns(tmp_path):
    forgotten = [Recorder(tmp_path / "r", {})]
    with pytest.warns(ResourceWarning, match="not closed"):
        forgotten.clear()


@pytest.mark.parametrize(("data", "match"), [
    (b"", "is empty"),
    (b"#!/bin/sh\n", "not a pagepulse recording"),
    (MAGIC[:5], "first bytes"),
    (PREAMBLE.pack(MAGIC, VERSION), "no header"),
    (PREAMBLE.pack(MAGIC, VERSION) + frame(b"HEAD", b"{}"), "does not know"),
    (PREAMBLE.pack(MAGIC, VERSION) + frame(b"HEAD", b"[" * 100_000), "not JSON"),
])
def test_what_is_not_ours_is_refused_with_the_reason(tmp_path, data, match):
    (tmp_path / "r").write_bytes(data)
    with pytest.raises(RefusedFile, match=match):
        Recording.open(tmp_path / "r")


def test_a_newer_version_is_refused_by_name_with_what_to_do(sample, tmp_path):
    (tmp_path / "r").write_bytes(sample[0].replace(MAGIC + struct.pack("<I", VERSION), MAGIC + struct.pack("<I", 7)))
    with pytest.raises(RefusedFile, match="version 7") as raised:
        Recording.open(tmp_path / "r")
    assert "newer" in raised.value.hint


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path, name):
    with pytest.raises(RefusedFile, match="cannot open"):
        Recording.open(tmp_path / name)


def test_a_recording_without_snapshots_says_so(tmp_path):
    with Recording.open(record(tmp_path / "r", [], {})) as recording:
        assert list(recording.snapshots()) == []
        with pytest.raises(PagepulseError, match="holds no snapshot"):
            recording.last()


def test_an_hour_at_defaults_stays_under_20_mib(tmp_path):
    """200 regions at 10 snapshots a second, of which 20 change each time; a minute stands for the hour."""
    rng = np.random.default_rng(3)
    rows = np.concatenate([region(BASE + i * 20 * MIB, 20 * MIB) for i in range(200)])
    with Recorder(tmp_path / "r", {}) as recorder:
        for n in range(600):
            rows = rows.copy()
            for name, top in (("touched_bytes", 20 * MIB), ("nr_accesses", 20), ("rate_hz", 100)):
                rows[name][40:60] = rng.random(20) * top
            recorder.write(snapshot(rows, start_ns=n * SECOND // 10 + 1, rss_bytes=int(rng.integers(2**32)),
                                    idle_bytes=tuple(rng.integers(2**32, size=5).tolist()),
                                    cost=Cost(*rng.integers(10**6, size=2).tolist())))
        recorder.close({})
    assert recorder.size_bytes * 60 < 20 * MIB


# --- several processes ---------------------------------------------------------------------------------------------

def of(pid: int, second: int, *, mappings=("[anon]",), **changes) -> Snapshot:
    return snapshot(touched_region(BASE), pid=pid, mappings=mappings, start_ns=second * SECOND, **changes)


def test_snapshots_of_several_processes_come_out_as_they_went_in(tmp_path):
    written = [of(1, 1), of(2, 1, mappings=("a", "b")), of(1, 2), of(3, 2), of(2, 3, mappings=("b",)), of(1, 30)]
    read_back = read(record(tmp_path / "r", written))
    assert all(same(ours, theirs) for ours, theirs in zip(written, read_back, strict=True))


def test_one_process_can_be_taken_out_of_several(tmp_path):
    with Recording.open(record(tmp_path / "r", [of(1, 1), of(2, 1), of(1, 2), of(2, 2)])) as recording:
        assert recording.pids() == [1, 2]
        assert [s.start_ns for s in recording.snapshots(2)] == [SECOND, 2 * SECOND]
        assert recording.last(1).pid == 1
        assert recording.last().pid == 2
        with pytest.raises(PagepulseError, match="no snapshot of process 9"):
            recording.last(9)


def test_a_reused_pid_begins_anew(tmp_path):
    with Recorder(tmp_path / "r", {}) as recorder:
        recorder.write(of(1, 1, mappings=("old",)))
        recorder.write(of(2, 1))
        recorder.forget(1)
        recorder.write(of(1, 2, mappings=("new",)))
    assert [s.mappings for s in read(tmp_path / "r")] == [("old",), ("[anon]",), ("new",)]


def test_what_a_process_waited_for_is_kept(tmp_path):
    waited = Delays(1, 2**40, 3)
    written = [of(1, 1, delays=waited), of(2, 1), of(1, 2, delays=waited)]
    assert [s.delays for s in read(record(tmp_path / "r", written))] == [waited, None, waited]


def test_what_others_may_map_is_kept_for_each_process(tmp_path):
    some = (SharedRange(BASE, BASE + MIB, "08:01:77", 4096), SharedRange(BASE + MIB, BASE + 2 * MIB, "00:01:5", 0))
    written = [of(1, 1, shared=some), of(2, 1), of(1, 2, shared=some), of(1, 3)]
    assert [s.shared for s in read(record(tmp_path / "r", written))] == [some, (), some, ()]


@pytest.mark.parametrize("content", [b"{}x", b"[[1]]", b'[[2, 1, "f", 0]]', b'[["a", 1, "f", 0]]', b"7",
                                     b'[[-1, 5, "f", 0]]'])
def test_shared_ranges_that_make_no_sense_are_refused(content):
    with pytest.raises(Undecodable):
        decode_shared(zlib.compress(content, 1, -15))


def test_pressure_of_control_groups_is_kept_to_the_bit(tmp_path):
    first, second = Pressure(1, 2**40, 0.125, 1 / 3), Pressure(2, 2**40 + 1, 0.1, 0.0)
    written = [of(1, 1, pressure=first), of(2, 1), of(1, 2, pressure=first), of(1, 3, pressure=second)]
    assert [s.pressure for s in read(record(tmp_path / "r", written))] == [first, None, first, second]


def test_page_faults_are_those_of_their_own_snapshot(tmp_path):
    some, none = np.array([3], np.uint64), np.zeros(1, np.uint64)
    written = [of(1, 1, faults=some), of(2, 1), of(1, 2, faults=none), of(1, 3)]
    found = [None if s.faults is None else s.faults.tolist() for s in read(record(tmp_path / "r", written))]
    assert found == [[3], None, [0], None]


def test_that_nothing_was_cleared_is_said_of_its_own_snapshot(tmp_path):
    written = [of(1, 1, spared=True), of(2, 1), of(1, 2), of(1, 3, spared=True)]
    assert [s.spared for s in read(record(tmp_path / "r", written))] == [True, False, False, True]


@pytest.mark.parametrize("payload", [b"1", np.array([(2, 1)], "<u4,<u8").tobytes()])
def test_page_faults_that_make_no_sense_are_refused(payload):
    with pytest.raises(Undecodable):
        decode_faults(payload, 2)


def test_a_recording_of_version_2_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pagepulse.capture.recorder.VERSION", 2)
    assert len(read(record(tmp_path / "r", [of(1, 1), of(1, 2)]))) == 2


@pytest.mark.parametrize("chunk", [(b"PROC", b"123"), (b"WAIT", b"1")])
def test_a_chunk_of_the_wrong_size_is_refused(tmp_path, chunk):
    path = record(tmp_path / "r", [of(1, 1)])
    path.write_bytes(path.read_bytes() + frame(*chunk))
    with pytest.raises(RefusedFile, match="is not a recording that pagepulse made"):
        read(path)
