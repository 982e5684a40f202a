# SPDX-License-Identifier: GPL-2.0-only
"""The Debian package, in a clean Debian: it installs, works, and goes without a trace (`make test-deb`)."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from deb.debian import SUITES, Debian, clean, package_of
from live.machine import wait_until
from workload import Workload

_CONFIGURATION = """\
[targets.pulses]
exe = "pulse"
budget = "5%"
recording = "/var/lib/pagepulse/pulses.data"
"""


@pytest.mark.parametrize("suite", SUITES)
def test_it_installs_works_and_goes_without_a_trace(suite):
    with clean(suite) as inside:
        inside.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "/pagepulse.deb")
        print(inside.run("dpkg-query", "-W", "python3", "python3-bpfcc", "pagepulse"))
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
    """Man pages and completions lie where Debian looks for them, and are sound to those who read them."""
    inside.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "zsh", "fish", "groff", "man-db")
    completions = (("bash", "bash-completion/completions/pagepulse"), ("zsh", "zsh/vendor-completions/_pagepulse"),
                   ("fish", "fish/vendor_completions.d/pagepulse.fish"))
    for shell, place in completions:
        inside.run(shell, "-n", f"/usr/share/{place}")
    for page in ("pagepulse", "pagepulse.toml"):
        process = inside.start("man", "--warnings", page)
        out, err = process.communicate()
        assert (process.returncode, err) == (0, ""), err
        assert len(out.splitlines()) > 40
    for path in ("usr/share/man/man1/pagepulse.1.gz", "usr/share/man/man5/pagepulse.toml.5.gz"):
        assert (inside.root / path).is_file()
    script = (". /usr/share/bash-completion/completions/pagepulse; COMP_WORDS=(pagepulse rec); COMP_CWORD=1; "
              "_shtab_pagepulse pagepulse rec pagepulse; echo ${COMPREPLY[@]}")
    assert inside.run("bash", "-c", script).split() == ["record"]


@pytest.mark.parametrize("suite", SUITES)
def test_lintian_has_no_errors(suite):
    line = ["lintian", "--fail-on", "error", package_of(suite)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
