# SPDX-License-Identifier: GPL-2.0-only
"""BTF: where the running kernel keeps a structure's fields, asked of libbpf.

Not of `bpftool btf dump` compiled by clang: that lays out `struct inode` 8 bytes off.
"""

from __future__ import annotations

import ctypes

from pagepulse.errors import Unsupported

FIELDS = {
    "TASK_FILES": ("task_struct", "files"),
    "TASK_MM": ("task_struct", "mm"),
    "TASK_PID_LINKS": ("task_struct", "pid_links"),
    "TASK_TGID": ("task_struct", "tgid"),
    "TASK_SELF_EXEC_ID": ("task_struct", "self_exec_id"),
    "TASK_SIGNAL": ("task_struct", "signal"),
    "TASK_THREAD_NODE": ("task_struct", "thread_node"),
    "SIGNAL_THREAD_HEAD": ("signal_struct", "thread_head"),
    "FILES_FDT": ("files_struct", "fdt"),
    "FDT_FD": ("fdtable", "fd"),
    "FILE_PRIVATE": ("file", "private_data"),
    "FILE_INODE": ("file", "f_inode"),
    "INODE_PRIVATE": ("inode", "i_private"),
    "PID_TASKS": ("pid", "tasks"),
    "MM_PGD": ("mm_struct", "pgd"),
    "VMA_MM": ("vm_area_struct", "vm_mm"),
}
"""Macro that the BPF programs use -> (structure, field)."""

_KIND_STRUCT, _KIND_UNION = 4, 5


class _Type(ctypes.Structure):
    """The start of struct btf_type: include/uapi/linux/btf.h."""

    _fields_ = (("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size", ctypes.c_uint32))


class _Member(ctypes.Structure):
    _fields_ = (("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32))


class KernelTypes:
    """The running kernel's own description of its structures.

    Raises:
        Unsupported: The kernel has no BTF, or libbpf is missing.
    """

    def __init__(self) -> None:
        try:
            self._libbpf = ctypes.CDLL("libbpf.so.1")
        except OSError as error:
            raise Unsupported("libbpf.so.1 cannot be loaded", why=str(error),
                              hint="install libbpf1 (Debian), or run `make setup`") from None
        self._libbpf.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        self._libbpf.btf__type_by_id.restype = ctypes.POINTER(_Type)
        self._libbpf.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self._libbpf.btf__name_by_offset.restype = ctypes.c_char_p
        self._libbpf.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self._libbpf.btf__find_by_name_kind.restype = ctypes.c_int32
        self._libbpf.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        self._btf = self._libbpf.btf__load_vmlinux_btf()
        if not self._btf:
            raise Unsupported("this kernel does not describe its structures",
                              why="/sys/kernel/btf/vmlinux cannot be read: no CONFIG_DEBUG_INFO_BTF",
                              hint="Debian 11 and later, and most distributions of 2021 and later, have it")

    def offset(self, struct_name: str, field: str) -> int:
        """Byte offset of a field, also of one inside an anonymous struct or union.

        Raises:
            Unsupported: This kernel has no such field.
        """
        type_id = self._libbpf.btf__find_by_name_kind(self._btf, struct_name.encode(), _KIND_STRUCT)
        found = self._member_offset(type_id, field) if type_id > 0 else None
        if found is None:
            raise Unsupported(f"this kernel's struct {struct_name} has no field {field}",
                              why="pagepulse was written for Linux 6.1 to 7.3",
                              hint="please report the kernel release (uname -r)")
        return found

    def _member_offset(self, type_id: int, field: str) -> int | None:
        struct = self._libbpf.btf__type_by_id(self._btf, type_id).contents
        count, has_bitfields = struct.info & 0xFFFF, struct.info >> 31
        first = ctypes.addressof(struct) + ctypes.sizeof(_Type)
        for index in range(count):
            member = _Member.from_address(first + index * ctypes.sizeof(_Member))
            offset_bits = member.offset & 0xFFFFFF if has_bitfields else member.offset
            name = self._libbpf.btf__name_by_offset(self._btf, member.name_off).decode()
            if name == field:
                return int(offset_bits // 8)
            if not name:  # an anonymous struct or union: mm_struct.pgd lies in one
                inner = self._libbpf.btf__type_by_id(self._btf, member.type).contents
                if (inner.info >> 24) & 0x1F in (_KIND_STRUCT, _KIND_UNION):
                    found = self._member_offset(member.type, field)
                    if found is not None:
                        return int(offset_bits // 8) + found
        return None


def offsets() -> dict[str, int]:
    """All of FIELDS on the running kernel."""
    types = KernelTypes()
    return {macro: types.offset(*field) for macro, field in FIELDS.items()}
