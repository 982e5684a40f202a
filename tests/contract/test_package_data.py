# SPDX-License-Identifier: GPL-2.0-only
"""The BPF sources travel with the package: in the checkout, and in a wheel."""

import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {str(path.relative_to(ROOT / "bpf")) for path in (ROOT / "bpf").rglob("*.[ch]")}


def test_there_are_sources_to_travel():
    assert {"pagepulse.h", "reader.bpf.c", "probes.bpf.c", "shim/include/linux/types.h"} <= SOURCES


def test_the_editable_install_reaches_every_source():
    inside = resources.files("pagepulse") / "bpf"

    assert all((inside / source).is_file() for source in SOURCES)


def test_a_wheel_holds_every_source(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".git", "build", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, tree], check=True,
                   capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {f"pagepulse/bpf/{source}" for source in SOURCES} <= names
    assert "pagepulse/py.typed" in names
