# SPDX-License-Identifier: GPL-2.0-only
"""Who may have written a file that will be run with root."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import threading
from pathlib import Path

import pytest

from pagepulse.errors import RefusedFile
from pagepulse.policy import load
from pagepulse.policy.load import invoking_uids, is_private_group, load_schemes, why_untrusted

GOOD = '{"schemes": [{"name": "count", "action": "stat", "access_pattern": {}}]}'


@pytest.fixture(name="path")
def _path(tmp_path):
    path = tmp_path / "scheme.json"
    path.write_text(GOOD)
    path.chmod(0o644)
    return path


def refusal(path) -> str:
    with pytest.raises(RefusedFile) as caught:
        load_schemes(path)
    assert caught.value.exit_code == 2
    return caught.value.why


def status(*, uid: int = 0, gid: int = 0, mode: int = 0o644) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 1, 0, 0, 0))


def test_a_file_that_only_its_owner_can_write_is_read(path):
    assert [scheme.name for scheme in load_schemes(path)] == ["count"]


def test_a_world_writable_file_is_refused_because_it_will_be_run_with_root(path):
    path.chmod(0o646)
    assert refusal(path) == ("expected a file that only its owner can write, got a world-writable file (mode 0646); "
                             "what it says will be done with root")


def test_a_file_behind_a_link_is_judged_not_the_link(path, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    assert load_schemes(link)
    path.chmod(0o666)
    assert "world-writable" in refusal(link)


@pytest.mark.parametrize(("facts", "private_group", "fault"), [
    ({"uid": 0}, False, ""),
    ({"uid": 1000}, False, ""),
    ({"uid": 1001}, False, "of user id 1001"),
    ({"uid": 1001, "mode": 0o600}, True, "of user id 1001"),
    ({"uid": 1000, "mode": 0o664}, True, ""),
    ({"uid": 1000, "gid": 50, "mode": 0o664}, False, "group 50 can write (mode 0664)"),
    ({"uid": 0, "gid": 0, "mode": 0o666}, True, "world-writable"),
    ({"uid": 1000, "mode": 0o602}, False, "world-writable"),
    ({"uid": 1000, "mode": 0o444}, False, ""),
])
def test_only_root_and_the_invoking_user_may_be_able_to_write_it(facts, private_group, fault):
    told = why_untrusted(status(**facts), {0, 1000}, private_group=private_group)
    assert fault in told
    assert bool(told) == bool(fault)


def account(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))


@pytest.fixture(name="groups")
def _groups(monkeypatch):
    """Accounts of which only alice and root have a group of their own."""
    accounts = [account("root", 0, 0), account("alice", 1000, 1000), account("bob", 1001, 1001),
                account("carol", 1002, 1002), account("mallory", 1003, 1002), account("dave", 1004, 50),
                account("erin", 1005, 60)]
    entries = {0: ("root", []), 1000: ("alice", []), 1001: ("bob", ["alice"]), 1002: ("carol", []),
               50: ("staff", ["bob"]), 60: ("devs", [])}
    monkeypatch.setattr(pwd, "getpwall", lambda: accounts)

    def getgrgid(gid):
        name, members = entries[gid]
        return grp.struct_group((name, "x", gid, members))

    monkeypatch.setattr(grp, "getgrgid", getgrgid)


@pytest.mark.parametrize(("gid", "user", "private"), [
    (1000, 1000, True),  # alice's own
    (0, 1000, True),  # root's own
    (1001, 1001, False),  # bob's, but alice is in it
    (1002, 1002, False),  # carol's, but it is also mallory's main group
    (50, 1004, False),  # dave's main group, but bob is in it
    (60, 1005, False),  # only erin is listed, but it is not named after her: a directory may know more members
    (77, 1000, False),  # has no entry
])
def test_a_group_is_private_if_it_has_the_users_name_and_nobody_else_is_in_it(groups, gid, user, private):
    assert is_private_group(gid, {0, user}) is private


def test_a_group_writable_file_is_accepted_from_a_private_group_only(path, monkeypatch):
    path.chmod(0o664)
    monkeypatch.setattr(load, "is_private_group", lambda gid, trusted: True)
    assert load_schemes(path)
    monkeypatch.setattr(load, "is_private_group", lambda gid, trusted: False)
    assert f"group {path.stat().st_gid} can write" in refusal(path)


def test_an_access_control_list_behind_the_group_bits_is_not_trusted(path, monkeypatch):
    path.chmod(0o664)
    monkeypatch.setattr(load, "is_private_group", lambda gid, trusted: True)
    monkeypatch.setattr(os, "listxattr", lambda descriptor: ["system.posix_acl_access"])
    assert "can write" in refusal(path)


def test_under_sudo_the_user_who_called_is_trusted(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1000")
    assert invoking_uids() == {0, 1000}


def test_without_root_nobody_can_name_himself_by_the_environment(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    monkeypatch.setenv("SUDO_UID", "1000")
    assert invoking_uids() == {0, 1001}


@pytest.mark.parametrize("value", ["", "-1", "alice", "1000 "])
def test_a_sudo_uid_that_is_no_number_names_nobody(monkeypatch, value):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", value)
    assert invoking_uids() == {0}


def test_a_directory_is_refused(tmp_path):
    assert refusal(tmp_path) == "expected a file, got a directory"


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(tmp_path / "none.json") == "No such file or directory"


def test_a_device_is_refused():
    assert refusal("/dev/zero") == "expected a regular file, got a device, pipe or socket"


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    told = []
    thread = threading.Thread(target=lambda: told.append(refusal(tmp_path / "pipe")), daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert told == ["expected a regular file, got a device, pipe or socket"]


def test_a_file_of_a_mebibyte_is_read_and_a_larger_one_is_refused(path):
    path.write_text(GOOD.ljust(load.MAX_BYTES))
    assert load_schemes(path)
    path.write_text(GOOD.ljust(load.MAX_BYTES + 1))
    assert refusal(path) == "expected at most 1 MiB, got more"


def test_no_descriptor_stays_open_whatever_was_in_the_file(path, tmp_path):
    before = set(Path("/proc/self/fd").iterdir())
    for bad in (path, tmp_path, tmp_path / "none", tmp_path, path):
        with contextlib.suppress(RefusedFile):
            load_schemes(bad)
    assert set(Path("/proc/self/fd").iterdir()) == before
