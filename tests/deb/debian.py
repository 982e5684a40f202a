# SPDX-License-Identifier: GPL-2.0-only
"""A clean Debian in a folder that debootstrap filled, entered by chroot in a mount namespace of its own.

So no mount outlives a command. The processes are this machine's, which is what a monitor of processes needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm.kernels import mirror
from workload import ROOT

DEBS = ROOT / "build" / "deb"
SUITES = os.environ.get("PAGEPULSE_DEB_SUITES", "bookworm trixie").split()
RELEASES = {"bookworm": "deb12", "trixie": "deb13"}
_ENTER = ('set -e; for place in proc sys dev; do mount --rbind "/$place" "$0/$place"; done; exec chroot "$0" "$@"')
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
                **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}}


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
        """Whatever has pagepulse in its name, but what apt keeps of its own, and man of pages that were read."""
        found = self.run("find", "/", "-xdev", "(", "-path", "/var/log", "-o", "-path", "/var/cache/man", ")", "-prune",
                         "-o", "-name", "*pagepulse*", "-print")
        return set(found.split()) - {"/pagepulse.deb"}


@contextmanager
def clean(suite: str) -> Iterator[Debian]:
    """A new one, gone afterwards."""
    archive = DEBS / f"{suite}.tar"
    if not archive.exists():
        _bootstrap(suite, archive)
    root = Path(tempfile.mkdtemp(prefix=f"root-{suite}-", dir=DEBS))
    root.chmod(0o755)
    try:
        subprocess.run(["tar", "-xf", archive, "-C", root, "--numeric-owner"], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        shutil.copy(package_of(suite), root / "pagepulse.deb")
        inside = Debian(root)
        inside.run("apt-get", "update", "-qq")
        yield inside
    finally:
        shutil.rmtree(root)


def package_of(suite: str) -> Path:
    """As `make deb` built it."""
    package, = DEBS.glob(f"pagepulse_*~{RELEASES[suite]}_amd64.deb")
    return package


def _bootstrap(suite: str, archive: Path) -> None:
    """Kept as an archive: from then on a clean one takes seconds."""
    first, unfinished = DEBS / f"first-{suite}", archive.with_suffix(".part")
    shutil.rmtree(first, ignore_errors=True)
    try:
        line = ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, first, mirror()]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        subprocess.run(["tar", "-cf", unfinished, "-C", first, "--numeric-owner", "."], check=True)
        unfinished.rename(archive)
    finally:
        shutil.rmtree(first, ignore_errors=True)
