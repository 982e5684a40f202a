# SPDX-License-Identifier: GPL-2.0-only
"""`python -m pagepulse` is the `pagepulse` command."""

from pagepulse.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
