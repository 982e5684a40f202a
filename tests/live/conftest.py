# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the live tests: one set of loaded programs, and targets watched through them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from demo.swap import temporary_swap
from live.machine import alone, huge_page_pool
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.process import Process
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.target import Target
from workload import Workload

_GROUPS = Path("/sys/fs/cgroup")

Watch = Callable[[int], AbstractContextManager[Target]]


@pytest.fixture(name="alone", scope="session", autouse=True)
def _alone() -> Iterator[None]:
    with alone():
        yield


@pytest.fixture(name="programs", scope="session")
def _programs() -> Iterator[Programs]:
    with Programs() as programs:
        yield programs


@pytest.fixture(name="reader", scope="session")
def _reader(programs: Programs) -> Reader:
    return Reader(programs)


@pytest.fixture(name="probes")
def _probes(programs: Programs) -> Iterator[Probes]:
    probes = Probes(programs)
    yield probes
    probes.close()


@pytest.fixture(name="watch")
def _watch(reader: Reader, probes: Probes) -> Watch:
    """Watch a process: `with watch(pid) as target`."""
    @contextmanager
    def watch(pid: int) -> Iterator[Target]:
        process = Process(pid)
        try:
            target = Target(process, reader, probes)
            try:
                yield target
            finally:
                target.close()
        finally:
            process.close()
    return watch


@pytest.fixture(name="one_cpu")
def _one_cpu() -> Iterator[None]:
    """This process and what it starts stay on one CPU.

    MADV_COLD skips pages that wait in another CPU's batch for the LRU lists; it drains those of its own CPU only.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(name="huge_pages")
def _huge_pages() -> Iterator[None]:
    """Some pages in the hugetlb pool, and none afterwards but those that were there before."""
    with huge_page_pool(8):
        yield


@pytest.fixture(name="output")
def _output(tmp_path: Path) -> Path:
    """Where a recording goes."""
    return tmp_path / "out.data"


@pytest.fixture(name="pulse")
def _pulse() -> Iterator[Workload]:
    """A small program that is worth watching."""
    with Workload("pulse", "--size", "16MiB") as pulse:
        yield pulse


@pytest.fixture(name="swap")
def _swap() -> Iterator[None]:
    """Swap space of our own, gone afterwards."""
    with temporary_swap(2 << 30) as swap:
        assert swap.device is not None, swap.why
        yield


@pytest.fixture(name="schemes")
def _schemes(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """A scheme file with the module's SCHEME, changed as a test wants it."""
    def schemes(**changes: object) -> Path:
        path = tmp_path / "schemes.json"
        path.write_text(json.dumps({"schemes": [request.module.SCHEME | changes]}))
        path.chmod(0o600)
        return path
    return schemes


@pytest.fixture(name="group")
def _group() -> Iterator[Path]:
    """A control group of our own, removed afterwards."""
    root = next(root for root in (_GROUPS, _GROUPS / "unified") if (root / "cgroup.controllers").exists())
    group = root / f"pagepulse-test-{os.getpid()}"
    (group / "below").mkdir(parents=True)
    yield group
    for place in (group / "below", group):
        for pid in (place / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        place.rmdir()
