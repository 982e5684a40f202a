# SPDX-License-Identifier: GPL-2.0-only
"""The packaged unit under systemd, on Debian's own kernel in QEMU: it starts, works within its bounds, and ends."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deb.debian import DEBS, SUITES, Debian, clean

_PACKAGES = ("linux-image-amd64", "systemd", "systemd-sysv", "initramfs-tools", "kmod", "util-linux", "/pagepulse.deb")
_TIMEOUT_S = 900
_INSIDE = Path(__file__).with_name("inside_unit.py")
_SERVICE = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /inside_unit.py
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStopPost=/usr/bin/systemctl --no-block poweroff
[Install]
WantedBy=graphical.target multi-user.target
"""
_CONFIGURATION = """\
[daemon]
metrics = "127.0.0.1:9753"

[targets.sleepers]
exe = "sleeper"
schemes = "idle.json"
recording = "/var/lib/pagepulse/sleepers.data"

[targets.pulses]
exe = "pulse"
schemes = "old.json"
budget = "10 %"
"""
"""Emulation makes everything some 20 times as dear: 1 % would be an interval each 40 s."""


def scheme(age: str) -> str:
    """A file: page out what has been idle for so long."""
    return json.dumps({"schemes": [{
        "name": "idle", "action": "pageout", "access_pattern": {"age": {"min": age}}, "apply_interval": "1 s",
        "guards": {"trial": {"enabled": False}, "psi": {"enabled": False}}}]})


SCHEMES = {"idle.json": scheme("2 s"), "old.json": scheme("20 s")}
"""The second one asks for less than the machine sleeps, and far more than what a pulse leaves alone."""


@pytest.mark.parametrize("suite", SUITES)
def test_the_unit_starts_works_reloads_is_watched_and_stops(suite):
    with clean(suite) as inside:
        prepare(inside)
        found = boot(inside, DEBS / f"unit-{suite}")
    print(json.dumps(found, indent=1))
    assert found["trouble"] == ""
    assert found["enabled"] == "enabled"
    assert found["applied_bytes"] >= 16 << 20
    assert found["swapped_bytes"] >= 16 << 20, "what it says it did, it did"
    assert found["metrics"] > 20
    assert found["recording_bytes"] > 0
    assert found["slept_s"] >= 30
    assert found["restarts_after_sleep"] == 0, "the watchdog knows that nobody was awake"
    assert found["pulse_swapped_bytes"] < 8 << 20, "time that nobody was awake makes nothing idle"
    assert found["targets_after_reload"] == ["others", "pulses", "sleepers"]
    assert found["restarts_after_hang"] == 1
    assert found["stopped"] == {"Result": "success", "ActiveState": "inactive"}
    assert found["left"] == []


def prepare(inside: Debian) -> None:
    """Everything that the machine needs, and what it is to find out."""
    inside.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *_PACKAGES)
    root = inside.root
    configuration = root / "etc/pagepulse"
    (configuration / "conf.d/unit.toml").write_text(_CONFIGURATION)
    for name, text in SCHEMES.items():
        (configuration / name).write_text(text)
        (configuration / name).chmod(0o644)
    (root / "etc/systemd/system/prove.service").write_text(_SERVICE)
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    shutil.copy(_INSIDE, root)
    inside.run("systemctl", "enable", "prove.service")


def boot(inside: Debian, place: Path) -> dict:
    """Run the machine to its end; what it found out."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(inside.root / name, place)
        disk = place / "disk"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", inside.root, disk, "6G"], check=True, capture_output=True)
        machine = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,-avx2", "-smp", "1", "-m", "2G", "-nographic",
                   "-no-reboot", "-nic", "none", "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
                   "-kernel", place / "vmlinuz", "-initrd", place / "initrd.img",
                   "-append", "root=/dev/vda rw console=ttyS0 psi=1 panic=-1 systemd.mask=getty@tty1.service"]
        console = place / "console"
        with console.open("wb") as out:
            subprocess.run(machine, check=True, stdin=subprocess.DEVNULL, stdout=out, timeout=_TIMEOUT_S)
        found = subprocess.run(["debugfs", "-R", "cat /found.json", disk], check=True, capture_output=True).stdout
        assert found, console.read_text(errors="replace")[-4000:]
        return json.loads(found)
    finally:
        shutil.rmtree(place, ignore_errors=True)
