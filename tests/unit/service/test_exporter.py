# SPDX-License-Identifier: GPL-2.0-only
"""Metrics over HTTP: no peer, whatever it sends or does not, keeps others from their answer."""

from __future__ import annotations

import socket
import time
import urllib.request
from contextlib import ExitStack, suppress

import pytest

from pagepulse.errors import PagepulseError
from pagepulse.service import exporter as exporter_module
from pagepulse.service.exporter import Exporter
from unit.service.test_status import process, status, target


@pytest.fixture(name="exporter")
def _exporter():
    one = Exporter("127.0.0.1:0", lambda: status(target(process())))
    one.start()
    yield one
    one.close()


def connected(exporter: Exporter) -> socket.socket:
    return socket.create_connection(("127.0.0.1", exporter.port), timeout=20)


def scraped(exporter: Exporter) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=20) as answer:
        return answer.read().decode()


def test_who_sends_a_byte_now_and_then_is_let_go_all_the_same(exporter, monkeypatch):
    monkeypatch.setattr(exporter_module, "_DEADLINE_S", 0.5)
    with connected(exporter) as peer:
        begun_s = time.monotonic()
        with suppress(OSError):  # which one depends on what the kernel notices first
            while time.monotonic() - begun_s < 15:
                peer.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begun_s < 10


def test_a_crowd_that_drips_does_not_keep_others_from_their_answer(exporter):
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(exporter)).sendall(b"GET /metrics")
        assert "pagepulse_uptime_seconds" in scraped(exporter)


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"\x00\xff\n\n",
                                      b"GET /metrics HTTP/1.1\r\n" + b"x" * 70_000 + b"\n",
                                      b"POST /metrics HTTP/1.1\r\n\r\n", b"GET /other HTTP/1.1\r\n\r\n", b""])
def test_who_talks_nonsense_or_hangs_up_harms_nobody(exporter, request_, capfd):
    with connected(exporter) as peer:
        peer.sendall(request_)
    assert "pagepulse_uptime_seconds" in scraped(exporter)
    assert "Traceback" not in capfd.readouterr().err


def test_an_address_that_is_taken_is_told(exporter):
    with pytest.raises(PagepulseError, match="metrics cannot be told"):
        Exporter(f"127.0.0.1:{exporter.port}", status)
