# SPDX-License-Identifier: GPL-2.0-only
"""Probes: what reading page tables cannot see. Attached where the kernel allows; without any we still monitor."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Identity
from pagepulse.kernel.syscalls import HashDrain, HashEntries, open_kprobe, open_raw_tracepoint
from pagepulse.model.memory import Addresses, Masks

_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe/type")
_SIZES = {"faults": 16384, "taken": 65536}  # PP_FAULTS and PP_TAKEN

_FAULT_FUNCTION, _FAULT_EVENT = "handle_mm_fault", "page_fault_user"

CLEARING_FUNCTIONS = {
    "ptep_test_and_clear_young": "on_pte_clear_young",
    "ptep_clear_flush_young": "on_pte_clear_young",
    "pmdp_test_and_clear_young": "on_pmd_clear_young",
    "pmdp_clear_flush_young": "on_pmd_clear_young",
}
"""Kernel functions through which others clear accessed bits (arch/x86/mm/pgtable.c) -> our program."""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """One probe: whether it is attached, and if not, why and what is lost without it."""

    name: str
    available: bool
    reason: str
    without: str


class Claims:
    """Which target the programs take an mm for: the one that claimed it last.

    Two may claim the same: the child of a vfork has its parent's until it becomes another program, and what an exited
    process had the kernel may have given to a new one before we let go of the former.

    Args:
        entries: The map, of all targets.
    """

    def __init__(self, entries: HashEntries) -> None:
        self._entries = entries
        self._numbers: dict[int, list[int]] = {}

    def make(self, mm: int, number: int) -> bool:
        """False: there is no room for one more mm."""
        try:
            self._entries.put(mm, number)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return False
        self._numbers.setdefault(mm, []).append(number)
        return True

    def drop(self, mm: int, number: int) -> None:
        """Who claimed it before has it again."""
        numbers = self._numbers[mm]
        numbers.remove(number)
        if numbers:
            self._entries.put(mm, numbers[-1])
        else:
            del self._numbers[mm]
            self._entries.remove(mm)


class Watched:
    """One of many targets whose accessed bits the programs keep, under one mm after the other.

    Args:
        claims: Those of all targets.
        number: Of this target: less than WINDOW, it is added to the addresses of its windows.
    """

    def __init__(self, claims: Claims, number: int) -> None:
        self._claims, self._number, self._mm = claims, number, 0

    def be(self, mm: int) -> bool:
        """From now on it is this one; 0: nobody. False: there is no room for one more."""
        if mm == self._mm:
            return True
        before, self._mm = self._mm, 0
        if before:
            self._claims.drop(before, self._number)
        if mm and not self._claims.make(mm, self._number):
            return False
        self._mm = mm
        return True


class _Table:
    """Two BPF hash maps: the programs write to one, and what the other has is taken out.

    Args:
        programs: The loaded programs.
        name: `faults` or `taken`.
    """

    def __init__(self, programs: Programs, name: str) -> None:
        filter_, loss = programs.arrays["filter"], programs.arrays["loss"]
        self._drains = [HashDrain(programs.fd(f"{name}{epoch}"), _SIZES[name]) for epoch in (0, 1)]
        self._epoch = filter_[f"{name}_epoch"]
        self._begun, self._done = loss[f"{name}_begun"][0], loss[f"{name}_done"][0]
        self._drained = [0, 0]
        self._barrier = threading.Lock()

    def take(self) -> tuple[Addresses, Masks]:
        """All that was written by now: addresses of windows and their values, shape (n,) both."""
        used = int(self._epoch[0])
        if int(self._begun[used]) == self._drained[used]:
            return _nothing()
        self._epoch[0] = 1 - used
        with self._barrier:  # a locked instruction: who reads the old epoch from here on has begun already, as we see
            pass
        while int(self._done[used]) != int(self._begun[used]):  # a microsecond: they cannot be preempted
            os.sched_yield()
        self._drained[used] = int(self._begun[used])
        return self._drains[used]()


class _OwnClear:
    """While it is entered, what this thread clears is not taken for another's doing.

    Only then: when our own need of memory makes the kernel reclaim, what it clears is as lost as any other's.
    """

    def __init__(self, programs: Programs) -> None:
        self._self = programs.arrays["filter"]["self"]

    def __enter__(self) -> None:
        self._self[0] = threading.get_native_id()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._self[0] = 0


class Probes:
    """The probes of one target.

    Args:
        programs: The loaded programs; the caller closes them.
        faults: Whether to count page faults, which taxes each of them a little, on the whole machine.
    """

    def __init__(self, programs: Programs, *, faults: bool = True) -> None:
        self._programs = programs
        self.watched = Claims(HashEntries(programs.fd("watched")))
        """Whom the programs look at while `watch` has named nobody: mm -> number."""
        self._faults, self._taken = _Table(programs, "faults"), _Table(programs, "taken")
        self.own_clear = _OwnClear(programs)
        """A context for what we clear ourselves."""
        self._filter = programs.arrays["filter"]
        self._loss = programs.arrays["loss"]
        self._links: list[int] = []
        self.states: list[ProbeState] = []
        if faults:
            self._attach_faults()
        self._attach_clearing()

    @property
    def attached(self) -> list[str]:
        """Names of the probes that are attached."""
        return [state.name for state in self.states if state.available]

    def watch(self, target: Identity) -> None:
        """Look at this target from now on."""
        self._filter["mm"] = target.mm
        self._filter["tgid"] = target.tgid

    def drain_faults(self) -> tuple[Addresses, Addresses]:
        """Windows with page faults since the last drain, and how many each: shape (n,) both."""
        return self._faults.take()

    def drain_taken(self) -> tuple[Addresses, Masks]:
        """Windows whose accessed bits another agent cleared since the last drain, and which: shape (n,) both."""
        return self._taken.take()

    @property
    def sees_taken(self) -> bool:
        """Whether any probe on the clearing functions is attached."""
        return any(name.startswith("kprobe:p") for name in self.attached)

    @property
    def counts_faults(self) -> bool:
        """Whether one of the probes on page faults is attached."""
        return bool({f"kprobe:{_FAULT_FUNCTION}", f"raw_tracepoint:{_FAULT_EVENT}"}.intersection(self.attached))

    @property
    def lost(self) -> int:
        """Faults and accessed bits that the kernel side could not keep."""
        return int(self._loss["faults"][0]) + self.taken_lost

    @property
    def taken_lost(self) -> int:
        """Accessed bits among them: where this grows, what reads clear may have been touched."""
        return int(self._loss["taken"][0])

    def close(self) -> None:
        """Detach everything."""
        self._filter["mm"] = 0
        self._filter["tgid"] = 0
        while self._links:
            os.close(self._links.pop())

    def _attach_faults(self) -> None:
        no_faults = "faults are not counted between reads, refaults come from /proc only"
        fault = self._kprobe(_FAULT_FUNCTION, "on_handle_mm_fault", f"the tracepoint {_FAULT_EVENT} is used instead")
        if not fault:
            self._tracepoint(_FAULT_EVENT, "on_page_fault_user", no_faults)

    def _attach_clearing(self) -> None:
        for function, program in CLEARING_FUNCTIONS.items():
            self._kprobe(function, program, "accesses whose trace reclaim or another monitor clears first are missed")

    def _kprobe(self, function: str, program: str, without: str) -> bool:
        name = f"kprobe:{function}"
        try:
            link = open_kprobe(function, self._programs.fd(program), int(_KPROBE_PMU.read_text()))
        except FileNotFoundError:
            reason = "this kernel was built without kprobes" if not _KPROBE_PMU.exists() else "no such kernel function"
            self.states.append(ProbeState(name, False, reason, without))
            return False
        except OSError as error:
            self.states.append(ProbeState(name, False, error.strerror or str(error), without))
            return False
        self._links.append(link)
        self.states.append(ProbeState(name, True, "attached", without))
        return True

    def _tracepoint(self, event: str, program: str, without: str) -> None:
        name = f"raw_tracepoint:{event}"
        try:
            self._links.append(open_raw_tracepoint(event, self._programs.fd(program)))
        except OSError as error:
            self.states.append(ProbeState(name, False, error.strerror or str(error), without))
        else:
            self.states.append(ProbeState(name, True, "attached", without))


def _nothing() -> tuple[Addresses, Masks]:
    return np.empty(0, np.uint64), np.empty(0, np.uint64)
