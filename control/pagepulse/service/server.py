# SPDX-License-Identifier: GPL-2.0-only
"""Server: answers on a local socket, from what the daemon last published. A thread of its own: no peer delays the work.

A request is one line of JSON, `{"verb": "status"}`, of at most _LONGEST_REQUEST bytes; so is the answer, of any length.
Who sends rubbish, too much, nothing, or takes no answer, is let go after a while.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import json
import os
import selectors
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pagepulse.errors import PagepulseError
from pagepulse.service.notify import Priority, log

Answer = Callable[[dict[str, Any]], bytes]

_LONGEST_REQUEST, _AT_ONCE = 4096, 64
_DEADLINE_NS = 5_000_000_000  # from one request, or from the connection, to the next one's end, and for an answer
_SO_PEERGROUPS, _MOST_GROUPS = 59, 256  # Python takes no more than a kilobyte
_PAUSE_S = 0.1
_ROOT_ONLY, _WITH_GROUP = 0o600, 0o660


class Refused(Exception):
    """A request that is not answered; its text says why."""


@dataclass(slots=True)
class _Peer:
    """One connection."""

    socket: socket.socket
    deadline_ns: int
    request: bytearray = field(default_factory=bytearray)
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class Server:
    """Listens on a socket that root and, if one is given, the members of a group may use.

    Args:
        path: The socket. One that nobody listens on any more is replaced.
        group: Name of the group; None: root alone.
        answer: Makes the answer to a request, as `answered` writes it; called in the server's thread. It may raise
            `Refused`.

    Raises:
        PagepulseError: Another daemon has the socket, or it cannot be made.
    """

    def __init__(self, path: Path, group: str | None, answer: Answer) -> None:
        self.path, self._answer = path, answer
        self._gid = _group_id(group)
        self._lock_fd = _lock(path)
        try:
            self._listener = _listener(path, self._gid)
        except OSError as error:
            os.close(self._lock_fd)
            raise PagepulseError(f"cannot listen on {path}", why=error.strerror or str(error),
                                 hint="`socket` in [daemon] names another place") from None
        self._inode = path.stat().st_ino
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_fd, self._waker_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._peers: dict[int, _Peer] = {}
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="pagepulse-sock", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more, and take the socket away."""
        self._is_over = True
        os.write(self._waker_fd, b"!")
        if self._thread.ident is not None:
            self._thread.join()
        for fd in list(self._peers):
            self._end(fd)
        self._selector.close()
        self._listener.close()
        with suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        for fd in (self._wake_fd, self._waker_fd, self._lock_fd):
            os.close(fd)

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._is_over:
            for key, events in self._selector.select(self._patience_s()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd in self._peers:
                    self._go_on(key.fd, events)
            self._let_go_of_the_slow()

    def _patience_s(self) -> float | None:
        if not self._peers:
            return None
        first_ns = min(peer.deadline_ns for peer in self._peers.values())
        return max(first_ns - time.monotonic_ns(), 0) / 1e9

    def _let_go_of_the_slow(self) -> None:
        now_ns = time.monotonic_ns()
        for fd in [fd for fd, peer in self._peers.items() if peer.deadline_ns <= now_ns]:
            self._end(fd)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno == errno.EMFILE:  # the next try would come at once, and at once again
                time.sleep(_PAUSE_S)
            return
        if len(self._peers) >= _AT_ONCE:
            _tell_shortly(connection, f"too many peers: at most {_AT_ONCE}")
        elif not self._may_ask(connection):
            _tell_shortly(connection, "only root and the group of the socket may ask")
        else:
            connection.setblocking(False)
            self._peers[connection.fileno()] = _Peer(connection, time.monotonic_ns() + _DEADLINE_NS)
            self._selector.register(connection, selectors.EVENT_READ)

    def _may_ask(self, connection: socket.socket) -> bool:
        """The kernel's word for who connected, whatever the mode of the socket has become."""
        try:
            _, uid, gid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid == 0 or gid == self._gid:
                return True
            groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
        except OSError:
            return False
        return self._gid in struct.unpack(f"{len(groups) // 4}I", groups)

    def _go_on(self, fd: int, events: int) -> None:
        peer = self._peers[fd]
        try:
            if events & selectors.EVENT_WRITE:
                self._send(peer)
                self._answer_what_is_there(peer)
            elif events & selectors.EVENT_READ:
                self._receive(fd, peer)
        except BlockingIOError:
            return
        except OSError:
            self._end(fd)

    def _receive(self, fd: int, peer: _Peer) -> None:
        data = peer.socket.recv(_LONGEST_REQUEST)
        if not data:
            self._end(fd)
            return
        peer.request += data
        self._answer_what_is_there(peer)

    def _answer_what_is_there(self, peer: _Peer) -> None:
        while not peer.answer:
            line, newline, rest = peer.request.partition(b"\n")
            if len(line) > _LONGEST_REQUEST:
                newline, rest = bytearray(b"\n"), bytearray()
            if not newline:
                return
            peer.request, peer.deadline_ns = bytearray(rest), time.monotonic_ns() + _DEADLINE_NS
            peer.answer = memoryview(self._answered(bytes(line)))
            self._selector.modify(peer.socket, selectors.EVENT_WRITE)
            self._send(peer)

    def _send(self, peer: _Peer) -> None:
        peer.answer = peer.answer[peer.socket.send(peer.answer):]
        if not peer.answer:
            self._selector.modify(peer.socket, selectors.EVENT_READ)

    def _answered(self, line: bytes) -> bytes:
        try:
            return self._answer(_request(line))
        except Refused as refused:
            return _error(str(refused))
        except Exception as error:  # noqa: BLE001 - a fault of ours in one answer must not end them all
            log(Priority.ERROR, f"a request could not be answered: {error!r}")
            return _error("the daemon failed to answer: its log says why")

    def _end(self, fd: int) -> None:
        peer = self._peers.pop(fd)
        self._selector.unregister(peer.socket)
        peer.socket.close()


def _request(line: bytes) -> dict[str, Any]:
    """An object with a verb."""
    if len(line) > _LONGEST_REQUEST:
        raise Refused(f"expected a request of at most {_LONGEST_REQUEST} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused("expected one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise Refused('expected an object with a verb, such as {"verb": "status"}')
    return request


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise PagepulseError(f"there is no group {group!r}", why="`group` in [daemon] names it",
                             hint="`getent group` lists groups") from None


def _lock(path: Path) -> int:
    """Held as long as the daemon lives: what tells a socket that is in use from one that was left behind."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PagepulseError(f"cannot make {lock}", why=error.strerror or str(error),
                             hint="`socket` in [daemon] names another place") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise PagepulseError(f"another pagepulse serves at {path}", why=f"it holds {lock}",
                             hint="end it, or give this one a socket of its own in [daemon]") from None
    return fd


def _listener(path: Path, gid: int | None) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "there is a file of this name, and it is no socket")
        log(Priority.NOTICE, f"{path} was left behind by a daemon that ended: replaced")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)  # nobody else can connect before the group is right
    try:
        listener.bind(str(path))
        if gid is not None:
            os.chown(path, 0, gid)
        path.chmod(_ROOT_ONLY if gid is None else _WITH_GROUP)
        listener.listen(_AT_ONCE)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def answered(content: dict[str, Any]) -> bytes:
    """An answer as it is sent."""
    return answered_text(json.dumps(content))


def answered_text(content: str) -> bytes:
    """An answer as it is sent, of an object that is not empty and was written already."""
    return f'{{"ok": true, {content[1:]}\n'.encode()


def _error(text: str) -> bytes:
    return json.dumps({"ok": False, "error": text}).encode() + b"\n"


def _tell_shortly(connection: socket.socket, text: str) -> None:
    """As much as fits without waiting, and goodbye."""
    with suppress(OSError):
        connection.send(_error(text), socket.MSG_DONTWAIT)
    connection.close()
