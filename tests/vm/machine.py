# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine for one command: boots a kernel on this machine's own root file system, which it cannot change.

virtme-ng makes the initial RAM disk and QEMU's command line. No KVM: the processor is emulated, with all that QEMU can
and does well (5-level page tables among it), and the same everywhere.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vm.kernels import Image
from workload import ROOT

CPUS, MEMORY = 2, "5G"
_NODES = ("--numa", "2G,cpus=0", "--numa", "3G,cpus=1")
"""Pages can move between two of them."""
_GIANT_PAGE = "hugepagesz=1G hugepages=1:1"
"""On the second node, from the start: later none is found."""
_PROCESSOR = "-cpu max,-avx2"
"""The last one counts. Where QEMU emulates AVX2, numpy sorts wrongly (`argsort`, from 16 numbers on; seen in 7.2)."""
_BEGUN, _STATUS = "begun", "status"
_BOOTS = 3
"""Of a kernel that panics while it boots: once in dozens of times an emulated processor runs code that the kernel is
just patching (`int3`). What happens once the command has begun is never tried again."""

# virtme-ng's root file system caches nothing, and Python takes a minute to start. These change too rarely to matter.
_CACHED = ("/usr/bin", "/usr/lib/python3*", "/usr/lib/x86_64-linux-gnu")
_ROOT_DEVICE = ("-fsdev local,id=cached,path=/,security_model=none,readonly=on,multidevs=remap "
                "-device virtio-9p-pci,fsdev=cached,mount_tag=cached")
_MOUNT_CACHED = ("mkdir /run/cached && mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose cached "
                 f"/run/cached && for d in {' '.join(_CACHED)}; do "
                 "mkdir -p $d && mount --bind /run/cached$d $d || exit; done")
# What is written into the checkout stays in the machine's memory, and ends with it.
_MOUNT_CHECKOUT = ("mkdir /run/changed && mount -t tmpfs changed /run/changed && "
                   "mkdir /run/changed/upper /run/changed/work && "
                   f"mount -t overlay -o lowerdir=/run/cached{ROOT},upperdir=/run/changed/upper,"
                   f"workdir=/run/changed/work changed {ROOT} || exit")
_RESULTS = "/mnt"


class MachineFailed(Exception):
    """It did not run the command to its end; its console tells why."""


@dataclass(frozen=True, slots=True)
class Run:
    """A command that ran to its end."""

    status: int
    console: str


def run(image: Image, command: str, results: Path, *, timeout_s: float) -> Run:
    """Boot a kernel, run one command in the checkout as root, power off.

    Args:
        image: The kernel.
        command: For a shell.
        results: A directory that is emptied, and the only one outside of the machine that the command can write to:
            as RESULTS in its environment.
        timeout_s: What boot and command may take together.

    Raises:
        MachineFailed: It hung, or died; with the end of its console.
    """
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    script = (f"touch {_RESULTS}/{_BEGUN}; {_MOUNT_CACHED}; {_MOUNT_CHECKOUT}; cd {ROOT}; "
              f"export RESULTS={_RESULTS}; ({command}); echo $? >{_RESULTS}/{_STATUS}")
    for _ in range(_BOOTS):
        console = _boot(image, script, results, timeout_s)
        if (results / _BEGUN).exists():
            break
    try:
        status = int((results / _STATUS).read_text())
    except (FileNotFoundError, ValueError):
        raise MachineFailed(f"Linux {image.release} ended before the command did:\n{_tail(console)}") from None
    return Run(status, console)


def _boot(image: Image, script: str, results: Path, timeout_s: float) -> str:
    """The console, which is in results/console meanwhile. QEMU ends with the process group that vng leads."""
    vng = [str(Path(sys.executable).with_name("vng")), "--run", str(image.file), "--disable-kvm", "--force-9p",
           "--verbose", "--cpus", str(CPUS), "--memory", MEMORY, *_NODES, "--rwdir", f"{_RESULTS}={results}",
           "--append", "psi=1", "--append", "panic=-1", "--append", _GIANT_PAGE,
           f"--qemu-opts={_ROOT_DEVICE} {_PROCESSOR}", "--exec", script]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])
    log = results / "console"
    with log.open("wb") as console, subprocess.Popen(
            vng, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PATH": path}) as machine:
        try:
            machine.wait(timeout_s)
        except BaseException as error:
            os.killpg(machine.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise MachineFailed(f"Linux {image.release} hung: no end after {timeout_s:.0f} s\n"
                                f"{_tail(log.read_text(errors='replace'))}") from None
    return log.read_text(errors="replace")


def _tail(console: str) -> str:
    return "\n".join(console.splitlines()[-60:])
