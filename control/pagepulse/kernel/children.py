# SPDX-License-Identifier: GPL-2.0-only
"""Children: modules of this package that are run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent.parent


def start(module: str, *arguments: str, environment: Mapping[str, str] | None = None,
          **options: Any) -> subprocess.Popen[bytes]:
    """Start a module. It finds this package and the distribution's libraries, wherever we were started.

    Args:
        module: Its full name.
        *arguments: Its command line.
        environment: Beyond what it has anyway: nothing of ours is passed on.
        **options: As `subprocess.Popen` takes them.

    Raises:
        OSError: It cannot be started.
    """
    whole = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(_PACKAGE),
             **(environment or {})}
    return subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, env=whole, cwd="/",
                            start_new_session=True, **options)
