# SPDX-License-Identifier: GPL-2.0-only
"""Maps: the mappings of a process that can be monitored, from the text of /proc/PID/maps."""

from __future__ import annotations

from dataclasses import replace

from pagepulse.model.memory import Mapping

# Kernel-provided pages: no page of the process's own, nothing to clear.
_NOT_MEMORY = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]", "[uprobes]")
_SHARED_MEMORY = ("/dev/shm/", "/dev/zero", "/SYSV", "/memfd:")  # noqa: S108 - names to recognise


def printable(name: str) -> str:
    """A name that a process or a file gave itself, without what would move the cursor of a terminal."""
    return name if name.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in name)


def parse_maps(text: str) -> list[Mapping]:
    """Mappings with any permission, sorted by address as the kernel prints them.

    Args:
        text: /proc/PID/maps. A last line that was cut short is left out.
    """
    mappings: list[Mapping] = []
    # Not splitlines(): the name of a file may hold anything that it takes for the end of a line; only \n is escaped.
    for line in text.split("\n")[:-1]:
        fields = line.split(None, 5)
        if len(fields) < 5 or "-" not in fields[0]:
            continue
        name = fields[5] if len(fields) == 6 else "[anon]"
        if fields[1].startswith("---") or name in _NOT_MEMORY:
            continue
        start, end = (int(number, 16) for number in fields[0].split("-"))
        file = "" if fields[4] == "0" else f"{fields[3]}:{fields[4]}"
        is_own = fields[1].endswith("p") and "w" in fields[1]
        if is_own and mappings and _is_relocated(mappings[-1], file, start):
            mappings[-1] = replace(mappings[-1], shared=False)
        mappings.append(Mapping(start, end, _readable(name), _is_clearable(name), anonymous=not file, file=file,
                                offset=int(fields[2], 16), shared=bool(file) and not is_own))
    return mappings


def _is_relocated(before: Mapping, file: str, start: int) -> bool:
    """What lies right before a program's data was data, too, until it was relocated and locked (ld.so's RELRO)."""
    return bool(file) and (before.file, before.end) == (file, start)


def _is_clearable(name: str) -> bool:
    """Hugetlb and device memory refuse MADV_COLD; locked memory too, which only the attempt shows."""
    if name.startswith("/anon_hugepage"):
        return False
    return not name.startswith("/dev/") or name.startswith(_SHARED_MEMORY)


def _readable(name: str) -> str:
    """`[anon:NAME]`, from PR_SET_VMA_ANON_NAME, as `[anon: NAME]`."""
    name = printable(name)
    for prefix in ("[anon:", "[anon_shmem:"):
        if name.startswith(prefix):
            return f"[anon: {name.removeprefix(prefix)}"
    return name
