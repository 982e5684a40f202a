# SPDX-License-Identifier: GPL-2.0-only
"""A daemon's recording: a full disk costs what came meanwhile, which is counted, and nothing else."""

from __future__ import annotations

import errno
import os

import pytest

from builders import SECOND, snapshot
from pagepulse.capture import Recordings, Rotation
from pagepulse.service.recording import TargetRecording


@pytest.fixture(name="recording")
def _recording(tmp_path):
    made = TargetRecording(tmp_path / "a.data", Rotation(size_bytes=2000, keep=9), "web")
    yield made
    made.close()


def write(recording, first, count):
    for place in range(first, first + count):
        recording.write(snapshot(start_ns=(10 + place) * SECOND))


def ends(folder):
    with Recordings.open([folder]) as recordings:
        return [one.start_ns // SECOND - 10 for one in recordings.snapshots()]


def test_it_is_written_in_parts(recording, tmp_path):
    write(recording, 0, 60)
    assert len(list(tmp_path.glob("a-*"))) > 1
    assert ends(tmp_path) == list(range(60))
    assert recording.status().lost_snapshots == 0


def test_what_a_full_disk_costs_is_counted_and_it_begins_again_beside_what_there_is(recording, tmp_path, monkeypatch,
                                                                                   capsys):
    write(recording, 0, 3)
    with monkeypatch.context() as full:
        full.setattr(os, "write", refuse)
        write(recording, 3, 2)
        status = recording.status()
        assert "No space left" in status.error
        assert status.lost_snapshots == 2
    write(recording, 5, 1)  # it does not try at once
    recording._try_ns = 0  # a minute later
    write(recording, 6, 2)
    recording.close()
    assert recording.status().lost_snapshots == 3
    assert not recording.status().error
    assert ends(tmp_path) == [0, 1, 2, 6, 7]
    assert "nothing is recorded for 60 s" in capsys.readouterr().err


def refuse(_fd, _data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_an_earlier_daemon_wrote_stays(recording, tmp_path):
    earlier = TargetRecording(tmp_path / "a.data", Rotation(), "web")
    write(earlier, 0, 1)
    earlier.close()
    write(recording, 1, 1)
    assert len(list(tmp_path.glob("a-*.data"))) == 1
    recording.close()
    assert ends(tmp_path) == [0, 1]


def test_a_disk_that_is_full_for_hours_costs_no_old_part(tmp_path, monkeypatch, capsys):
    recording = TargetRecording(tmp_path / "a.data", Rotation(size_bytes=1, keep=2), "web")
    write(recording, 0, 3)
    real = os.write

    def nearly_full(fd, data):
        return refuse(fd, data) if b"SNAP" in bytes(data) else real(fd, data)

    with monkeypatch.context() as full:
        full.setattr(os, "write", nearly_full)  # there is room for a header, and none for a snapshot
        for place in range(3, 12):
            recording._try_ns = 0
            write(recording, place, 1)
    recording.close()
    assert ends(tmp_path) == [0, 1, 2]


def test_a_file_that_another_one_writes_is_left_to_it_and_the_status_says_so(recording, tmp_path, capsys):
    other = TargetRecording(tmp_path / "a.data", Rotation(), "other")
    write(other, 0, 1)
    write(recording, 1, 1)
    assert "is being written" in recording.status().error
    write(other, 2, 1)
    other.close()
    assert ends(tmp_path) == [0, 2]


def test_what_holds_is_told_to_the_next_recording_whatever_came_between(recording, tmp_path, monkeypatch):
    recording.event("watched", {"pid": 1, "name": "gone"})
    recording.event("watched", {"pid": 2, "name": "stays"})
    write(recording, 0, 1)
    with monkeypatch.context() as full:
        full.setattr(os, "write", refuse)
        write(recording, 1, 1)
        recording.event("ended", {"pid": 1})
        recording.event("watched", {"pid": 3, "name": "came"})
    recording._try_ns = 0
    write(recording, 2, 1)
    assert names(tmp_path / "a.data") == ["stays", "came"]
    recording.close()
    later = TargetRecording(tmp_path / "b.data", Rotation(), "web", recording)
    write(later, 3, 1)
    later.close()
    assert names(tmp_path / "b.data") == ["stays", "came"]
    assert later.status().lost_snapshots == 1


def names(path):
    with Recordings.open([path]) as recordings:
        return [event.data["name"] for event in recordings.events() if event.kind == "watched"]
