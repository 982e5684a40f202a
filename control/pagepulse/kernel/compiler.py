# SPDX-License-Identifier: GPL-2.0-only
"""Compiler: the only module that imports bcc. Runs as a child, hands its file descriptors over, and exits.

BCC brings LLVM, some 90 MB, which the monitoring process should not carry around for hours. So `compile_programs()`
starts this module as a short-lived child; maps and programs live on as descriptors in the parent. Nothing is pinned:
when the parent is gone, by whatever end, the kernel frees all of it.

The child imports neither numpy nor anything of ours that does.
"""

from __future__ import annotations

import array
import json
import os
import platform
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from pagepulse.errors import PagepulseError, Unsupported
from pagepulse.kernel import children
from pagepulse.kernel.btf import offsets

SOURCES: dict[str, tuple[list[str], dict[str, str]]] = {
    "reader.bpf.c": (["request", "windows", "tables", "parents"],
                     {"read_windows": "raw_tracepoint", "copy_page_tables": "raw_tracepoint",
                      "copy_middle_tables": "raw_tracepoint"}),
    "probes.bpf.c": (["filter", "loss", "faults0", "faults1", "watched", "taken0", "taken1"],
                     {"on_page_fault_user": "raw_tracepoint", "on_handle_mm_fault": "kprobe",
                      "on_pte_clear_young": "kprobe", "on_pmd_clear_young": "kprobe"}),
}
"""Source file -> (its maps, its programs and their types)."""

_FDS_PER_MESSAGE = 32


def bpf_dir() -> Path:
    """Where the BPF sources are: in the package, which in a checkout links to `bpf/`."""
    return (Path(__file__).parent.parent / "bpf").resolve()


def cpu_facts(cpuinfo: str) -> tuple[int, int]:
    """Levels of the page tables, and bits of a physical address (without an encryption bit), from /proc/cpuinfo."""
    levels = 5 if re.search(r"^flags\b.*\bla57\b", cpuinfo, re.MULTILINE) else 4
    bits = re.search(r"^address sizes\s*: (\d+) bits physical", cpuinfo, re.MULTILINE)
    return levels, int(bits[1]) if bits else 52


def _cflags() -> list[str]:
    levels, physical_bits = cpu_facts(Path("/proc/cpuinfo").read_text())
    frame = (1 << min(physical_bits, 52)) - 4096
    return [f"-I{bpf_dir()}", "-isystem", "/usr/include", "-isystem", f"/usr/include/{platform.machine()}-linux-gnu",
            f"-DLEVELS={levels}", f"-DFRAME={frame:#x}ULL", *(f"-D{name}={value}" for name, value in offsets().items())]


def compile_programs() -> tuple[dict[str, int], float]:
    """Compile and load everything, in a child.

    Returns:
        Descriptors by name of map or program, owned by the caller; and the CPU seconds that it took.

    Raises:
        Unsupported: BCC, BTF or a BPF privilege is missing.
        PagepulseError: A program was refused; the compiler's or verifier's words are in `why`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, tempfile.TemporaryFile() as noise:
        with theirs:
            child = children.start("pagepulse.kernel.compiler", str(theirs.fileno()),
                                   environment={"BCC_KERNEL_SOURCE": str(bpf_dir() / "shim")},
                                   pass_fds=[theirs.fileno()], stdout=noise, stderr=noise)
        descriptors: dict[str, int] = {}
        try:
            answer = _receive(ours, descriptors)
        finally:
            child.wait()
        if "error" in answer or not answer:
            for fd in descriptors.values():
                os.close(fd)
            noise.seek(0)
            _refuse(answer, noise.read().decode(errors="replace").strip())
        return descriptors, answer["cpu_s"]


def _receive(ours: socket.socket, descriptors: dict[str, int]) -> dict[str, Any]:
    while True:
        message, fds, _, _ = socket.recv_fds(ours, 65536, _FDS_PER_MESSAGE, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return {}
        answer: dict[str, Any] = json.loads(message)
        if "names" not in answer:
            return answer
        descriptors.update(zip(answer["names"], fds, strict=True))


def _refuse(answer: dict[str, Any], noise: str) -> None:
    why = answer.get("error", "the compiling child ended without an answer")
    if answer.get("kind") == "unsupported":
        raise Unsupported(answer["what"], why=why, hint=answer["hint"])
    raise PagepulseError("the BPF programs could not be compiled and loaded",
                         why=f"{why}\n{noise[-3000:]}" if noise else why,
                         hint="`pagepulse doctor` tells what this kernel offers")


def _child(channel: socket.socket) -> None:
    try:
        from bcc import BPF  # noqa: PLC0415 - brings LLVM: only in the child
    except ImportError as error:
        raise Unsupported("BCC is missing", why=str(error),
                          hint="install python3-bpfcc; a virtual environment needs --system-site-packages") from None
    flags = _cflags()
    kinds = {"raw_tracepoint": BPF.RAW_TRACEPOINT, "kprobe": BPF.KPROBE}
    for source, (maps, programs) in SOURCES.items():
        module = BPF(text=(bpf_dir() / source).read_text(), cflags=list(flags))
        fds = {name: module[name].map_fd for name in maps}
        fds |= {name: module.load_func(name, kinds[kind]).fd for name, kind in programs.items()}
        message = json.dumps({"names": list(fds)}).encode()
        channel.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds.values()))])


def _main(channel: socket.socket) -> None:
    try:
        _child(channel)
    except Unsupported as error:
        answer: dict[str, Any] = {"kind": "unsupported", "what": error.what, "error": error.why, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - bcc raises bare Exception; whatever it is, the parent must hear of it
        answer = {"error": f"{type(error).__name__}: {error}"}
    else:
        answer = {"cpu_s": sum(os.times()[:2])}
    channel.send(json.dumps(answer).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # bcc's exit handlers would close what the parent is about to use; nothing else is left to do


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
