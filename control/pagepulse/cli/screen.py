# SPDX-License-Identifier: GPL-2.0-only
"""The live view on standard output: a screen where that is a terminal, a line a second where it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from pagepulse.cli.session import Session
from pagepulse.kernel.terminal import Keys
from pagepulse.kernel.usage import cpu_ns
from pagepulse.model.clearing import REFS
from pagepulse.model.snapshot import Snapshot
from pagepulse.report.live import LiveView, Standing, plain_line
from pagepulse.report.words import CLEARED_TOGETHER

_REFRESH_NS = 1_000_000_000  # drawing costs CPU, too


class Refresh:
    """Says once in a second that it is time to show something."""

    def __init__(self) -> None:
        self._due_ns = 0

    def __call__(self) -> bool:
        """Whether it is time."""
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + _REFRESH_NS
        return True


def nothing_else() -> Sequence[str]:
    """No schemes are applied."""
    return ()


def print_lines(running: Session, snapshots: Iterator[Snapshot],
                schemes: Callable[[], Sequence[str]] = nothing_else) -> None:
    """A line a second.

    Args:
        running: What is watched.
        snapshots: Of it.
        schemes: What schemes are up to, in lines.
    """
    due = Refresh()
    for snapshot in snapshots:
        if due():
            print("\n".join((plain_line(snapshot, _standing(running)), *schemes())), flush=True)


def draw(running: Session, snapshots: Iterator[Snapshot],
         schemes: Callable[[], Sequence[str]] = nothing_else) -> None:
    """A screen, redrawn once a second, until q is pressed or the snapshots end. Arguments as `print_lines`."""
    begun_ns = cpu_ns()
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    running.monitor.leave_out(cpu_ns() - begun_ns)  # a quarter of a second: no cost of watching

    console, view, due = Console(), LiveView(), Refresh()
    is_paused = False
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False,
                              redirect_stderr=False) as live:
        for snapshot in snapshots:
            pressed = keys.pressed()
            if "q" in pressed:
                return
            is_paused ^= pressed.count("p") % 2 == 1
            if is_paused or not due():
                continue
            begun_ns = cpu_ns()
            view.add(snapshot)
            size = console.size
            standing = _standing(running, schemes())
            live.update(Group(*view.lines(standing, size.width, size.height - 1)), refresh=True)
            running.monitor.leave_out(cpu_ns() - begun_ns)


def _standing(running: Session, schemes: Sequence[str] = ()) -> Standing:
    summary = running.monitor.totals.summary()
    clearing = running.monitor.clearing()
    caveat = f"{clearing['what']} is {CLEARED_TOGETHER}" if clearing["how"] == REFS else ""
    return Standing(running.process.name, round(summary["duration_s"] * 1e9), summary["cpu_percent"] / 100,
                    summary["target_tax_percent"] / 100, summary["probes"], caveat, schemes)
