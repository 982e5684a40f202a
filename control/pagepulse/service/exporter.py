# SPDX-License-Identifier: GPL-2.0-only
"""Exporter: tells metrics over HTTP, to Prometheus or whoever asks, at an address of the user's choice.

A thread answers from the newest status: who asks slowly, or asks for something else, delays nobody.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from pagepulse.errors import PagepulseError
from pagepulse.service.metrics import StatusCollector
from pagepulse.service.status import Status

_PATH = "/metrics"
_DEADLINE_S = 5.0
_MOST_AT_ONCE, _MAKE_ROOM_S = 8, 0.1
_METHODS = ("GET", "HEAD")


class _Handler(WSGIRequestHandler):
    timeout = _DEADLINE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the standard library)
        """Nothing: a line in the journal for each scrape helps nobody."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._deadlines: dict[socket.socket, float] = {}  # of connections, oldest first
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without looking up our own name: that may take its time, or ask a network."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own; where there are too many, the oldest makes room: a scrape is over in milliseconds."""
        if not self._free.acquire(blocking=False):
            for oldest in list(self._deadlines)[:1]:
                _hang_up(oldest)
            if not self._free.acquire(timeout=_MAKE_ROOM_S):
                self.shutdown_request(request)
                return
        self._deadlines[request] = time.monotonic() + _DEADLINE_S
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._deadlines.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """Let go of those whose time is over, twice a second: a byte now and then buys no more of it."""
        now_s = time.monotonic()
        for connection, deadline_s in list(self._deadlines.items()):
            if deadline_s <= now_s:
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hung up, or was too slow, is no error of ours."""


def _hang_up(connection: socket.socket) -> None:
    """Its thread wakes up from whatever it waits for, and ends it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Exporter:
    """Listens at once, and answers from `start` on.

    Args:
        listen: `127.0.0.1:9753`, or `[::1]:9753`.
        newest: Returns the newest status; called in other threads.

    Raises:
        PagepulseError: The address cannot be had.
    """

    def __init__(self, listen: str, newest: Callable[[], Status]) -> None:
        host, _, port = listen.rpartition(":")
        try:
            self._server = _Server((host.strip("[]"), int(port)))
        except OSError as error:
            raise PagepulseError(f"metrics cannot be told at {listen}", why=error.strerror or str(error),
                                 hint="`metrics` in [daemon] names another address") from None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(StatusCollector(newest))
        self._server.set_app(_only_metrics(make_wsgi_app(registry)))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens: what was chosen where 0 was asked for."""
        return self._server.server_port

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _only_metrics(tell: Callable[..., Any]) -> Callable[..., Any]:
    """Answer for `/metrics` alone."""
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] not in _METHODS:
            start_response("405 Method Not Allowed", [("Allow", ", ".join(_METHODS)), ("Content-Length", "0")])
            return [b""]
        if environ["PATH_INFO"] != _PATH:
            text = f"pagepulse tells its metrics at {_PATH}\n".encode()
            status = "200 OK" if environ["PATH_INFO"] == "/" else "404 Not Found"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))])
            return [text]
        return tell(environ, start_response)
    return app
