# SPDX-License-Identifier: GPL-2.0-only
"""`python -m pagepulse.capture FILE...`: pack recordings that have ended, at the lowest priority."""

import os
import signal
import sys
from pathlib import Path

from pagepulse.capture.codec import Undecodable
from pagepulse.capture.packed import pack
from pagepulse.errors import PagepulseError


def main(paths: list[str]) -> int:
    """Pack them; 1 if one had to stay as it is."""
    os.nice(19)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is half packed is taken away
    failed = False
    for path in map(Path, paths):
        try:
            pack(path)
        except (OSError, Undecodable, PagepulseError) as error:
            failed = True
            print(f"{path} stays unpacked: {error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
