# SPDX-License-Identifier: GPL-2.0-only
"""Read a scheme file that may be trusted with root.

The rule is that of sshd and sudo: whoever could edit the file could have our privileges, so it must belong to root or
to the invoking user, and nobody else may be able to write it. All of it is asked of the one open descriptor that is
then read, so the file cannot be exchanged between the question and the reading.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Set as AbstractSet
from pathlib import Path

from pagepulse.policy.parse import Document, parse_document, refusal
from pagepulse.policy.scheme import Scheme

MAX_BYTES = 1024 * 1024


def load_document(path: str | Path, trusted: AbstractSet[int] | None = None) -> Document:
    """What a scheme file says, of pagepulse or of damo.

    Args:
        path: The file.
        trusted: User ids that may own it; None: those of `invoking_uids`.

    Raises:
        RefusedFile: The file cannot be read, somebody else could have written it, or its content has faults.
    """
    return parse_document(read_trusted(path, trusted), str(path))


def load_schemes(path: str | Path) -> tuple[Scheme, ...]:
    """The schemes in a file; see `load_document`."""
    return load_document(path).schemes


def invoking_uids() -> frozenset[int]:
    """Who may own a file that we act on: root, and the user who called us, also where that was through sudo."""
    uids = {0, os.geteuid()}
    # Only root can be told by sudo who called; anybody else could set the variable himself.
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():
        uids.add(int(os.environ["SUDO_UID"]))
    return frozenset(uids)


def is_private_group(gid: int, trusted: AbstractSet[int]) -> bool:
    """Whether a group is a trusted user's own: it has the user's name, and no member but trusted users.

    Where users have such groups, files are made group-writable by default (umask 002), and nobody else gains by it.
    """
    accounts = pwd.getpwall()
    names = {account.pw_name for account in accounts if account.pw_uid in trusted}
    try:
        group = grp.getgrgid(gid)
    except KeyError:  # a group without an entry: nobody knows who is in it
        return False
    return (group.gr_name in names and names.issuperset(group.gr_mem)
            and all(account.pw_uid in trusted for account in accounts if account.pw_gid == gid))


def why_untrusted(status: os.stat_result, trusted: AbstractSet[int], *, private_group: bool) -> str:
    """Who else could have written the file; empty: nobody.

    Args:
        status: Of the open file.
        trusted: User ids that may write it.
        private_group: Whether the file's group is a trusted user's own.
    """
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_uid not in trusted:
        return f"expected a file of root or of the user who calls, got a file of user id {status.st_uid}"
    if status.st_mode & stat.S_IWOTH:
        return f"expected a file that only its owner can write, got a world-writable file ({mode})"
    if status.st_mode & stat.S_IWGRP and not private_group:
        return f"expected a file that only its owner can write, got one that group {status.st_gid} can write ({mode})"
    return ""


def _has_acl(descriptor: int) -> bool:
    """Whether the file has an access control list."""
    with contextlib.suppress(OSError):  # a file system without extended attributes has no lists
        return "system.posix_acl_access" in os.listxattr(descriptor)
    return False


def read_trusted(path: str | Path, trusted: AbstractSet[int] | None = None) -> bytes:
    """The bytes of a file that nobody else could have written; as `load_document`."""
    name, trusted = str(path), invoking_uids() if trusted is None else trusted
    try:
        # Not blocking: opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            fault = _unfit(status)
            doubt = "" if fault else _untrusted(descriptor, status, trusted)
            data = b"" if fault or doubt else _read(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise refusal(name, [error.strerror or str(error)]) from None
    if doubt:
        raise refusal(name, [f"{doubt}; what it says will be done with root"],
                      hint="look into it; if you trust it, `chown` it to yourself or root and `chmod go-w` it")
    if len(data) > MAX_BYTES:
        fault = "expected at most 1 MiB, got more"
    if fault:
        raise refusal(name, [fault])
    return data


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(MAX_BYTES + 1)


def _unfit(status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "expected a file, got a directory"
    if not stat.S_ISREG(status.st_mode):
        return "expected a regular file, got a device, pipe or socket"
    return ""


def _untrusted(descriptor: int, status: os.stat_result, trusted: AbstractSet[int]) -> str:
    # Behind the group bits may stand an access control list, of which they are only the upper bound.
    private = bool(status.st_mode & stat.S_IWGRP and is_private_group(status.st_gid, trusted)
                   and not _has_acl(descriptor))
    return why_untrusted(status, trusted, private_group=private)
