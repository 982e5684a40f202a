# SPDX-License-Identifier: GPL-2.0-only
"""What is opened for a target is closed again where a part of it cannot be had, and who is to blame is told apart."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes import NoProbes
from pagepulse.errors import PagepulseError, TargetGone
from pagepulse.kernel import pageflags, target
from pagepulse.kernel.reader import Identity
from pagepulse.kernel.refs import ClearRefs
from pagepulse.kernel.target import Target
from pagepulse.model.clearing import AUTO, REFS
from pagepulse.monitor import Monitor, MonitorOptions

READER = SimpleNamespace(identity=lambda _pidfd: Identity(1, 2, 3))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(name="failing")
def _failing(monkeypatch):
    """Some file cannot be opened."""
    def fail_at(name: str, number: int) -> None:
        real = os.open

        def opening(path, *arguments):
            if str(path).endswith(name):
                raise OSError(number, os.strerror(number))
            return real("/dev/null", *arguments)
        monkeypatch.setattr(os, "open", opening)
    return fail_at


def test_page_flags_of_which_half_cannot_be_opened_leave_nothing_open(failing):
    failing("kpageflags", errno.EACCES)
    before = open_files()
    with pytest.raises(PermissionError):
        pageflags.PageFlags(os.getpid())
    assert open_files() == before


def test_a_target_whose_page_flags_cannot_be_opened_leaves_its_clear_refs_closed(failing):
    failing("kpageflags", errno.EACCES)
    before = open_files()
    process = SimpleNamespace(pid=os.getpid(), pidfd=0, name="x", ends_within=lambda _s: False)
    with pytest.raises(PagepulseError, match="cannot be watched"):
        Target(process, READER, NoProbes(), REFS)
    assert open_files() == before


def test_a_target_that_ends_while_its_monitor_is_made_leaves_nothing_open(monkeypatch):
    def stat() -> None:
        raise TargetGone("process 7 has exited")
    opened = []
    monkeypatch.setattr(target, "_page_flags", lambda _process: opened.append(1))
    with pytest.raises(TargetGone):
        Monitor(SimpleNamespace(pid=7, pidfd=0, stat=stat), READER, NoProbes(), MonitorOptions(),
                SimpleNamespace(range_clear_ns=1, page_clear_ns=1))
    assert not opened


def test_clear_refs_of_a_process_that_ended_says_that_it_is_gone():
    with pytest.raises(TargetGone):
        ClearRefs(1 << 23, with_file_only=True)  # above the largest pid


@pytest.mark.parametrize(("number", "kind"), [(errno.ESRCH, TargetGone), (errno.EACCES, PagepulseError),
                                              (errno.ENOENT, PagepulseError)])
def test_clear_refs_of_a_process_that_lives_is_missing_only_where_the_kernel_has_none(failing, number, kind):
    failing("clear_refs", number)
    with pytest.raises(PagepulseError) as raised:
        ClearRefs(os.getpid(), with_file_only=True)
    assert type(raised.value) is kind


def test_without_clear_refs_shared_memory_stays_unclearable_which_is_said_once(monkeypatch):
    def refuse() -> None:
        asked.append(1)
        raise PagepulseError("cannot be cleared", why="no such file")
    asked, told = [], []
    monkeypatch.setattr("pagepulse.monitor.is_mostly_shared", lambda *_: True)
    monitor = Monitor.__new__(Monitor)
    monitor.__dict__.update(
        process=SimpleNamespace(pid=7), _options=MonitorOptions(clear=AUTO), _stays_cold=False,
        engine=SimpleNamespace(windows=None), on_event=lambda kind, data: told.append((kind, data)),
        target=SimpleNamespace(refs=None, cleared=[], rss_bytes=lambda: 0, clear_shared_together=refuse))
    for _ in range(3):
        monitor._clear_together_if_shared()
    assert asked == [1]
    assert told == [("clear_refused", {"pid": 7, "why": "no such file"})]
