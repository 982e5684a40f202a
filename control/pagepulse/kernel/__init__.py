# SPDX-License-Identifier: GPL-2.0-only
"""The only room that touches the kernel: BPF, system calls, `/proc`, `/sys`."""
