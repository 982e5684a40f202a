# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse pause`."""

from __future__ import annotations

from pagepulse.cli.pausing import Pausing


class Pause(Pausing):
    """Tell a daemon to rest: nothing is read, cleared or acted on until `pagepulse resume`.

    Without a name, all targets rest. What is known stays known; a restart of the daemon ends the rest.
    """

    verb = "pause"


COMMAND = Pause()
