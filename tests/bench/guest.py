# SPDX-License-Identifier: GPL-2.0-only
"""Benches that need another kernel: a machine is booted, and a module of bench.inside measures in there."""

from __future__ import annotations

import shlex
from pathlib import Path

from bench.command import CommandError
from vm import machine
from vm.kernels import KERNELS, NEWEST, Kernel, fetch
from workload import ROOT

KERNEL_OF = {kernel.name: kernel for kernel in (*KERNELS, NEWEST)}
"""Those that can be measured on, by the names that the command line gives them."""


def measured_inside(kernel: Kernel, module: str, *arguments: str, timeout_s: float) -> tuple[str, Path]:
    """Boot a kernel and let a module of bench.inside measure there.

    Args:
        kernel: Which one.
        module: Its last name. RESULTS in its environment is the directory to leave things in.
        *arguments: Its command line.
        timeout_s: What boot and measurement may take together.

    Returns:
        The kernel's release, and the directory with what the module left.

    Raises:
        CommandError: It failed; with the end of its console.
        MachineFailed: It hung, or died.
    """
    image, place = fetch(kernel), ROOT / "build" / "bench" / "inside" / f"{module}-{kernel.name}"
    line = shlex.join([".venv/bin/python", "-m", f"bench.inside.{module}", *arguments])
    done = machine.run(image, f"PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 {line}", place, timeout_s=timeout_s)
    if done.status:
        raise CommandError(f"bench.inside.{module} ended with status {done.status}:\n{done.console[-3000:]}")
    return image.release, place
