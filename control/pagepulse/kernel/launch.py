# SPDX-License-Identifier: GPL-2.0-only
"""Launch: start the command that is to be watched, as the user who invoked us, not as root."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence

from pagepulse.errors import UsageError

_PATIENCE_S = 5.0


class Command:
    """A started command.

    Args:
        argv: Program and arguments; no shell.
        mute: Discard what it prints.

    Raises:
        UsageError: It cannot be started.
    """

    def __init__(self, argv: Sequence[str], *, mute: bool = False) -> None:
        user = _invoking_user()
        identity = {} if user is None else {
            "user": user.pw_uid, "group": user.pw_gid, "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid)}
        environment = dict(os.environ)
        if user is not None:
            environment |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}
        try:
            output = subprocess.DEVNULL if mute else None
            self._child = subprocess.Popen(argv, env=environment, stdout=output, stderr=output, **identity)  # type: ignore[call-overload]
        except OSError as error:
            raise UsageError(f"{argv[0]} cannot be started", why=error.strerror or str(error),
                             hint="give a program and its arguments after --; there is no shell") from None
        self.pid: int = self._child.pid

    def end(self) -> int:
        """The command's exit status as a shell would give it, 128 + signal if one ended it.

        A command that still runs is ended with SIGTERM, and SIGKILL if it does not listen; its status is then 0,
        because the end was ours.
        """
        ours = self._child.poll() is None
        if ours:
            self._child.send_signal(signal.SIGTERM)
            self._child.send_signal(signal.SIGCONT)  # a stopped process could not end
            try:
                self._child.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
        status: int = self._child.wait()
        if ours:
            return 0
        return status if status >= 0 else 128 - status

    def wait_briefly(self) -> None:
        """The target has ended: let it be reaped, so that `end()` gives its own status."""
        self._child.wait()


def _invoking_user() -> pwd.struct_passwd | None:
    """Who called sudo; None without sudo, or if root did."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdigit() or uid == "0":
        return None
    try:
        return pwd.getpwuid(int(uid))
    except KeyError:
        raise UsageError(f"the user who called sudo (id {uid}) does not exist", hint="unset SUDO_UID") from None
