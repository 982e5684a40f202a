# SPDX-License-Identifier: GPL-2.0-only
"""Places: where a daemon's things are. A leaf: who only asks a daemon shall not wait for all that it is made of."""

from pathlib import Path

DIRECTORY = Path("/etc/pagepulse")
SOCKET = Path("/run/pagepulse/pagepulse.sock")
