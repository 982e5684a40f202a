# SPDX-License-Identifier: GPL-2.0-only
"""The header is the contract: Python's view of it is compared with what a compiler makes of it, field by field."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pagepulse.kernel import layout, probes
from pagepulse.kernel.compiler import SOURCES, bpf_dir
from pagepulse.model import memory

HEADER = bpf_dir() / "pagepulse.h"
STRUCTS = {"pp_request": layout.REQUEST, "pp_window": layout.WINDOW, "pp_filter": layout.FILTER, "pp_loss": layout.LOSS}
CONSTANTS = {
    "PP_WINDOW_PAGES": memory.WINDOW_PAGES, "PP_TABLE_PAGES": layout.TABLE_ENTRIES,
    "PP_WINDOWS": layout.WINDOWS_PER_RUN, "PP_TABLES": layout.TABLES_PER_RUN,
    "PP_FAULTS": probes._SIZES["faults"], "PP_TAKEN": probes._SIZES["taken"],
    "PP_LEVEL_NONE": memory.LEVEL_NONE, "PP_LEVEL_PAGE": memory.LEVEL_PAGE, "PP_LEVEL_CHUNK": memory.LEVEL_CHUNK,
    "PP_LEVEL_GIB": memory.LEVEL_GIB, "PP_LEVEL_LOST": memory.LEVEL_LOST,
    "PP_OK": layout.OK, "PP_NO_MAP": layout.NO_MAP, "PP_GONE": layout.GONE, "PP_CHANGED": layout.CHANGED,
}


def text_without_comments() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def members(struct: str) -> list[str]:
    """Names of a structure's fields, as the header has them."""
    body = re.search(rf"struct {struct} \{{(.*?)\}};", text_without_comments(), re.DOTALL)
    assert body is not None
    return re.findall(r"(\w+)(?:\[\w+\])?;", body[1])


@pytest.fixture(name="compiled", scope="module")
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Sizes, offsets and constants, as the host's compiler sees them."""
    lines = []
    for struct in (*STRUCTS, "pp_table"):
        lines.append(f'printf("\\"{struct}\\": {{\\"\\": %zu", sizeof(struct {struct}));')
        lines += [f'printf(", \\"{field}\\": [%zu, %zu]", offsetof(struct {struct}, {field}), '
                  f"sizeof(((struct {struct} *)0)->{field}));" for field in members(struct)]
        lines.append('printf("}, ");')
    lines += [f'printf("\\"{name}\\": %d, ", {name});' for name in CONSTANTS]
    folder = tmp_path_factory.mktemp("layout")
    source = folder / "layout.c"
    source.write_text(f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\n'
                      f"int main(void) {{ printf(\"{{\"); {' '.join(lines)} printf(\"\\\"end\\\": 0}}\"); return 0; }}")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", folder / "layout", source], check=True)
    facts: dict[str, Any] = json.loads(subprocess.run([folder / "layout"], check=True, capture_output=True).stdout)
    return facts


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_lies_where_numpy_looks_for_it(compiled, struct):
    dtype = STRUCTS[struct]
    found = dict(compiled[struct])
    assert found.pop("") == dtype.itemsize
    assert dtype.fields is not None
    assert {name: [field[1], field[0].itemsize] for name, field in dtype.fields.items()} == found


def test_a_table_is_one_page_of_entries(compiled):
    assert compiled["pp_table"] == {"": 4096, "entry": [0, 8 * layout.TABLE_ENTRIES]}


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_constant_is_the_one_that_python_uses(compiled, name):
    assert compiled[name] == CONSTANTS[name]


def test_no_constant_and_no_structure_of_the_header_is_left_unchecked():
    text = text_without_comments()
    assert set(re.findall(r"\b(PP_\w+) =", text)) == set(CONSTANTS)
    assert set(re.findall(r"struct (pp_\w+) \{", text)) == {*STRUCTS, "pp_table"}


def test_there_is_no_padding_without_a_name(compiled):
    for struct in (*STRUCTS, "pp_table"):
        facts = dict(compiled[struct])
        whole = facts.pop("")
        assert sum(size for _, size in facts.values()) == whole


def test_the_header_compiles_alone():
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", HEADER], check=True)


def test_windows_chunks_and_pages_fit_each_other():
    assert memory.CHUNK == layout.TABLE_ENTRIES * memory.PAGE
    assert memory.WINDOW == memory.WINDOW_PAGES * memory.PAGE
    assert memory.WINDOWS_PER_CHUNK * memory.WINDOW == memory.CHUNK


@pytest.mark.parametrize("source", SOURCES)
def test_every_map_and_program_that_python_asks_for_is_in_its_source(source):
    text = (bpf_dir() / source).read_text()
    maps, programs = SOURCES[source]
    for name in maps:
        assert re.search(rf"\bBPF_F?_?TABLE\([^)]*\b{name}\b|\bBPF_ARRAY\({name}\b", text), name
    assert set(programs) == set(re.findall(r"^int (\w+)\(", text, re.MULTILINE))


def test_mapped_arrays_are_mappable_and_as_large_as_python_maps_them():
    text = "".join((bpf_dir() / source).read_text() for source in SOURCES)
    sizes = {"request": "1", "windows": "PP_WINDOWS", "tables": "PP_TABLES", "parents": "PP_TABLES", "filter": "1",
             "loss": "1"}
    assert set(sizes) == set(layout.ARRAYS)
    for name, size in sizes.items():
        assert re.search(rf"BPF_F_TABLE\(\"array\", u32, [\w ]+, {name}, {size}, (MMAPABLE|1024)\)", text), name
        entries = CONSTANTS.get(size, 1)
        per_entry = layout.TABLE_ENTRIES if name == "tables" else 1
        assert layout.ARRAYS[name][1] == entries * per_entry


def test_there_is_no_other_source():
    assert {path.name for path in Path(bpf_dir()).glob("*.c")} == set(SOURCES)
