# SPDX-License-Identifier: GPL-2.0-only
"""A configuration directory: what it says, what is refused, and when it counts as changed."""

import json
import os
from pathlib import Path

import pytest

from pagepulse.errors import RefusedFile
from pagepulse.service.config import in_words, load_configuration, signature, unwritable_recordings

SCHEME = {"schemes": [{"name": "idle", "action": "stat", "access_pattern": {}}]}
REDIS = '[targets.redis]\nexe = "redis-server"\n'


@pytest.fixture(name="directory")
def _directory(tmp_path) -> Path:
    directory = tmp_path / "etc"
    (directory / "conf.d").mkdir(parents=True)
    write(directory / "pagepulse.toml", "")
    write(directory / "idle.json", json.dumps(SCHEME))
    return directory


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def refusal(directory: Path) -> str:
    with pytest.raises(RefusedFile) as caught:
        load_configuration(directory)
    return str(caught.value)


def test_an_empty_file_is_a_daemon_that_watches_nothing_yet(directory):
    configuration = load_configuration(directory)
    assert configuration.targets == ()
    assert configuration.daemon.socket == "/run/pagepulse/pagepulse.sock"
    assert configuration.daemon.group is None


def test_a_target_says_whom_it_watches_at_what_price_and_what_is_done(directory):
    write(directory / "pagepulse.toml", '[targets.redis]\ncgroup = "system.slice/redis.service"\nbudget = "0.5%"\n'
                                        'min_rss = "8MiB"\nschemes = "idle.json"\ndry_run = true\n')
    (plan,) = load_configuration(directory).targets
    assert (plan.name, plan.options.budget, plan.dry_run) == ("redis", 0.005, True)
    assert [scheme.name for scheme in plan.schemes] == ["idle"]
    assert in_words(plan) == ("processes of the control group system.slice/redis.service with at least 8 MiB, "
                              "for 0.50 % of one CPU")


def test_a_drop_in_says_more_of_a_target_or_says_it_again(directory):
    write(directory / "pagepulse.toml", REDIS + 'budget = "1%"\n')
    write(directory / "conf.d" / "10.toml", '[targets.redis]\nbudget = "2%"\n')
    write(directory / "conf.d" / "20.toml", '[targets.redis]\nbudget = "3%"\n[targets.all]\nsystem = true\n')
    write(directory / "conf.d" / "30.toml~", "an editor's copy")
    redis, everything = load_configuration(directory).targets
    assert redis.options.budget == 0.03
    assert redis.selection.exe == "redis-server"
    assert everything.selection.system


@pytest.mark.parametrize(("text", "words"), [
    ("[targets.x]\n", "targets.x: expected cgroup, exe, user or system = true"),
    ('[targets.x]\nexe = "a"\nbudgett = "1%"\n', "targets.x: unknown key 'budgett'; did you mean 'budget'?"),
    ('[targets.x]\nexe = "a"\nbudget = "200%"\n', "targets.x.budget: expected a share"),
    ('[targets.x]\nexe = "a"\nbudget = "0%"\n', "targets.x.budget: expected a share of one CPU above 0%"),
    ('[targets.x]\nexe = "a"\ndry_run = 1\n', "targets.x.dry_run: expected true or false, got 1"),
    ('[targets.x]\nexe = "a"\ndry_run = true\n', "targets.x.dry_run: expected schemes"),
    ('[targets.x]\nexe = "a"\nschemes = "gone.json"\n', "gone.json is refused"),
    ('[targets.x]\nexe = "a"\nuser = "nobody-of-that-name"\n', "targets.x.user: expected a user of this machine"),
    ('[targets.x]\ncgroup = "a"\nsystem = true\n', "expected cgroup or system, got both"),
    ('[targets.x]\nexe = "a"\nsample = "10s"\n', "targets.x.sample: expected sample above 0, at most aggregate"),
    ('[targets."a b"]\nexe = "a"\n', "targets: expected a name"),
    ("targets = 1\n", "targets: expected a table, got 1"),
    ("[tagets]\n", "'tagets': unknown table; did you mean 'targets'?"),
    ('[daemon]\nmetrics = "9753"\n', "daemon.metrics: expected an address and a port"),
    ('[daemon]\nmetrics = "1.2.3.4.5:9753"\n', "daemon.metrics: expected an address of numbers, or localhost"),
    ('[daemon]\ngroup = "nobody-of-that-name"\n', "daemon.group: expected a group of this machine"),
    (f'[daemon]\nsocket = "/run/{"x" * 103}"\n', "daemon.socket: expected a path of at most 107 bytes"),
    ('[daemon]\nsocket = "/etc/passwd"\n', "daemon.socket: expected a new name or that of a socket"),
    ('[targets.x]\nexe = "a"\nuser = "4294967295"\n', "targets.x.user: expected a user of this machine"),
    ('[targets.x]\nexe = "a"\nuser = "' + "9" * 5000 + '"\n', "targets.x.user: expected"),
    ('[daemon]\nsocket = "here"\n', "daemon.socket: expected an absolute path"),
    ('[targets.x]\nexe = "half a li', "expected TOML"),
])
def test_what_makes_no_sense_is_refused_with_its_place(directory, text, words):
    write(directory / "pagepulse.toml", text)
    assert words in refusal(directory)


