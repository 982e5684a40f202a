# SPDX-License-Identifier: GPL-2.0-only
"""A daemon with bad luck: killed at any moment, stopped for a while, under a clock that jumps."""

import signal
import time
from pathlib import Path

import pytest

from demo.swap import temporary_swap
from live.daemon import Daemon
from live.machine import wait_until
from live.recorder import pagepulse
from live.test_serve import MIB, are_watched, control_group, schemes
from pace import patience
from pagepulse.capture import Recordings
from pagepulse.capture.parts import ended_parts
from pagepulse.service.client import ask
from workload import PROGRAMS, Workload

pytestmark = pytest.mark.live

_JUMPING = """
import datetime, pathlib, time
path, true_ns, true = pathlib.Path({path!r}), time.time_ns, datetime.datetime
def jump_ns():
    return int(path.read_text() or 0) * 1_000_000_000
class Jumping(true):
    @classmethod
    def now(cls, tz=None):
        return true.fromtimestamp(time.time(), tz)
time.time_ns = lambda: true_ns() + jump_ns()
time.time = lambda: time.time_ns() / 1e9
datetime.datetime = Jumping
"""
"""For Python's `sitecustomize`: the wall's clock is so many seconds away from the true one as a file says."""
_YEAR_S = 366 * 86400


def swapped_bytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("VmSwap"))


def test_killed_at_any_moment_it_starts_again_harms_nobody_and_loses_no_record(tmp_path):
    """Neither while it compiles, nor at its first snapshots, nor in the midst of page-outs."""
    targets = f'budget = "5%"\nschemes = "idle.json"\nrecording = "{tmp_path}/records/touch.data"\n'
    (tmp_path / "records").mkdir()
    with (temporary_swap(1 << 30) as swap, Workload("touch", "--area", "a:256MiB") as touch,
          control_group("killed", touch) as group,
          Daemon(tmp_path, f'[targets.touch]\ncgroup = "{group}"\n{targets}') as daemon):
        assert swap.device is not None, swap.why
        daemon.write("idle.json", schemes())
        for delay_s in (0.05, 0.4, 0.9, 1.6, 2.5, 4):
            before = swapped_bytes(touch.pid)
            daemon.launch()
            time.sleep(patience(delay_s))  # the moment of death is what is tried; nothing is awaited
            daemon.end(signal.SIGKILL)
            assert touch.process.poll() is None
            assert swapped_bytes(touch.pid) - before < 48 * MIB  # in 4 s; the quota alone would let all of it go
        daemon.start()
        assert daemon.tells("touch", lambda target: target["given_back_bytes"] > 0), daemon.log
        assert daemon.end() == 0
    with Recordings.open([tmp_path / "records"]) as recordings:
        ends = [one.end_ns for one in recordings.snapshots()]
    assert ends
    assert ends == sorted(set(ends))
    assert "Traceback" not in daemon.log


def test_stopped_for_a_while_it_goes_on_where_it_was_and_makes_up_for_nothing(tmp_path):
    """As by whoever freezes its control group, or a machine with no time for it: quota not used is not owed."""
    with (temporary_swap(1 << 30) as swap, Workload("touch", "--area", "a:256MiB") as touch,
          control_group("stopped", touch) as group,
          Daemon(tmp_path, f'[targets.touch]\ncgroup = "{group}"\nbudget = "5%"\nschemes = "idle.json"\n') as daemon):
        assert swap.device is not None, swap.why
        daemon.write("idle.json", schemes(quotas={"size": "4 MiB", "reset_interval": "1 s"}))
        daemon.start()
        assert daemon.tells("touch", lambda target: target["given_back_bytes"] > 0), daemon.log
        daemon.send(signal.SIGSTOP)
        time.sleep(8)
        stopped = swapped_bytes(touch.pid)
        daemon.send(signal.SIGCONT)
        begun_s = time.monotonic()
        gone = daemon.target("touch")["given_back_bytes"]
        assert daemon.tells("touch", lambda target: target["given_back_bytes"] > gone), daemon.log
        allowed = 4 * MIB * (time.monotonic() - begun_s + 2)  # the second that was begun, and that which has begun
        assert swapped_bytes(touch.pid) - stopped <= allowed
        assert daemon.end() == 0
    assert "Traceback" not in daemon.log


