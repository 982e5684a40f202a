# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse resume`."""

from __future__ import annotations

from pagepulse.cli.pausing import Pausing


class Resume(Pausing):
    """Tell a daemon to go on with targets that rest; without a name, with all.

    Memory that was watched when the rest began is known all through it.
    """

    verb = "resume"


COMMAND = Resume()
