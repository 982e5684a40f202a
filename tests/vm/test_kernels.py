# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernels in virtual machines: each boots, runs tests inside, and every module of them passes there.

PAGEPULSE_VM_ALL=1 runs the whole live layer inside, each module in a machine of its own, and the newest kernel, too.
"""

from __future__ import annotations

import functools
import os
import shlex
import time
from pathlib import Path

import pytest

from vm import machine, results
from vm.kernels import KERNELS, NEWEST, Image, Kernel, fetch
from workload import ROOT

ALL = os.environ.get("PAGEPULSE_VM_ALL") == "1"
BOOTED = (*KERNELS, NEWEST) if ALL else KERNELS
LIVE = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/live").glob("test_*.py"))
CHOSEN = "tests/live/test_probes.py"
INSIDE = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/vm/inside").glob("test_*.py"))
TOGETHER = (*INSIDE, CHOSEN)
ALONE = [module for module in LIVE if module != CHOSEN] if ALL else []
MACHINES = dict.fromkeys(TOGETHER, TOGETHER) | {module: (module,) for module in ALONE}
"""Each module, and all that run in the same machine."""
TIMEOUT_S = 600
TIMEOUT_ALONE_S = 3600
OUTPUT = ROOT / "build" / "vm"


@functools.cache
def image_of(kernel: Kernel) -> Image:
    return fetch(kernel)


@functools.cache
def outcomes(kernel: Kernel, modules: tuple[str, ...]) -> dict[str, list[results.Result]]:
    """Module -> its tests, of one run inside."""
    image, directory = image_of(kernel), OUTPUT / kernel.name / Path(modules[0]).stem
    begun_s = time.monotonic()
    report = directory / "junit.xml"
    # Both plugins take seconds there, and are of no use.
    pytest_line = shlex.join([".venv/bin/python", "-m", "pytest", "-v", "-p", "no:cacheprovider",
                              "-p", "no:hypothesispytest", *modules])
    command = f"PAGEPULSE_REQUIRE_KERNEL=1 PAGEPULSE_EMULATED=1 {pytest_line} --junitxml=$RESULTS/{report.name}"
    done = machine.run(image, command, directory,
                       timeout_s=TIMEOUT_S if modules == TOGETHER else TIMEOUT_ALONE_S)
    if not report.exists():
        raise machine.MachineFailed(f"pytest ended with status {done.status}:\n{done.console[-8000:]}")
    found: dict[str, list[results.Result]] = {}
    for result in results.read(report):
        found.setdefault(result.module, []).append(result)
    ran = [result for of_module in found.values() for result in of_module]
    passed = sum(result.outcome == "passed" for result in ran)
    results.told.append(f"Linux {image.release}: {passed} of {len(ran)} tests passed in "
                        f"{time.monotonic() - begun_s:.0f} s: {', '.join(Path(module).stem for module in modules)}")
    results.told += [f"Linux {image.release}: {name}: {value}" for name, value in results.properties(report)]
    return found


@pytest.mark.vm
@pytest.mark.parametrize("module", MACHINES, ids=lambda module: Path(module).stem)
@pytest.mark.parametrize("kernel", BOOTED, ids=lambda kernel: kernel.name)
def test_every_test_passes_inside_and_none_is_skipped(kernel, module):
    ran = outcomes(kernel, MACHINES[module]).get(module, [])
    assert ran, f"no test of {module} ran on {image_of(kernel).release}"
    bad = [result for result in ran if result.outcome != "passed"]
    if bad:
        pytest.fail("\n".join(f"{r.name}: {r.outcome}\n{r.details}" for r in bad), pytrace=False)


@pytest.mark.vm
def test_the_status_of_a_command_comes_out():
    assert machine.run(image_of(KERNELS[0]), "exit 7", OUTPUT / "status", timeout_s=180).status == 7


def test_a_kernel_that_panics_while_it_boots_is_booted_again_and_nothing_else_is(tmp_path, monkeypatch):
    boots = []

    def boot(_image, _script, results, _timeout_s):
        boots.append(len(boots))
        if len(boots) == 2:
            (results / "begun").touch()
        return "Kernel panic - not syncing"
    monkeypatch.setattr(machine, "_boot", boot)
    with pytest.raises(machine.MachineFailed, match="ended before the command did"):
        machine.run(Image("6.0", tmp_path), "true", tmp_path / "results", timeout_s=1)
    assert len(boots) == 2


@pytest.mark.vm
def test_a_machine_that_hangs_is_ended_and_its_console_shown():
    with pytest.raises(machine.MachineFailed, match=r"(?s)hung: no end after 10 s\n.*\[ +\d+\.\d+\] "):
        machine.run(image_of(KERNELS[0]), "sleep 1000", OUTPUT / "hang", timeout_s=10)