def test_a_clock_that_jumps_changes_nothing_that_is_seen_done_or_kept(tmp_path):
    """The clock on the wall, as `date -s` or a time server sets it: a year ahead, then a year back."""
    records = tmp_path / "records"
    records.mkdir()
    (tmp_path / "jump").write_text("0")
    (tmp_path / "sitecustomize.py").write_text(_JUMPING.format(path=str(tmp_path / "jump")))
    recording = f'recording = "{records}/pulse.data"\nrotate_every = "1s"\nkeep = 100\n'
    with (Workload("pulse", "--size", "16MiB") as pulse, control_group("jump", pulse) as group,
          Daemon(tmp_path, f'[targets.pulse]\ncgroup = "{group}"\nbudget = "20%"\n{recording}'
                           'schemes = "cold.json"\n') as daemon):
        daemon.write("cold.json", schemes(action="cold", access_pattern={"age": {"min": "1 h"}}))
        daemon.start({"PYTHONPATH": str(tmp_path)})
        assert daemon.tells("pulse", are_watched(pulse.pid)), daemon.log
        before = daemon.target("pulse")
        for jump_s in (_YEAR_S, -_YEAR_S):
            (tmp_path / "jump").write_text(str(jump_s))
            parts = len(ended_parts(records / "pulse.data"))
            assert wait_until(lambda parts=parts: len(ended_parts(records / "pulse.data")) > parts + 1, 60), daemon.log
        daemon.send(signal.SIGHUP)
        assert daemon.sees(lambda status: status["reload"]["loads"] > 1 and not status["reload"]["error"]), daemon.log
        ask(daemon.socket, "pause")
        assert daemon.sees(lambda status: status["paused"])
        after = daemon.target("pulse")
        assert 0 < after["age_s"] - before["age_s"] < 300
        assert after["schemes"][0]["tried_bytes"] == 0  # nothing has become an hour old
        assert daemon.end() == 0
    assert "Traceback" not in daemon.log
    years = [part.name[6:10] for part in ended_parts(records / "pulse.data")]
    assert int(years[-1]) > time.gmtime().tm_year  # it did jump; what came after it was set back is not named as older
    with Recordings.open([records]) as recordings:
        ends = [one.end_ns for one in recordings.snapshots()]
    assert len(ends) == after["snapshots"]
    assert ends[-1] - ends[0] < 300e9


def test_on_a_machine_that_was_suspended_for_days_nothing_is_older_than_it_was_watched(tmp_path):
    """A time namespace whose CLOCK_BOOTTIME is 100 hours ahead of CLOCK_MONOTONIC, as after so long a suspend."""
    suspended = ("unshare", "--time", "--fork", "--kill-child", "--boottime", "360000")
    output = tmp_path / "r.data"
    command = ("sh", "-c", f"{PROGRAMS}/pulse --size 16MiB > /dev/null & wait")
    outcome = pagepulse("record", "--children", "--duration", "4s", "-o", output, "--", *command, prefix=suspended)
    assert outcome.status == 0, outcome.err
    with Recordings.open([output]) as recordings:
        seen = list(recordings.snapshots())
        names = {event.data["name"] for event in recordings.events() if event.kind == "watched"}
    assert "pulse" in names  # its fork was heard of, and it was old enough to be watched
    assert len(seen) >= 2
    begun_ns = min(one.start_ns for one in seen)
    assert all((one.regions["since_ns"][one.regions["since_ns"] > 0] >= begun_ns - 10e9).all() for one in seen)
