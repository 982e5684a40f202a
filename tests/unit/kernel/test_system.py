# SPDX-License-Identifier: GPL-2.0-only
"""Facts of the machine's memory, from texts of /proc."""

from __future__ import annotations

import pytest

from pagepulse.kernel.system import system_facts
from pagepulse.model.system import Pressure, SystemFacts

MEMINFO = ("MemTotal: 1000 kB\nMemFree: 250 kB\nMemAvailable: 500 kB\n"
           "SwapTotal: 80 kB\nSwapFree: 40 kB\nHugePages_Total: 0\n")
PRESSURE = ("some avg10=12.50 avg60=1.00 avg300=0.10 total=7000\n"
            "full avg10=2.00 avg60=0.50 avg300=0.05 total=500\n")


@pytest.fixture(name="proc")
def _proc(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "vmstat").write_text("pswpin 1\npswpout 3\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/memory").write_text(PRESSURE)
    return tmp_path


def test_sizes_are_bytes_and_pressure_is_shares(proc):
    facts = system_facts(proc)
    assert facts == SystemFacts(
        now_ns=facts.now_ns, total_bytes=1000 * 1024, free_bytes=250 * 1024, available_bytes=500 * 1024,
        swap_total_bytes=80 * 1024, swap_free_bytes=40 * 1024, swapped_out_bytes=3 * 4096,
        pressure=Pressure(some_us=7000, full_us=500, some_avg10=0.125, full_avg10=0.02))
    assert [facts.share(metric) for metric in ("free_memory", "available_memory", "psi_some", "psi_full")] == [
        0.25, 0.5, 0.125, 0.02]


def test_a_kernel_without_pressure_has_none(proc):
    (proc / "pressure/memory").unlink()
    facts = system_facts(proc)
    assert facts.pressure is None
    assert facts.share("psi_some") is None


def test_a_pressure_file_that_exists_and_cannot_be_read_is_none_too(proc):
    (proc / "pressure/memory").unlink()
    (proc / "pressure/memory").mkdir()
    assert system_facts(proc).pressure is None
