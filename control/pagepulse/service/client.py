# SPDX-License-Identifier: GPL-2.0-only
"""Client: asks a daemon that runs."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from pagepulse.errors import PagepulseError, Unsupported, UsageError

_PATIENCE_S = 10.0


def ask(path: Path, verb: str, **arguments: Any) -> dict[str, Any]:
    """One question, one answer.

    Args:
        path: The daemon's socket.
        verb: What to do.
        **arguments: More of the request; what is None is left out.

    Raises:
        PagepulseError: Nobody answers there, or not in time.
        Unsupported: We may not ask.
        UsageError: The daemon refuses the request.
    """
    request = {"verb": verb, **{name: value for name, value in arguments.items() if value is not None}}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(_PATIENCE_S)
            peer.connect(str(path))
            with suppress(BrokenPipeError):  # it has said why, and hung up
                peer.sendall(json.dumps(request).encode() + b"\n")
            line = _line(peer)
    except PermissionError:
        raise Unsupported(f"you may not ask the daemon at {path}", why="only root and its group may",
                          hint="use sudo; `group` in [daemon] of the configuration lets others ask") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise PagepulseError("no daemon is running", why=f"nobody listens on {path}",
                             hint="`pagepulse serve` starts one; --socket names another") from None
    except OSError as error:
        raise PagepulseError(f"the daemon at {path} does not answer", why=str(error)) from None
    return _answer(line)


def _line(peer: socket.socket) -> bytes:
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = peer.recv(1 << 20)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _answer(line: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise PagepulseError("the daemon's answer is cut off", why=f"{len(line)} bytes that are no JSON",
                             hint="ask again; its log may say why") from None
    if not answer.pop("ok", False):
        raise UsageError(f"the daemon refuses: {answer.get('error', 'without a reason')}")
    return answer
