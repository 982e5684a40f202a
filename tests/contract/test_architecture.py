# SPDX-License-Identifier: GPL-2.0-only
"""The rooms, and who may know whom: read from the code itself, not from running it."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pagepulse
from pagepulse.cli import VERBS, build_parser

PACKAGE = Path(pagepulse.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "bpf" not in path.relative_to(PACKAGE).parts)

LEAVES = {"units", "errors"}
MAY_IMPORT = {
    "units": set(), "errors": set(),
    "model": {"model"} | LEAVES,
    "simulate": {"simulate", "model"} | LEAVES,
    "policy": {"policy", "model"} | LEAVES,
    "capture": {"capture", "model"} | LEAVES,
    "report": {"report", "model"} | LEAVES,
    "kernel": {"kernel", "model"} | LEAVES,
    "monitor": {"kernel", "policy", "report", "capture", "simulate", "model"} | LEAVES,
    "fleet": {"fleet", "monitor", "kernel", "policy", "model"} | LEAVES,
    "simulation": {"simulate", "policy", "model"} | LEAVES,
    "standing": {"monitor", "kernel", "policy", "model"} | LEAVES,
    "apply": {"standing", "monitor", "kernel", "policy", "model"} | LEAVES,
    "service": {"service", "apply", "fleet", "monitor", "kernel", "policy", "report", "capture", "model"} | LEAVES,
}
"""Room -> rooms that it may import. cli and the package's own front door may import all."""

ONLY_KERNEL = {"bcc", "ctypes", "pyroute2", "termios"}
HEAVY = {"matplotlib"}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every import statement anywhere in it, and the dotted names that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node, node.module or ""
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    """Rooms of ours that a module imports; a constant of the package itself is no room."""
    rooms = {name.split(".")[1] for _, name in imports(ast.parse(path.read_text()))
             if name.startswith("pagepulse.")}
    return {room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()}


def texts(tree: ast.Module) -> Iterator[str]:
    """String literals that are no docstrings."""
    documents = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                documents.add(statement.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents:
            yield node.value


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in MAY_IMPORT], ids=name_of)
def test_a_room_imports_only_rooms_below_it(path):
    assert rooms_imported(path) <= MAY_IMPORT[room_of(path)]


def test_every_room_has_its_rule():
    assert {room_of(path) for path in MODULES} == {*MAY_IMPORT, "cli", "__init__", "__main__"}


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) != "kernel"], ids=name_of)
def test_only_the_kernel_room_knows_bcc_ctypes_netlink_proc_and_sys(path):
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for _, name in imports(tree)} & ONLY_KERNEL
    assert not [text for text in texts(tree) if text.startswith(("/proc/", "/sys/"))]


def test_bcc_is_imported_by_the_compiler_alone_and_inside_a_function():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        found = [node for node, name in imports(tree) if name.split(".")[0] == "bcc"]
        assert bool(found) == (name_of(path) == "kernel/compiler.py")
        assert not set(found) & set(tree.body)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_matplotlib_is_imported_where_pictures_are_made_and_only_when_they_are(path):
    tree = ast.parse(path.read_text())
    found = {node for node, name in imports(tree) if name.split(".")[0] in HEAVY}
    if not name_of(path).startswith("report/picture"):
        assert room_of(path) == "cli" or not found
        assert not found & set(tree.body)


def test_no_verb_loads_matplotlib_or_bcc_before_it_runs():
    program = ("import sys\nfrom pagepulse.cli import build_parser\nbuild_parser()\n"
               "print(*sorted({'matplotlib', 'bcc', 'hypothesis'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(PACKAGE.parent)})
    assert done.stdout.split() == []


@pytest.mark.parametrize("verb", ["status", "pause", "resume"])
def test_who_only_asks_a_daemon_waits_for_no_library_that_answers_nothing(verb):
    program = (f"import sys\nfrom pagepulse.cli import build_parser\nbuild_parser(['{verb}'])\n"
               "print(*sorted({'numpy', 'pydantic', 'prometheus_client', 'rich'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(PACKAGE.parent)})
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_product_of_matrices_wakes_the_threads_of_a_library(path):
    """One of long vectors runs on all processors, where those threads then spin: three times what all else costs."""
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.MatMult)]
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"dot", "matmul", "inner", "vdot", "einsum", "tensordot", "linalg"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_file_begins_with_its_licence_and_has_a_docstring(path):
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-only\n")
    assert path.name == "__main__.py" or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


# --- the command ---------------------------------------------------------------------------------------------------

def test_the_verbs_are_the_modules_that_have_a_command():
    found = {path.stem for path in (PACKAGE / "cli").glob("*.py")
             if any(isinstance(node, ast.Assign | ast.AnnAssign) and "COMMAND" in ast.unparse(node).split("=")[0]
                    for node in ast.parse(path.read_text()).body)}
    assert found == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb, capsys):
    command = importlib.import_module(f"pagepulse.cli.{verb}").COMMAND
    assert inspect.getdoc(command)
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args([verb, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: pagepulse {verb}")
    assert "exit codes" in printed
    assert max(map(len, printed.splitlines())) <= 125


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_does(verb):
    subparsers = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    pending = [subparsers.choices[verb]]
    while pending:
        for action in pending.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                pending += action.choices.values()
            else:
                assert action.help, action.dest


# --- clocks --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in {"monitor", "apply", "fleet", "service", "policy",
                                                                       "model"}], ids=name_of)
def test_no_clock_that_can_be_set_decides_anything(path):
    """Schemes, budgets and ages go by CLOCK_MONOTONIC: neither a jump nor a suspend makes memory look idle."""
    asked = {(node.value.id, node.attr) for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    assert not asked & {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}
