# SPDX-License-Identifier: GPL-2.0-only
"""Shared probes: what others clear in any of many processes, told apart by target. One set of kprobes serves them all.

Their page faults are not counted: a probe there taxes each fault on the machine, and hundreds of targets are looked at
too seldom for it to be worth that.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from pagepulse.kernel.probes import Probes, Watched
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Identity
from pagepulse.kernel.taken import Taken
from pagepulse.model.memory import WINDOW, Addresses, Masks

_NUMBER = np.uint64(WINDOW - 1)  # the bits of a window's address that are free to say whose window it is


class SharedProbes:
    """Probes of many targets.

    Args:
        programs: The loaded programs; the caller closes them.
    """

    def __init__(self, programs: Programs) -> None:
        self._probes = Probes(programs, faults=False)
        self._kept: defaultdict[int, Taken] = defaultdict(Taken)  # by number, until its target asks
        self._numbers = itertools.cycle(range(1, WINDOW))
        self._in_use: set[int] = set()
        self._lost = self._probes.taken_lost
        self.own_clear = self._probes.own_clear

    @property
    def attached(self) -> list[str]:
        """Names of the probes that are attached."""
        return self._probes.attached

    @property
    def sees_taken(self) -> bool:
        """Whether any of them is."""
        return self._probes.sees_taken

    @property
    def taken_lost(self) -> int:
        """Accessed bits of any target that could not be kept: who lost them is not known."""
        return self._probes.taken_lost

    def of_one(self) -> OneOfMany:
        """Those of one more target, for the caller to close."""
        number = next(number for number in self._numbers if number not in self._in_use)
        self._in_use.add(number)
        return OneOfMany(self, Watched(self._probes.watched, number), number)

    def take(self, number: int) -> tuple[Addresses, Masks]:
        """What others cleared of the target of this number since it last asked: windows and masks, shape (n,) both."""
        keys, masks = self._probes.drain_taken()
        owners = keys & _NUMBER
        for owner in np.unique(owners).tolist():
            if owner in self._in_use:  # else of one that was closed since
                self._kept[owner].keep(keys[owners == owner] - np.uint64(owner), masks[owners == owner])
        return self._kept.pop(number, Taken()).all()

    def newly_lost(self) -> int:
        """What was lost since this was last asked, by whomever."""
        before, self._lost = self._lost, self._probes.taken_lost
        return self._lost - before

    def let_go(self, number: int) -> None:
        """The target of this number is watched no more."""
        self._in_use.discard(number)
        self._kept.pop(number, None)

    def close(self) -> None:
        """Detach everything."""
        self._probes.close()


class OneOfMany:
    """The probes as one of the targets sees them.

    Args:
        shared: The probes.
        watched: Its place among those that the programs look at.
        number: Its number there.
    """

    counts_faults = False

    def __init__(self, shared: SharedProbes, watched: Watched, number: int) -> None:
        self._shared, self._watched, self._number = shared, watched, number
        self._has_room = True
        self._lost = 0
        self.own_clear = shared.own_clear

    @property
    def attached(self) -> list[str]:
        """Names of the probes that are attached."""
        return self._shared.attached

    @property
    def sees_taken(self) -> bool:
        """Whether what others clear is kept."""
        return self._has_room and self._shared.sees_taken

    @property
    def taken_lost(self) -> int:
        """Accessed bits that could not be kept, of this target or another: where this grows, nothing is known."""
        return self._shared.taken_lost

    @property
    def lost(self) -> int:
        """The same, each of them told to one target alone, so that a sum over all is right."""
        self._lost += self._shared.newly_lost()
        return self._lost

    def watch(self, target: Identity) -> None:
        """Look at this target from now on."""
        self._has_room = self._watched.be(target.mm)

    def drain_faults(self) -> tuple[Addresses, Addresses]:
        """Nothing was counted."""
        return np.empty(0, np.uint64), np.empty(0, np.uint64)

    def drain_taken(self) -> tuple[Addresses, Masks]:
        """Windows whose accessed bits another agent cleared since the last drain, and which: shape (n,) both."""
        return self._shared.take(self._number)

    def close(self) -> None:
        """Look at it no more."""
        self._watched.be(0)
        self._shared.let_go(self._number)
