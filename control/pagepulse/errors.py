# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong, and with which exit code.

    PagepulseError            1  the work failed
    +-- TargetGone            1  the target exited, or became another program
    +-- UsageError            2  wrong usage
    |   +-- RefusedFile       2  a scheme file or a recording that we do not accept
    +-- Unsupported           3  this kernel or these privileges cannot do it

Every message has three parts: what happened, why, and what to do next. Only `cli.main()` catches and prints.
"""

from __future__ import annotations


class PagepulseError(Exception):
    """The work failed.

    Args:
        what: One sentence: what happened.
        why: The cause, where it is known.
        hint: What the user can do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        """All three parts, one a line, as `main()` prints them."""
        parts = [self.what]
        if self.why:
            parts.append(f"  why:  {self.why}")
        if self.hint:
            parts.append(f"  next: {self.hint}")
        return "\n".join(parts)


class TargetGone(PagepulseError):
    """The target exited, or replaced itself by another program."""


class UsageError(PagepulseError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class RefusedFile(UsageError):
    """A file that pagepulse does not accept: malformed, unsafe, or of another version."""


class Unsupported(PagepulseError):
    """This kernel, or the privileges that we have, cannot do what was asked."""

    exit_code = 3
