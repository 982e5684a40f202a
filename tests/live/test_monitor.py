# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse monitor` on a terminal of its own, as a person sees and ends it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from live.recorder import line, pagepulse
from pace import patience
from workload import Workload

pytestmark = pytest.mark.live

CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9])")
SHOWN_ON_LEAVING = "\x1b[?1049l"


class Terminal:
    """A command on a terminal of this size."""

    def __init__(self, *arguments: str, columns: int = 80, rows: int = 24) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
            command = ["sh", "-c", 'stty -F /dev/tty cols "$0" rows "$1"; shift; stty -g; exec "$@"', str(columns),
                       str(rows), *line(*arguments)]
            os.execvpe(command[0], command, environment | {"TERM": "xterm-256color"})
        self.text = ""

    def resize(self, columns: int, rows: int) -> None:
        """Another size; the kernel sends SIGWINCH."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> str:
        """Of the terminal, as stty -g prints them."""
        with os.fdopen(os.dup(self._fd)) as terminal:
            return subprocess.run(["stty", "-g"], stdin=terminal, capture_output=True, text=True, check=True).stdout

    def type(self, keys: str) -> None:
        """As a person does; \x03 is Ctrl-C."""
        os.write(self._fd, keys.encode())

    def read_until(self, words: str, timeout_s: float = 20) -> str:
        """What it showed until then, from now on; all of it, if it ends first and `words` is empty."""
        seen, deadline = "", time.monotonic() + patience(timeout_s)
        while not words or words not in seen:
            assert time.monotonic() < deadline, f"{words!r} is not in {seen!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(self._fd, 65536).decode()
                except OSError:  # it has ended
                    assert not words, f"it ended, and {words!r} is not in {seen!r}"
                    break
        self.text += seen
        return seen

    def status(self) -> int:
        """Exit code, once it has ended."""
        self.read_until("")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@pytest.fixture(name="pulse")
def _pulse():
    with Workload("pulse", "--size", "64MiB") as pulse:
        yield pulse


@pytest.fixture(name="terminal")
def _terminal(pulse):
    """A monitor on a terminal; the caller says how large."""
    with contextlib.ExitStack() as stack:
        def terminal(*arguments: str, columns: int = 80, rows: int = 24) -> Terminal:
            made = Terminal("monitor", *(arguments or ("--pid", str(pulse.pid))), columns=columns, rows=rows)
            stack.callback(made.close)
            return made
        yield terminal


def screens(text: str) -> list[list[str]]:
    """The lines of each picture."""
    return [CONTROL.sub("", picture).replace("\r", "").splitlines() for picture in text.split("\x1b[H")[1:]]


def test_it_shows_the_target_its_hottest_and_idlest_memory_and_what_it_costs(terminal, pulse):
    shown = terminal()
    shown.read_until("IDLEST")
    text = shown.read_until("% of a CPU")
    assert f"pulse ({pulse.pid})" in CONTROL.sub("", shown.text)
    assert "HOTTEST" in shown.text + text
    shown.type("q")
    assert shown.status() == 0


@pytest.mark.parametrize("keys", ["q", "\x03"])
def test_q_and_control_c_end_it_and_leave_the_terminal_as_it_was(terminal, keys):
    shown = terminal()
    before = shown.read_until("\n").strip()
    shown.read_until("HOTTEST")
    shown.type(keys)
    shown.read_until("snapshots in")
    assert shown.settings().strip() == before
    assert shown.status() == 0
    assert SHOWN_ON_LEAVING in shown.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(terminal, number):
    shown = terminal()
    before = shown.read_until("\n").strip()
    shown.read_until("HOTTEST")
    os.kill(shown.pid, number)
    shown.read_until("snapshots in")
    assert shown.settings().strip() == before
    assert shown.status() == 0


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 12), (20, 5), (200, 60)])
def test_no_line_is_longer_than_the_terminal_and_no_picture_higher(terminal, columns, rows):
    shown = terminal(columns=columns, rows=rows)
    shown.read_until("\x1b[H")
    shown.read_until("\x1b[H")
    shown.type("q")
    assert shown.status() == 0
    pictures = screens(shown.text.partition(SHOWN_ON_LEAVING)[0])
    assert pictures
    assert max(len(text) for picture in pictures for text in picture) <= columns
    assert max(len(picture) for picture in pictures) <= rows


def test_it_follows_when_the_terminal_shrinks(terminal):
    shown = terminal()
    shown.read_until("HOTTEST")
    shown.resize(40, 12)
    for _ in range(6):  # some may have been on their way
        shown.read_until("\x1b[H")
    *_, after, _ = screens(shown.text)
    shown.type("q")
    assert shown.status() == 0
    assert max(len(text) for text in after) <= 40


def test_the_output_of_a_command_does_not_garble_the_screen(terminal):
    shown = terminal("--", "sh", "-c", "while sleep 0.1; do echo NOISE; echo NOISE >&2; done")
    shown.read_until("HOTTEST")
    shown.type("q")
    assert shown.status() == 0
    assert "NOISE" not in shown.text


def test_without_a_terminal_it_prints_lines(pulse):
    outcome = pagepulse("monitor", "--pid", str(pulse.pid), "--duration", "3s")
    assert outcome.status == 0
    assert 2 <= len(outcome.out.splitlines()) <= 5
    assert "\x1b" not in outcome.out


def test_as_json_each_line_is_a_snapshot(pulse):
    outcome = pagepulse("monitor", "--pid", str(pulse.pid), "--duration", "2s", "--json")
    taken = [json.loads(text) for text in outcome.out.splitlines()]
    assert len(taken) >= 3
    assert all(snapshot.keys() >= {"start_ns", "end_ns", "regions", "rss_bytes", "wss_bytes"} for snapshot in taken)


def test_it_ends_with_its_reader(pulse):
    done = subprocess.run(["bash", "-c", '"$@" | head -n 2; exit ${PIPESTATUS[0]}', "bash",
                           *line("monitor", "--json", "--pid", str(pulse.pid))], capture_output=True, text=True,
                          check=False, timeout=patience(60))
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 2
