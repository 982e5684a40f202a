# SPDX-License-Identifier: GPL-2.0-only
"""Kernels: Debian's own, fetched as packages into build/kernels and unpacked there. Nothing is installed.

The machine's own package sources stay as they are: apt is given a configuration, sources and lists of ours.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workload import ROOT

CACHE = ROOT / "build" / "kernels"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ANY_MIRROR = "http://deb.debian.org/debian"


class KernelError(Exception):
    """A kernel could not be fetched."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One of Debian's kernels."""

    name: str
    """As people say it: 6.12."""
    suite: str
    """The Debian suite whose linux-image-amd64 it is."""


KERNELS = (Kernel("6.1", "bookworm"), Kernel("6.12", "bookworm-backports"))
NEWEST = Kernel("7", "unstable")


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel that was unpacked: it can be booted."""

    release: str
    """What its uname says."""
    file: Path
    """The compressed kernel; its modules lie beside, where virtme-ng looks for them."""


def fetch(kernel: Kernel) -> Image:
    """The kernel that its suite has now, from the cache if it is there; without a network, the one in the cache.

    Raises:
        KernelError: It is neither in the archive nor in the cache.
    """
    with _cache_of(kernel.suite) as directory:
        try:
            package = _unpack_newest(kernel.suite, directory)
        except subprocess.CalledProcessError as error:
            package = _unpacked(directory)
            if package is None:
                raise KernelError(f"{kernel.name} of {kernel.suite}: {error.cmd} said {error.stderr.strip()}") from None
    release = _release(package)
    in_boot = package / "boot" / f"vmlinuz-{release}"
    return Image(release, in_boot if in_boot.exists() else package / "lib" / "modules" / release / "vmlinuz")


@contextmanager
def _cache_of(suite: str) -> Iterator[Path]:
    """A directory for one suite, for one process at a time."""
    directory = CACHE / suite
    for needed in ("lists/partial", "archives/partial"):
        (directory / needed).mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _unpack_newest(suite: str, directory: Path) -> Path:
    environment = _apt_environment(suite, directory)
    _run(["apt-get", "update", "-qq"], environment)
    depends = _run(["apt-cache", "depends", "linux-image-amd64"], environment)
    name = next(line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line)
    target = directory / name
    if not target.exists():
        unpacking = directory / f"unpacking-{os.getpid()}"
        for package in _parts(name, environment):
            _run(["apt-get", "download", "-qq", package], environment, directory / "archives")
            archive = next((directory / "archives").glob(f"{package}_*.deb"))
            _run(["dpkg", "-x", str(archive), str(unpacking)], environment)
            archive.unlink()
        if (unpacking / "usr" / "lib" / "modules").exists():
            (unpacking / "lib").symlink_to("usr/lib")
        _run(["depmod", "--basedir", str(unpacking), _release(unpacking)], environment)
        unpacking.rename(target)
    return target


def _parts(image: str, environment: Mapping[str, str]) -> list[str]:
    """The packages that a kernel is in. From Linux 7 on, Debian has its binary and its modules apart."""
    release = image.removeprefix("linux-image-")
    known = _run(["apt-cache", "pkgnames", "linux-"], environment).split()
    return [image, *(part for part in (f"linux-binary-{release}", f"linux-modules-{release}") if part in known)]


def _release(package: Path) -> str:
    return next((package / "lib" / "modules").iterdir()).name


def _unpacked(directory: Path) -> Path | None:
    """The one that was unpacked last."""
    return max(directory.glob("linux-image-*"), key=lambda path: path.stat().st_mtime, default=None)


def _apt_environment(suite: str, directory: Path) -> Mapping[str, str]:
    """An environment in which apt knows this suite alone."""
    (directory / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
    configuration = directory / "apt.conf"
    configuration.write_text("".join(f'{key} "{value}";\n' for key, value in {
        "Dir::State::Lists": directory / "lists", "Dir::Cache": directory,
        "Dir::Etc::SourceList": directory / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "Acquire::Languages": "none", "APT::Sandbox::User": "root"}.items()))
    return {**os.environ, "APT_CONFIG": str(configuration)}


def mirror() -> str:
    """The mirror that this machine uses for Debian itself."""
    sites = _run(["apt-get", "indextargets", "--format", "$(SITE)"], os.environ).split()
    return next((site for site in sites if site.rstrip("/").endswith("/debian")), ANY_MIRROR)


def _run(command: list[str], environment: Mapping[str, str], directory: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=directory).stdout
