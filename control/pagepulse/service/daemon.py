# SPDX-License-Identifier: GPL-2.0-only
"""Daemon: all targets of a configuration in one loop, for weeks. It reloads, tells how it is, and rests when told to.

Only CLOCK_MONOTONIC decides anything: neither a wall clock that jumps nor a suspended machine makes memory look idle.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pagepulse
from pagepulse.errors import PagepulseError, RefusedFile
from pagepulse.kernel.instruments import Instruments
from pagepulse.kernel.usage import Wakeups, cpu_ns, rss_bytes, thread_cpu_ns
from pagepulse.service.config import Configuration, TargetPlan, load_configuration, signature
from pagepulse.service.notify import Notifier, Priority, log
from pagepulse.service.requests import Published, Requests
from pagepulse.service.status import ReloadStatus, Status
from pagepulse.service.target import WatchedTarget
from pagepulse.units import format_share, format_size

PUBLISH_NS = 1_000_000_000
"""How old what the daemon tells can be."""
_TRY_AGAIN_NS = 10_000_000_000  # a refused configuration: what it lacks may be no file that we know of
_SWITCH_S = 0.0005  # who asks waits so long for a visit that is under way, instead of Python's 5 ms
_LET_GO_NS = 200_000_000  # by then a target has let go of what belongs to another one
ONLY_ROOT = frozenset({0})
"""Who may own a daemon's configuration."""


