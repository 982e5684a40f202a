# SPDX-License-Identifier: GPL-2.0-only
"""Cgroup: the processes of a control group, of version 1 or 2, on directories of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagepulse.errors import UsageError
from pagepulse.kernel import cgroup as cgroup_module
from pagepulse.kernel.cgroup import Cgroup, cgroup_of


@pytest.fixture(name="roots")
def _roots(tmp_path):
    """Version 2, mounted beside the memory controller of version 1."""
    unified, memory = tmp_path / "unified", tmp_path / "memory"
    for root in (unified, memory):
        root.mkdir()
        (root / "cgroup.procs").write_text("1\n")
    return unified, memory


def group(root, path, *pids):
    place = root / path
    place.mkdir(parents=True)
    (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return place


@pytest.mark.parametrize("version", [0, 1])
def test_a_group_is_found_by_its_path_below_either_version_with_all_that_is_nested_in_it(roots, version):
    group(roots[version], "a.slice", 10)
    group(roots[version], "a.slice/b.service", 11, 12)
    group(roots[version], "a.slice/b.service/c/d", 13)
    group(roots[version], "z.slice", 14)
    assert Cgroup(Path("a.slice"), roots).pids() == {10, 11, 12, 13}


def test_a_process_counts_once_however_often_it_is_listed(roots):
    """Version 1 may list a process more than once while it is moved; its threads are in `tasks`, which is not read."""
    place = group(roots[1], "a", 10, 10)
    (place / "tasks").write_text("10\n100\n101\n")
    (place / "cgroup.threads").write_text("10\n100\n101\n")
    assert Cgroup(place).pids() == {10}


def test_processes_of_other_namespaces_are_left_out(roots):
    assert Cgroup(group(roots[0], "a", 0, 10)).pids() == {10}


def test_a_group_that_comes_back_has_its_processes_again(roots):
    place = group(roots[0], "a", 10)
    found = Cgroup(place)
    (place / "cgroup.procs").unlink()
    place.rmdir()
    assert found.pids() == set()
    group(roots[0], "a", 11)
    assert found.pids() == {11}


def test_pressure_is_told_where_the_kernel_measures_it_and_nowhere_else(roots):
    place = group(roots[0], "a", 10)
    assert Cgroup(place).pressure() is None
    (place / "memory.pressure").write_text("some avg10=1.50 avg60=0 avg300=0 total=7\n"
                                           "full avg10=0.50 avg60=0 avg300=0 total=3\n")
    pressure = Cgroup(place).pressure()
    assert (pressure.some_us, pressure.full_us, pressure.some_avg10, pressure.full_avg10) == (7, 3, 0.015, 0.005)
    (place / "memory.pressure").write_text("garbage\n")
    assert Cgroup(place).pressure() is None


def test_a_path_that_is_no_group_is_refused(roots):
    with pytest.raises(UsageError, match="no control group"):
        Cgroup(Path("nowhere"), roots)


@pytest.mark.parametrize(("content", "path"), [
    (b"0::/a\rb\n", "/a?b"), (b"0::/a\x0cb\x1c\n", "/a?b?"), ("0::/a\u2028b\n".encode(), "/a?b"),
    (b"0::/a\xffb\n", "/a?b"), (b"0::/a:b:c\n", "/a:b:c"), (b"garbage\n0::/a\n", "/a"), (b"", "")])
def test_a_group_may_have_any_name(tmp_path, monkeypatch, content, path):
    (tmp_path / "cgroup").write_bytes(content)
    monkeypatch.setattr(cgroup_module, "Path", lambda _: tmp_path / "cgroup")
    assert cgroup_of(1) == path
