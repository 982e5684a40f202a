# SPDX-License-Identifier: GPL-2.0-only
"""The Debian package, in a clean Debian: it installs, works, and goes without a trace. `make test-deb` builds it first.

Each Debian is a folder that debootstrap filled, entered by chroot in a mount namespace of its own, so that no mount
outlives a command. The processes are this machine's, which is what a monitor of processes needs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.machine import wait_until
from workload import ROOT, Workload

DEBS = ROOT / "build" / "deb"
SUITES = os.environ.get("PAGEPULSE_DEB_SUITES", "bookworm trixie").split()
RELEASES = {"bookworm": "deb12", "trixie": "deb13"}
_ENTER = ('set -e; for place in proc sys dev; do mount --rbind "/$place" "$0/$place"; done; exec chroot "$0" "$@"')
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
                **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}}
_CONFIGURATION = """\
[targets.pulses]
exe = "pulse"
budget = "5%"
recording = "/var/lib/pagepulse/pulses.data"
"""


class Debian:
    """A clean Debian with nothing in it but what debootstrap puts there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin a command inside."""
        line = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _ENTER, str(self.root), *command]
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=_ENVIRONMENT)

    def run(self, *command: str, status: int = 0) -> str:
        """Its standard output; it has to end with this status."""
        process = self.start(*command)
        out, err = process.communicate()
        assert process.returncode == status, f"{command}: {process.returncode}\n{out[-3000:]}\n{err[-3000:]}"
        assert "Traceback" not in err
        return out

    def traces(self) -> set[str]:
        """Whatever has pagepulse in its name, but what apt keeps of its own."""
        found = self.run("find", "/", "-xdev", "-path", "/var/log", "-prune", "-o", "-name", "*pagepulse*", "-print")
        return set(found.split()) - {"/pagepulse.deb"}


@pytest.fixture(name="debian", params=SUITES)
def _debian(request) -> Iterator[tuple[str, Debian]]:
    suite = request.param
    root = DEBS / f"root-{suite}"
    shutil.rmtree(root, ignore_errors=True)
    archive = DEBS / f"{suite}.tar"
    if not archive.exists():
        _bootstrap(suite, archive)
    root.mkdir(parents=True)
    try:
        subprocess.run(["tar", "-xf", archive, "-C", root, "--numeric-owner"], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        yield suite, Debian(root)
    finally:
        shutil.rmtree(root)


def _bootstrap(suite: str, archive: Path) -> None:
    """Kept as an archive: from then on a clean one takes seconds."""
    first, unfinished = DEBS / f"first-{suite}", archive.with_suffix(".part")
    shutil.rmtree(first, ignore_errors=True)
    try:
        line = ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, first, _mirror()]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        subprocess.run(["tar", "-cf", unfinished, "-C", first, "--numeric-owner", "."], check=True)
        unfinished.rename(archive)
    finally:
        shutil.rmtree(first, ignore_errors=True)


def _mirror() -> str:
    """The one that this machine uses for Debian itself."""
    sites = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)"], check=True, capture_output=True,
                           text=True).stdout.split()
    return next((site for site in sites if site.endswith("debian")), "http://deb.debian.org/debian")


def test_it_installs_works_and_goes_without_a_trace(debian):
    suite, inside = debian
    package, = DEBS.glob(f"pagepulse_*~{RELEASES[suite]}_amd64.deb")
    shutil.copy(package, inside.root / "pagepulse.deb")
    inside.run("apt-get", "update", "-qq")
    inside.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "/pagepulse.deb")
    facts = inside.run("dpkg-query", "-W", "python3", "python3-bpfcc", "pagepulse")
    print(facts)
    it_watches(inside)
    it_serves(inside)
    it_explains_itself(inside)
    inside.run("apt-get", "remove", "-qq", "-y", "pagepulse")
    assert "/etc/pagepulse/pagepulse.toml" in inside.run("find", "/etc/pagepulse").split()
    assert not [path for path in inside.traces() if path.startswith(("/usr", "/run"))]
    inside.run("apt-get", "purge", "-qq", "-y", "pagepulse")
    assert inside.traces() == set()


def it_watches(inside: Debian) -> None:
    """The command, on a process of this machine."""
    doctor = json.loads(inside.run("pagepulse", "doctor", "--json"))
    assert doctor
    with Workload("pulse", "--size", "64MiB", "--hot", "25%") as pulse:
        inside.run("pagepulse", "record", "--pid", str(pulse.pid), "--duration", "5s", "-o", "/tmp/a.data")
    wss = json.loads(inside.run("pagepulse", "report", "wss", "/tmp/a.data", "--json"))
    assert 16 << 20 <= wss["wss_bytes"]["p50"] <= 20 << 20
    inside.run("pagepulse", "report", "heatmap", "/tmp/a.data", "-o", "/tmp/a.png")
    assert (inside.root / "tmp/a.png").read_bytes().startswith(b"\x89PNG")


def it_serves(inside: Debian) -> None:
    """The daemon, as the unit starts it, with the packaged configuration and a drop-in."""
    inside.run("pagepulse", "check", "/etc/pagepulse")
    drop_in = inside.root / "etc/pagepulse/conf.d/pulses.toml"
    drop_in.write_text(_CONFIGURATION)
    inside.run("mkdir", "-p", "-m", "0700", "/run/pagepulse", "/var/lib/pagepulse")
    daemon = inside.start("pagepulse", "serve")
    try:
        with Workload("pulse", "--size", "16MiB") as pulse:
            assert wait_until(lambda: pulse.pid in watched(inside) or daemon.poll() is not None, timeout_s=60)
            assert daemon.poll() is None, daemon.communicate()
            daemon.send_signal(signal.SIGTERM)
            _, err = daemon.communicate(timeout=30)
    finally:
        daemon.kill()
        daemon.communicate()
        drop_in.unlink()
    assert daemon.returncode == 0, err
    assert json.loads(inside.run("pagepulse", "report", "wss", "/var/lib/pagepulse", "--json"))["snapshots"] > 0
    inside.run("rm", "-r", "/run/pagepulse")  # as systemd does


def watched(inside: Debian) -> set[int]:
    """The processes that the daemon knows."""
    process = inside.start("pagepulse", "snapshot", "--json")
    out, _ = process.communicate()
    if process.returncode:
        return set()
    return {one["pid"] for one in json.loads(out)["snapshots"]}


def it_explains_itself(inside: Debian) -> None:
    """Man pages and completions lie where Debian looks for them."""
    for path in ("usr/share/man/man1/pagepulse.1.gz", "usr/share/man/man5/pagepulse.toml.5.gz",
                 "usr/share/zsh/vendor-completions/_pagepulse", "usr/share/fish/vendor_completions.d/pagepulse.fish"):
        assert (inside.root / path).is_file()
    script = (". /usr/share/bash-completion/completions/pagepulse; COMP_WORDS=(pagepulse rec); COMP_CWORD=1; "
              "_shtab_pagepulse pagepulse rec pagepulse; echo ${COMPREPLY[@]}")
    assert inside.run("bash", "-c", script).split() == ["record"]


@pytest.mark.parametrize("suite", SUITES)
def test_lintian_has_no_errors(suite):
    package, = DEBS.glob(f"pagepulse_*~{RELEASES[suite]}_amd64.deb")
    done = subprocess.run(["lintian", "--fail-on", "error", package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