def test_what_an_editor_leaves_beside_a_file_is_not_read(directory):
    (directory / "conf.d" / ".#10.toml").symlink_to("root@host.1234:5678")
    write(directory / "conf.d" / ".hidden.toml", "no toml")
    assert load_configuration(directory).targets == ()


def test_there_are_at_most_so_many_targets_in_all_files_together(directory):
    for name, first in (("10", 0), ("20", 40)):
        write(directory / "conf.d" / f"{name}.toml", "".join(f'[targets.t{place}]\nexe = "a"\n'
                                                             for place in range(first, first + 40)))
    assert "targets: expected at most 64 in all files, got 80" in refusal(directory)


def test_recordings_that_could_not_be_begun_are_told(directory, tmp_path):
    (tmp_path / "taken.data").write_text("mine")
    names = {"gone": "nowhere/a.data", "folder": "etc", "foreign": "taken.data", "new": "new.data"}
    write(directory / "pagepulse.toml", "".join(f'[targets.{name}]\nexe = "a"\nrecording = "{tmp_path}/{path}"\n'
                                                for name, path in names.items()))
    faults = unwritable_recordings(load_configuration(directory))
    assert [fault.split(".")[1] for fault in faults] == ["gone", "folder", "foreign"]


def test_two_targets_with_one_recording_are_refused_by_whatever_name(directory, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    write(directory / "pagepulse.toml", f'{REDIS}recording = "{tmp_path}/a.data"\n'
                                        f'[targets.b]\nexe = "b"\nrecording = "{tmp_path}/link/a.data"\n')
    assert "targets.b.recording: expected a file of its own, got that of redis" in refusal(directory)


def test_the_file_that_said_it_last_is_named(directory):
    write(directory / "pagepulse.toml", REDIS)
    write(directory / "conf.d" / "10.toml", '[targets.redis]\nmin_rss = "many"\n')
    assert "10.toml: targets.redis.min_rss: expected a size" in refusal(directory)


def test_bytes_that_are_no_text_are_refused(directory):
    (directory / "pagepulse.toml").write_bytes(b"\xff\xfe")
    assert "expected UTF-8" in refusal(directory)


@pytest.mark.parametrize("name", ["pagepulse.toml", "idle.json", ".", "conf.d"])
def test_what_others_could_write_is_refused(directory, name):
    write(directory / "pagepulse.toml", REDIS + 'schemes = "idle.json"\n')
    load_configuration(directory)
    place = directory / name
    place.chmod(place.stat().st_mode | 0o002)
    assert "world-writable" in refusal(directory)


def test_a_file_of_somebody_else_is_refused(directory):
    with pytest.raises(RefusedFile, match="is refused") as caught:
        load_configuration(directory, frozenset({os.geteuid() + 1}))
    assert f"got a directory of user id {os.geteuid()}" in caught.value.why


def test_a_directory_without_the_file_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path)
    assert "a configuration is a directory" in refusal(tmp_path / "nowhere")


def test_a_change_after_a_file_was_read_is_seen_however_late_one_looks(directory):
    write(directory / "pagepulse.toml", REDIS + 'schemes = "idle.json"\n')
    configuration = load_configuration(directory)
    assert configuration.signature == signature(directory, configuration.files)
    write(directory / "idle.json", json.dumps(SCHEME) + " ")
    assert configuration.signature != signature(directory, configuration.files)


def test_each_change_of_a_file_changes_the_signature_and_nothing_else_does(directory):
    write(directory / "pagepulse.toml", REDIS + 'schemes = "idle.json"\n')
    files = load_configuration(directory).files
    before = signature(directory, files)
    write(directory / "unrelated.data", "a recording, for instance")
    assert signature(directory, files) == before
    seen = {before}
    for path, text in ((directory / "conf.d" / "new.toml", ""), (directory / "idle.json", json.dumps(SCHEME) + " "),
                       (directory / "pagepulse.toml", REDIS)):
        write(path, text)
        seen.add(signature(directory, files))
    (directory / "conf.d" / "new.toml").unlink()
    seen.add(signature(directory, files))
    assert len(seen) == 5
