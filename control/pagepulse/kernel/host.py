# SPDX-License-Identifier: GPL-2.0-only
"""Host: what this kernel and these privileges offer. Facts only; what to do about them is said where it is decided."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pagepulse.errors import Unsupported
from pagepulse.kernel.compiler import cpu_facts

# include/uapi/linux/capability.h
_CAPABILITIES = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23, "CAP_PERFMON": 38, "CAP_BPF": 39}
NEEDED = {
    "CAP_BPF": "to load BPF programs",
    "CAP_PERFMON": "to read kernel memory from them",
    "CAP_SYS_PTRACE": "to examine the target",
    "CAP_SYS_NICE": "to advise on the target's memory (process_madvise)",
    "CAP_SYS_ADMIN": "to see page frames (/proc/PID/pagemap)",
}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found. None: it cannot be told, which is not the same as no."""

    kernel: str
    machine: str
    page_table_levels: int
    has_btf: bool
    lockdown: str | None
    """none, integrity or confidentiality."""
    missing_capabilities: tuple[str, ...]
    swap_total_bytes: int
    swap_free_bytes: int
    has_psi: bool
    thp: str | None
    """The bracketed word of /sys/kernel/mm/transparent_hugepage/enabled."""
    damon_running: int | None
    """Kernel threads of the kernel's own DAMON, which clears accessed bits too."""
    huge_page_bytes: tuple[int, ...]
    """Sizes of pages beyond 4 KiB that this kernel maps, by THP or hugetlb; sorted."""
    others: tuple[str, ...]
    """What this kernel has, beside reclaim, that clears accessed bits behind a monitor's back."""


def origin() -> dict[str, Any]:
    """Where a recording is made, for its header. CLOCK_MONOTONIC of another boot tells nothing here."""
    return {"kernel": platform.release(), "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}


def facts(root: Path = Path("/")) -> HostFacts:
    """Look around.

    Args:
        root: Where /proc and /sys are; tests give another.
    """
    sizes = meminfo(_text(root / "proc/meminfo") or "")
    return HostFacts(
        kernel=platform.release(), machine=platform.machine(),
        page_table_levels=cpu_facts(_text(root / "proc/cpuinfo") or "")[0],
        has_btf=(root / "sys/kernel/btf/vmlinux").exists(),
        lockdown=_bracketed(_text(root / "sys/kernel/security/lockdown")),
        missing_capabilities=_missing_capabilities(_text(root / "proc/self/status") or ""),
        swap_total_bytes=sizes.get("SwapTotal", 0), swap_free_bytes=sizes.get("SwapFree", 0),
        has_psi=_text(root / "proc/pressure/memory") is not None,
        thp=_bracketed(_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        damon_running=_damon_threads(root / "sys/kernel/mm/damon/admin/kdamonds"),
        huge_page_bytes=_huge_page_bytes(root / "sys/kernel/mm"), others=_others(root))


def require(found: HostFacts) -> None:
    """Refuse a host on which nothing can work, before anything is loaded.

    Raises:
        Unsupported: With what is missing, and what would help.
    """
    if found.machine != "x86_64":
        raise Unsupported(f"pagepulse does not know the page tables of {found.machine}", why="it reads those of x86-64",
                          hint="run it on an x86-64 kernel")
    if found.missing_capabilities:
        lines = "; ".join(f"{name} {NEEDED[name]}" for name in found.missing_capabilities)
        raise Unsupported("privileges are missing" if os.geteuid() == 0 else "pagepulse needs root",
                          why=f"we lack {lines}", hint="run it with sudo, outside of containers")
    if found.lockdown == "confidentiality":
        raise Unsupported("this kernel is locked down",
                          why="lockdown=confidentiality forbids BPF to read kernel memory",
                          hint="boot with lockdown=integrity, or with lockdown off")
    if not found.has_btf:
        raise Unsupported("this kernel does not describe its structures",
                          why="/sys/kernel/btf/vmlinux is missing: no CONFIG_DEBUG_INFO_BTF",
                          hint="use a kernel with BTF: Debian 11 and later, and most of 2021 and later, have it")
    if not _sorts():
        raise Unsupported("this processor sorts wrongly",
                          why="numpy sorts by AVX2, which emulated processors may get wrong (QEMU 7.2 does)",
                          hint="give the machine a processor without it: -cpu max,-avx2")


def _sorts() -> bool:
    """Whether numbers come out in order; nothing of what is measured would be true otherwise."""
    scattered = np.arange(256, dtype=np.uint64) * np.uint64(101) % np.uint64(256)
    return all(np.array_equal(scattered[np.argsort(scattered[:n])], np.sort(scattered[:n])) for n in (16, 32, 256))


def swap_free_bytes() -> int:
    """Free swap space, now."""
    return meminfo(_text(Path("/proc/meminfo")) or "").get("SwapFree", 0)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _bracketed(text: str | None) -> str | None:
    """The chosen word of a line such as `always [madvise] never`."""
    if text is None or "[" not in text:
        return None
    return text[text.index("[") + 1 : text.index("]")]


def meminfo(text: str) -> dict[str, int]:
    """Bytes of each size that /proc/meminfo names."""
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}


def _missing_capabilities(status: str) -> tuple[str, ...]:
    effective = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    return tuple(name for name in NEEDED if not effective >> _CAPABILITIES[name] & 1)


def _damon_threads(kdamonds: Path) -> int | None:
    if not kdamonds.exists():
        return None
    states = [_text(state) for state in kdamonds.glob("*/state")]
    return None if None in states else sum(str(state).strip() == "on" for state in states)


def _huge_page_bytes(mm: Path) -> tuple[int, ...]:
    sizes = {int(path.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
             for path in (mm / "hugepages").glob("hugepages-*kB")}
    pmd = _text(mm / "transparent_hugepage/hpage_pmd_size")
    return tuple(sorted(sizes | ({int(pmd)} if pmd else set())))


def _others(root: Path) -> tuple[str, ...]:
    found = ["clear_refs"] if (root / "proc/self/clear_refs").exists() else []
    generations = _text(root / "sys/kernel/mm/lru_gen/enabled")  # a mask; bit 0 is the whole of it
    if generations is not None:
        found.append("MGLRU" if int(generations, 16) & 1 else "MGLRU (off)")
    found += [name for name, place in (("DAMON", "damon/admin"), ("idle page tracking", "page_idle/bitmap"))
              if (root / "sys/kernel/mm" / place).exists()]
    return tuple(found)
