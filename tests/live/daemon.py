# SPDX-License-Identifier: GPL-2.0-only
"""A daemon, started as an administrator starts it, with a configuration of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from live.machine import wait_until
from live.recorder import line
from pace import patience, percent
from pagepulse.errors import PagepulseError
from pagepulse.service.client import ask


class Daemon:
    """A `pagepulse serve`. Leaving it ends it.

    Args:
        directory: Made here, for its configuration, its socket and its log.
        targets: Of pagepulse.toml, in TOML.
        metrics: Where they are told; "": nowhere.
    """

    def __init__(self, directory: Path, targets: str = "", metrics: str = "") -> None:
        self.directory, self.socket = directory / "etc", directory / "run" / "pagepulse.sock"
        self.log_path, self.metrics = directory / "log", metrics
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "conf.d").mkdir(parents=True)
        targets = re.sub(r'budget = "(\d+)%"', lambda share: f'budget = "{percent(int(share[1]))}%"', targets)
        listen = f'metrics = "{metrics}"\n' if metrics else ""
        self.write("pagepulse.toml", f'[daemon]\nsocket = "{self.socket}"\n{listen}{targets}')

    def write(self, name: str, text: str) -> Path:
        """A file of the configuration, written as editors do it: no reader sees a half of it."""
        path = self.directory / name
        new = path.with_name("new~")
        new.write_text(text)
        new.chmod(0o600)
        return new.replace(path)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self.log_path.read_text()

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it, and wait for nothing."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(line("serve", "--config", self.directory), stderr=log,
                                             stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})

    def start(self, environment: Mapping[str, str] | None = None) -> Self:
        """Start it, and wait until it answers."""
        self.launch(environment)
        assert self.sees(lambda _status: True), self.log
        return self

    def status(self) -> dict[str, Any]:
        """Its answer."""
        return ask(self.socket, "status")

    def target(self, name: str) -> dict[str, Any]:
        """What it says of one target."""
        return next(target for target in self.status()["targets"] if target["name"] == name)

    def sees(self, condition: Callable[[dict[str, Any]], bool], patience_s: float = 60) -> bool:
        """Wait until its status is so."""
        def is_so() -> bool:
            with suppress(PagepulseError, StopIteration):
                return condition(self.status())
            return False
        return wait_until(is_so, patience_s)

    def tells(self, name: str, condition: Callable[[dict[str, Any]], bool], patience_s: float = 60) -> bool:
        """Wait until what it says of a target is so."""
        return self.sees(lambda status: condition(next(one for one in status["targets"] if one["name"] == name)),
                         patience_s)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit status."""
        self.send(number)
        assert self._process is not None
        status = self._process.wait(timeout=patience(30))
        self._process = None
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
