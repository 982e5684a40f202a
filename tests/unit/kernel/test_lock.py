# SPDX-License-Identifier: GPL-2.0-only
"""The lock of a target: two of ours keep from each other, and nobody else can keep them from it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from pagepulse.errors import PagepulseError
from pagepulse.kernel.lock import TargetLock


@dataclass
class FakeProcess:
    pid: int
    start_ticks: int = 7
    name: str = "web"


@pytest.fixture(name="process")
def _process():
    return FakeProcess(-os.getpid())  # nobody else's


def test_a_target_is_watched_by_one_of_ours_at_a_time(process):
    first = TargetLock(process)
    with pytest.raises(PagepulseError, match="watched by another pagepulse"):
        TargetLock(process)
    first.close()
    TargetLock(process).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="somebody else is needed")
@pytest.mark.parametrize("and_then", ["s.listen(1)", "s.listen(0); socket.socket(socket.AF_UNIX).connect(name)", ""])
def test_a_name_that_somebody_else_took_keeps_nobody_from_the_target(process, and_then):
    program = (f"import socket; name = chr(0) + 'pagepulse/target/{process.pid}/7'\n"
               f"s = socket.socket(socket.AF_UNIX); s.bind(name)\n{and_then}\nprint('there', flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", program], user=65534, group=65534, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "there\n"
        TargetLock(process).close()
        other.communicate("\n")