class Daemon:
    """Watches what a configuration directory names.

    Args:
        directory: The configuration.
        configuration: What it said at the start.
        tools: Of all targets.
        wakeups: What to sleep on.
        notifier: Who is told how the service is.
    """

    def __init__(self, directory: Path, configuration: Configuration, tools: Instruments, wakeups: Wakeups,
                 notifier: Notifier) -> None:
        self._directory, self._configuration = directory, configuration
        self._tools, self._wakeups, self._notifier = tools, wakeups, notifier
        self._signature = self._seen = configuration.signature
        self._begun_with = configuration.daemon
        self._started_ns, self._begun_cpu_ns = time.monotonic_ns(), cpu_ns()
        self._reload = ReloadStatus(self._started_ns)
        self._targets = {plan.name: self._target(plan) for plan in configuration.targets}
        self._begun_ns, self._booked_ns = thread_cpu_ns(), 0
        self._publish_due_ns = self._alive_due_ns = self._tried_ns = 0
        self.requests = Requests(wakeups.wake)
        self.published = self._published()
        self.on_published: Callable[[Status], None] = lambda _status: None
        """Told of each new status, in the daemon's thread."""

    def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        gc.collect()
        gc.freeze()  # as a monitor does
        sys.setswitchinterval(_SWITCH_S)
        self._alive_due_ns = time.monotonic_ns() + (self._notifier.watchdog_ns or 0)
        self._publish(time.monotonic_ns())
        self._notifier.ready(self._in_words())
        woken: frozenset[int] = frozenset()
        while not self._wakeups.is_over:
            now_ns = time.monotonic_ns()
            if self._wakeups.take_hangup():
                self._load()
            if self.requests.take():
                self._rest_or_go_on()
                self._publish_due_ns = now_ns
            if now_ns >= self._publish_due_ns:
                self._publish(now_ns)
            for target in self._targets.values():
                if target.due_ns() <= now_ns or target.wake_fd in woken:
                    target.step(now_ns)
            woken = self._sleep()
        self._notifier.stopping()

    def _sleep(self) -> frozenset[int]:
        """Until there is something to do; the descriptors that can be read then."""
        targets = self._targets.values()
        due_ns = min([self._publish_due_ns, *(target.due_ns() for target in targets)])
        return self._wakeups.wait_until(due_ns, [fd for target in targets if (fd := target.wake_fd) is not None])

    def close(self) -> None:
        """Let go of all targets; they go on."""
        for target in self._targets.values():
            target.close()
        self._targets.clear()

    # --- what it tells ---------------------------------------------------------------------------------------------

    def _publish(self, now_ns: int) -> None:
        """Once a second: look at the configuration, book what all this costs, say how it is."""
        self._publish_due_ns = now_ns + PUBLISH_NS
        self._load_if_changed()
        self._book_the_rest()
        self._settle_whose(now_ns)
        self.published = self._published()
        self.requests.published = self.published
        self.on_published(self.published.status)
        if self._notifier.watchdog_ns is not None and now_ns >= self._alive_due_ns:
            self._alive_due_ns = now_ns + self._notifier.watchdog_ns
            self._notifier.alive(self._in_words())

    def _published(self) -> Published:
        status = Status(
            version=pagepulse.__version__, pid=os.getpid(), started_ns=self._started_ns, at_ns=time.monotonic_ns(),
            paused=bool(self._targets) and all(target.paused for target in self._targets.values()),
            cpu_ns=cpu_ns() - self._begun_cpu_ns, rss_bytes=rss_bytes(),
            targets=tuple(target.status() for target in self._targets.values()), reload=self._reload)
        return Published(status, {name: target.newest for name, target in self._targets.items()})

    def _book_the_rest(self) -> None:
        """What was no target's own work is shared out among them: it comes out of their budgets. Answers do not."""
        own_ns = sum(target.clock() for target in self._targets.values())
        rest_ns = thread_cpu_ns() - self._begun_ns - self._booked_ns - own_ns
        awake = [target for target in self._targets.values() if not target.paused]
        for target in awake:
            target.clock.add(rest_ns // len(awake))
        if not awake:
            self._booked_ns += rest_ns

    def _in_words(self) -> str:
        status = self.published.status
        watched = sum(len(target.processes) for target in status.targets)
        return (f"{watched} processes of {len(status.targets)} targets, {format_share(status.cpu_share)} of a CPU, "
                f"{format_size(sum(target.evictions.evicted_bytes for target in status.targets))} given back"
                + ("; the configuration was refused" if status.reload.error else ""))

    # --- whose a process is ----------------------------------------------------------------------------------------

    def _target(self, plan: TargetPlan) -> WatchedTarget:
        return WatchedTarget(plan, self._tools, lambda pid: self._is_anothers(plan.name, pid))

    def _is_anothers(self, name: str, pid: int) -> bool:
        """Whether a process belongs to a target that the configuration names before this one."""
        for earlier, target in self._targets.items():
            if earlier == name:
                return False
            if target.has(pid):
                return True
        return False

    def _settle_whose(self, now_ns: int) -> None:
        """A process that came to an earlier target while a later one watched it: the later one lets go."""
        givers = [target for target in self._targets.values() if target.give_way(now_ns)]
        for target in self._targets.values() if givers else ():
            target.try_refused(now_ns + _LET_GO_NS)

    # --- what it is told -------------------------------------------------------------------------------------------

    def _rest_or_go_on(self) -> None:
        for name, target in self._targets.items():
            target.paused = self.requests.is_paused(name)

    def _load_if_changed(self) -> None:
        """A change counts once it has stood for a second: nobody wants half a file."""
        before, self._seen = self._seen, signature(self._directory, self._configuration.files)
        is_wrong = bool(self._reload.error) and time.monotonic_ns() - self._tried_ns > _TRY_AGAIN_NS
        if (self._seen != self._signature or is_wrong) and self._seen == before:
            self._load()

    def _load(self) -> None:
        """Take on what the directory says now; where it is refused, everything stays as it is."""
        self._notifier.reloading()
        self._signature = signature(self._directory, self._configuration.files)
        self._tried_ns = now_ns = time.monotonic_ns()
        try:
            configuration = load_configuration(self._directory, ONLY_ROOT)
        except RefusedFile as error:
            self._refuse(error, now_ns)
        else:
            self._take_on(configuration)
            self._reload = replace(self._reload, loaded_ns=now_ns, loads=self._reload.loads + 1, error="",
                                   needs_restart=configuration.daemon != self._begun_with)
            log(Priority.NOTICE, f"configuration loaded: {', '.join(self._targets) or 'no targets'}")
        self._publish_due_ns = now_ns
        self._notifier.ready(self._in_words())

    def _refuse(self, error: RefusedFile, now_ns: int) -> None:
        text = _one_line(error)
        if text != self._reload.error:
            self._reload = replace(self._reload, error=text, failed_ns=now_ns, failures=self._reload.failures + 1)
            log(Priority.ERROR, f"the configuration stays as it was: {error}")

    def _take_on(self, configuration: Configuration) -> None:
        before, self._configuration = self._configuration, configuration
        self._signature = self._seen = configuration.signature
        if configuration.daemon != before.daemon:
            log(Priority.WARNING, "[daemon] has changed: that takes effect when the daemon is started again")
        wanted = {plan.name: plan for plan in configuration.targets}
        for name in [name for name in self._targets if name not in wanted]:
            gone = self._targets.pop(name)
            self._booked_ns += gone.clock()
            gone.close()
        for name, plan in wanted.items():
            if name in self._targets:
                self._targets[name].change(plan)
            else:
                self._targets[name] = self._target(plan)
        self._targets = {name: self._targets[name] for name in wanted}
        self._rest_or_go_on()
        gc.collect()  # a target that is gone is a heap of cycles, and holds all that was known of its memory


def _one_line(error: PagepulseError) -> str:
    return f"{error.what}: {' '.join(error.why.split())}"

