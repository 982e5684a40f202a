# SPDX-License-Identifier: GPL-2.0-only
"""The local socket: who may ask, and that no peer, whatever it sends or not, keeps others from their answer."""

import json
import os
import socket
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pagepulse.errors import PagepulseError, Unsupported, UsageError
from pagepulse.service import server as server_module
from pagepulse.service.client import ask
from pagepulse.service.server import Refused, Server, answered

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a daemon runs as root")


def echo(request):
    if request["verb"] == "refuse":
        raise Refused("it shall not be")
    if request["verb"] == "break":
        raise TypeError("a fault of ours")
    return answered({"request": request, "filling": "x" * request.get("size", 0)})


@pytest.fixture(name="serving")
def _serving(tmp_path):
    server = Server(tmp_path / "sock", None, echo)
    server.start()
    yield server
    server.close()


def connected(server: Server) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(20)
    peer.connect(str(server.path))
    return peer


def told(peer: socket.socket) -> dict:
    return json.loads(peer.makefile().readline())


def test_a_question_is_answered_and_a_large_answer_arrives_whole(serving):
    answer = ask(serving.path, "status", size=5_000_000, nothing=None)
    assert answer["request"] == {"verb": "status", "size": 5_000_000}
    assert len(answer["filling"]) == 5_000_000


def test_a_refusal_arrives_as_an_error(serving):
    with pytest.raises(UsageError, match="it shall not be"):
        ask(serving.path, "refuse")


def test_a_fault_of_ours_in_one_answer_does_not_end_them_all(serving, capsys):
    with pytest.raises(UsageError, match="failed to answer"):
        ask(serving.path, "break")
    assert ask(serving.path, "status")
    assert "a fault of ours" in capsys.readouterr().err


def test_several_requests_on_one_connection_are_answered_in_turn(serving):
    with connected(serving) as peer:
        lines = peer.makefile()
        peer.sendall(b'{"verb": "a"}\n{"verb": "b"}\n{"verb')
        assert [json.loads(lines.readline())["request"]["verb"] for _ in range(2)] == ["a", "b"]
        peer.sendall(b'": "c"}\n')
        assert json.loads(lines.readline())["request"] == {"verb": "c"}


@pytest.mark.parametrize("rubbish", [b"\x00\xff\n", b"[]\n", b"{}\n", b"[" * 4000 + b"\n", b'{"verb": 1}\n', b"\n"])
def test_rubbish_is_answered_with_an_error_and_harms_nobody(serving, rubbish):
    with connected(serving) as peer:
        peer.sendall(rubbish)
        assert not told(peer)["ok"]
        assert ask(serving.path, "status")


def test_a_request_without_end_is_cut_off(serving):
    with connected(serving) as peer:
        peer.sendall(b"x" * 4097)
        assert "at most 4096 bytes" in told(peer)["error"]


def test_peers_that_hang_say_nothing_or_take_no_answer_delay_nobody_and_are_let_go(serving, monkeypatch):
    monkeypatch.setattr(server_module, "_DEADLINE_NS", 3_000_000_000)  # ours is met on a busy machine, too
    with connected(serving) as silent, connected(serving) as half, connected(serving) as deaf:
        half.sendall(b'{"verb": "sta')
        deaf.sendall(b'{"verb": "x", "size": 50000000}\n')
        assert ask(serving.path, "status")
        for peer in (silent, half):
            assert peer.recv(1) == b""  # let go
        with suppress(ConnectionResetError):
            while deaf.recv(1 << 20):
                pass


def test_more_peers_than_there_is_room_for_are_told_so(serving):
    peers = [connected(serving) for _ in range(server_module._AT_ONCE)]
    for peer in peers:
        peer.sendall(b'{"verb": "a"}\n')
        assert told(peer)["ok"]
    with connected(serving) as late:
        assert "too many peers" in told(late)["error"]
    for peer in peers:
        peer.close()


def test_a_peer_that_hangs_up_at_once_harms_nobody(serving):
    for _ in range(20):
        connected(serving).close()
    assert ask(serving.path, "status")


def test_root_alone_may_connect_unless_there_is_a_group(tmp_path):
    for group, mode in ((None, 0o600), ("daemon", 0o660)):
        server = Server(tmp_path / "sock", group, echo)
        assert stat.S_IMODE(server.path.stat().st_mode) == mode
        server.close()
        assert not (tmp_path / "sock").exists()


def test_a_group_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PagepulseError, match="there is no group"):
        Server(tmp_path / "sock", "no-such-group-here", echo)


@pytest.mark.parametrize(("uid", "gid", "groups", "may"), [
    (0, 0, [], True), (65534, 65534, [], False), (65534, 1, [], True), (65534, 65534, [1], True)])
def test_the_kernels_word_counts_whatever_the_mode_has_become(uid, gid, groups, may):
    with tempfile.TemporaryDirectory() as place:  # not below tmp_path, which only its owner can enter
        Path(place).chmod(0o711)
        server = Server(Path(place) / "sock", "daemon", echo)  # group 1 of every Debian
        server.start()
        server.path.chmod(0o666)
        try:
            assert _asks_as(uid, gid, groups, server) == may
        finally:
            server.close()


def _asks_as(uid, gid, groups, server) -> bool:
    """Whether a child with these ids gets an answer."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            ask(server.path, "status")
            os._exit(0)
        except UsageError:
            os._exit(1)
        finally:
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 1}
    return status == 0


def test_a_socket_in_use_is_left_alone_and_one_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "sock"
    first = Server(path, None, echo)
    first.start()
    with pytest.raises(PagepulseError, match="another pagepulse serves"):
        Server(path, None, echo)
    assert ask(path, "status")
    first.close()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # as SIGKILL leaves it
    second = Server(path, None, echo)
    second.start()
    assert ask(path, "status")
    second.close()


def test_a_file_that_is_no_socket_is_not_touched(tmp_path):
    (tmp_path / "sock").write_text("precious")
    with pytest.raises(PagepulseError, match="cannot listen"):
        Server(tmp_path / "sock", None, echo)
    assert (tmp_path / "sock").read_text() == "precious"


def test_who_asks_nobody_and_who_may_not_is_told_so(tmp_path, monkeypatch):
    with pytest.raises(PagepulseError, match="no daemon is running"):
        ask(tmp_path / "sock", "status")

    def forbidden(_self, _address):
        raise PermissionError

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    with pytest.raises(Unsupported, match="you may not ask"):
        ask(tmp_path / "sock", "status")


def test_closing_ends_the_thread_and_its_descriptors(tmp_path):
    before = (threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))
    server = Server(tmp_path / "sock", None, echo)
    server.start()
    peer = connected(server)
    server.close()
    peer.close()
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before
