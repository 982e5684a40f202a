# SPDX-License-Identifier: GPL-2.0-only
"""What a host offers: facts from a fake root, and refusals that say what is missing and what would help."""

from dataclasses import replace

import numpy as np
import pytest

from pagepulse.errors import Unsupported
from pagepulse.kernel.compiler import cpu_facts
from pagepulse.kernel.host import NEEDED, facts, require

ALL_CAPABILITIES = "000001ffffffffff"


@pytest.fixture(name="root")
def _root(tmp_path):
    """A host with everything; a test takes one thing away."""
    files = {"proc/cpuinfo": "flags\t\t: fpu la57 sse\naddress sizes\t: 46 bits physical, 57 bits virtual\n",
             "proc/meminfo": "SwapTotal:  1048576 kB\nSwapFree:  524288 kB\nHugePages_Total: 0\n",
             "proc/self/status": f"Name:\tx\nCapEff:\t{ALL_CAPABILITIES}\n", "proc/pressure/memory": "some avg10=0\n",
             "sys/kernel/btf/vmlinux": "", "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
             "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
             "sys/kernel/mm/damon/admin/kdamonds/0/state": "on\n"}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_everything_that_is_there_is_found(root):
    found = facts(root)

    assert (found.page_table_levels, found.lockdown, found.thp, found.has_psi) == (5, "integrity", "madvise", True)
    assert (found.swap_total_bytes, found.swap_free_bytes) == (1 << 30, 1 << 29)
    assert found.damon_running == 1
    require(found)


def test_sizes_of_pages_and_others_who_clear_accessed_bits_are_found(root):
    def write(name: str, text: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    assert (facts(root).huge_page_bytes, facts(root).others) == ((), ("DAMON",))
    write("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n")
    assert facts(root).huge_page_bytes == (2 << 20,)
    for size_kb in (1048576, 2048):
        write(f"sys/kernel/mm/hugepages/hugepages-{size_kb}kB/nr_hugepages", "0\n")
    write("proc/self/clear_refs", "")
    write("sys/kernel/mm/page_idle/bitmap", "")
    write("sys/kernel/mm/lru_gen/enabled", "0x0000\n")
    assert facts(root).huge_page_bytes == (2 << 20, 1 << 30)
    assert facts(root).others == ("clear_refs", "MGLRU (off)", "DAMON", "idle page tracking")
    write("sys/kernel/mm/lru_gen/enabled", "0x0007\n")
    assert "MGLRU" in facts(root).others


def test_what_cannot_be_told_is_none_and_not_no(root):
    (root / "sys/kernel/security/lockdown").unlink()

    assert facts(root).lockdown is None


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_capability_is_named(root, name):
    bit = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23, "CAP_PERFMON": 38, "CAP_BPF": 39}[name]
    (root / "proc/self/status").write_text(f"CapEff:\t{int(ALL_CAPABILITIES, 16) & ~(1 << bit):016x}\n")

    with pytest.raises(Unsupported, match=name):
        require(facts(root))


def test_confidentiality_and_a_kernel_without_btf_are_refused(root):
    (root / "sys/kernel/security/lockdown").write_text("none integrity [confidentiality]\n")
    with pytest.raises(Unsupported, match="confidentiality"):
        require(facts(root))
    (root / "sys/kernel/security/lockdown").write_text("[none] integrity confidentiality\n")
    (root / "sys/kernel/btf/vmlinux").unlink()
    with pytest.raises(Unsupported, match="BTF"):
        require(facts(root))


@pytest.mark.parametrize(("text", "expected"), [
    ("flags : fpu\naddress sizes : 48 bits physical, 48 bits virtual\n", (4, 48)),
    ("flags : fpu la57 x\naddress sizes : 52 bits physical, 57 bits virtual\n", (5, 52)), ("", (4, 52))])
def test_page_table_levels_and_physical_bits_come_from_cpuinfo(text, expected):
    assert cpu_facts(text) == expected


def test_an_empty_host_has_nothing_and_knows_so(tmp_path):
    found = facts(tmp_path)

    assert (found.has_btf, found.has_psi, found.lockdown, found.thp) == (False, False, None, None)
    assert (found.swap_total_bytes, found.swap_free_bytes) == (0, 0)
    assert set(found.missing_capabilities) == set(NEEDED)


def test_several_missing_capabilities_are_all_named_with_what_they_are_for(root):
    (root / "proc/self/status").write_text("CapEff:\t0000000000000000\n")

    with pytest.raises(Unsupported) as refused:
        require(facts(root))
    assert all(f"{name} {purpose}" in str(refused.value) for name, purpose in NEEDED.items())
    assert refused.value.exit_code == 3
    assert refused.value.hint


def test_a_processor_that_sorts_wrongly_is_refused(root, monkeypatch):
    monkeypatch.setattr(np, "argsort", lambda values: np.arange(len(values)))  # as QEMU's emulation of AVX2, or worse
    with pytest.raises(Unsupported, match=r"(?s)sorts wrongly.*-cpu max,-avx2"):
        require(facts(root))


def test_another_machine_is_refused_before_anything_else(root):
    (root / "sys/kernel/btf/vmlinux").unlink()

    with pytest.raises(Unsupported, match="aarch64"):
        require(replace(facts(root), machine="aarch64"))
