# SPDX-License-Identifier: GPL-2.0-only
"""The rooms: who may import whom, and who may touch the kernel."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "control" / "pagepulse"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "bpf" not in path.relative_to(PACKAGE).parts)
ALLOWED = {
    "units": set(), "errors": set(), "model": {"units", "errors"}, "simulate": {"model", "units", "errors"},
    "capture": {"model", "units", "errors"}, "policy": {"model", "units", "errors"},
    "report": {"model", "units", "errors"}, "kernel": {"model", "units", "errors"},
    "monitor": {"kernel", "policy", "report", "capture", "simulate", "model", "units", "errors"},
    "apply": {"monitor", "kernel", "policy", "model", "units", "errors"},
    "cli": {"apply", "monitor", "kernel", "policy", "report", "capture", "simulate", "model", "units", "errors"},
    "__init__": set(), "__main__": {"cli"},
}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    ours = (name.split(".") for name in imports(path) if name.startswith("pagepulse."))
    return {parts[1] for parts in ours if len(parts) > 1 and parts[1] in ALLOWED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)

    assert rooms_imported(path) - {room} <= ALLOWED[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_kernel_room_knows_bcc_ctypes_and_netlink(path):
    roots = {name.split(".")[0] for name in imports(path)}

    if room_of(path) != "kernel":
        assert not roots & {"bcc", "ctypes", "pyroute2", "termios"}
    if path.name != "compiler.py":
        assert "bcc" not in roots


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_kernel_room_opens_proc_and_sys(path):
    if room_of(path) == "kernel":
        return
    tree = ast.parse(path.read_text())
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings may speak of them
    literals = [node.value for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts]

    assert not [text for text in literals if text.startswith(("/proc/", "/sys/"))]


def test_every_room_is_known_to_the_rule():
    assert {room_of(path) for path in FILES} == set(ALLOWED)
