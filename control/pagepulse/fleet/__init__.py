# SPDX-License-Identifier: GPL-2.0-only
"""Fleet: many processes watched by one loop, under one budget.

- selection: which processes are meant, as the user said it
- roster: who they are right now: forks and exits as they happen
- fleet: the loop: whom to visit when, and what it costs
"""

from pagepulse.fleet.fleet import Fleet
from pagepulse.fleet.roster import Roster
from pagepulse.fleet.selection import Selection

__all__ = ["Fleet", "Roster", "Selection"]
