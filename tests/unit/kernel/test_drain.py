# SPDX-License-Identifier: GPL-2.0-only
"""Taking out what the probes wrote: from the table that nobody writes to any more, and only what the kernel gave."""

from __future__ import annotations

import errno
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from pagepulse.kernel import layout, probes, syscalls
from pagepulse.kernel.probes import _OwnClear, _Table


@pytest.fixture(name="kernel")
def _kernel(monkeypatch):
    """Two tables, as a program writes to them; which of them are drained."""
    arrays = {"filter": np.zeros(1, layout.FILTER), "loss": np.zeros(1, layout.LOSS)}
    kernel = SimpleNamespace(arrays=arrays, fd=lambda name: name, content={"taken0": {}, "taken1": {}}, drained=[])

    class Drain:
        def __init__(self, name, _size):
            self.name = name

        def __call__(self):
            assert inside(kernel, int(self.name[-1])) == 0
            kernel.drained.append(self.name)
            content, kernel.content[self.name] = kernel.content[self.name], {}
            return np.array([*content], np.uint64), np.array([*content.values()], np.uint64)
    monkeypatch.setattr(probes, "HashDrain", Drain)
    return kernel


def inside(kernel, epoch: int) -> int:
    loss = kernel.arrays["loss"][0]
    return int(loss["taken_begun"][epoch]) - int(loss["taken_done"][epoch])


def begin(kernel) -> int:
    epoch = int(kernel.arrays["filter"]["taken_epoch"][0])
    kernel.arrays["loss"][0]["taken_begun"][epoch] += 1
    return epoch


def end(kernel, epoch: int, window: int, mask: int) -> None:
    content = kernel.content[f"taken{epoch}"]
    content[window] = content.get(window, 0) | mask
    kernel.arrays["loss"][0]["taken_done"][epoch] += 1


def test_what_is_written_is_taken_out_once_and_a_table_that_nobody_wrote_to_is_left_alone(kernel):
    table = _Table(kernel, "taken")
    assert table.take()[0].tolist() == []
    found = []
    for window in range(5):
        end(kernel, begin(kernel), window, 1)
        found += table.take()[0].tolist()
        assert table.take()[0].tolist() == []
    assert found == list(range(5))
    assert kernel.drained == ["taken0", "taken1", "taken0", "taken1", "taken0"]


def test_a_program_that_is_still_writing_is_waited_for_and_what_it_wrote_is_taken(kernel, monkeypatch):
    table = _Table(kernel, "taken")
    late = begin(kernel)
    waits = []

    def others_run():
        waits.append(1)
        if len(waits) == 3:
            end(kernel, late, 7, 0b1)
        if len(waits) == 1:
            end(kernel, begin(kernel), 7, 0b10)  # who begins now writes to the other one
    monkeypatch.setattr(os, "sched_yield", others_run)
    assert [part.tolist() for part in table.take()] == [[7], [0b1]]
    assert len(waits) == 3
    assert [part.tolist() for part in table.take()] == [[7], [0b10]]


def test_our_own_clears_are_known_by_our_thread_only_while_they_last(kernel):
    own = kernel.arrays["filter"]["self"]
    seen = []

    def clear_and_fail() -> None:
        with _OwnClear(kernel):
            seen.append(int(own[0]))
            raise OSError("no")
    with pytest.raises(OSError, match="no"):
        clear_and_fail()
    assert seen == [threading.get_native_id()]
    assert own[0] == 0


@pytest.mark.parametrize(("number", "count"), [(0, 3), (errno.ENOENT, 3), (errno.ENOENT, 0)])
def test_only_rows_that_the_kernel_filled_are_taken(monkeypatch, number, count):
    drain = answering(monkeypatch, number, count)
    assert [len(part) for part in drain()] == [count, count]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.EFAULT, errno.EBADF, errno.ENOSPC])
def test_a_drain_that_the_kernel_refuses_is_an_error_and_no_rows(monkeypatch, number):
    with pytest.raises(OSError, match=os.strerror(number)):
        answering(monkeypatch, number, 8)()


def answering(monkeypatch, number: int, count: int) -> syscalls.HashDrain:
    drain = syscalls.HashDrain(3, 8)

    def call(*_arguments) -> int:
        drain._batch.count = count
        return -1 if number else 0
    monkeypatch.setattr(syscalls, "_syscall", call)
    monkeypatch.setattr(syscalls.ctypes, "get_errno", lambda: number)
    return drain


def test_a_kprobe_is_attached_by_way_of_a_cpu_that_is_online(monkeypatch):
    asked = []
    monkeypatch.setattr(syscalls, "_call", lambda _number, _event, _pid, cpu, *_: asked.append(cpu.value) or 9)
    monkeypatch.setattr(syscalls.fcntl, "ioctl", lambda *_: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 2})
    assert syscalls.open_kprobe("f", 4, 8) == 9
    assert asked == [2]
