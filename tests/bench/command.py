# SPDX-License-Identifier: GPL-2.0-only
"""The `pagepulse` command, called as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class CommandError(Exception):
    """It failed. The message is what it printed."""


def _line(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "pagepulse", *arguments]


def show(*arguments: str | Path) -> None:
    """Run it with its output on our terminal.

    Raises:
        CommandError: It failed; its message is on the terminal.
    """
    sys.stdout.flush()
    done = subprocess.run(_line(*arguments), check=False)
    if done.returncode:
        raise CommandError(f"pagepulse {arguments[0]} ended with status {done.returncode}")


def answer(*arguments: str | Path) -> dict[str, Any]:
    """Run it with `--json`, and return what it printed.

    Raises:
        CommandError: It failed.
    """
    done = subprocess.run(_line(*arguments, "--json"), capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(done.stderr.strip() or f"pagepulse {arguments[0]} ended with status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start it; the caller ends it and reads both pipes."""
    return subprocess.Popen(_line(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
