# SPDX-License-Identifier: GPL-2.0-only
"""The header is the contract: numpy's view of every record agrees with the compiler's, field by field."""

import json
import subprocess
from pathlib import Path

import pytest

from pagepulse.kernel import layout
from pagepulse.model import memory

BPF = Path(__file__).parents[2] / "bpf"
RECORDS = {"pp_request": layout.REQUEST, "pp_window": layout.WINDOW, "pp_filter": layout.FILTER, "pp_loss": layout.LOSS}
CONSTANTS = {
    "PP_WINDOW_PAGES": memory.WINDOW_PAGES, "PP_TABLE_PAGES": layout.TABLE_ENTRIES,
    "PP_WINDOWS": layout.WINDOWS_PER_RUN,
    "PP_TABLES": layout.TABLES_PER_RUN, "PP_LEVEL_NONE": memory.LEVEL_NONE, "PP_LEVEL_PAGE": memory.LEVEL_PAGE,
    "PP_LEVEL_CHUNK": memory.LEVEL_CHUNK, "PP_LEVEL_GIB": memory.LEVEL_GIB, "PP_LEVEL_LOST": memory.LEVEL_LOST,
    "PP_OK": layout.OK, "PP_NO_MAP": layout.NO_MAP, "PP_GONE": layout.GONE, "PP_CHANGED": layout.CHANGED,
}


@pytest.fixture(name="header", scope="module")
def _header(tmp_path_factory):
    """What the host's compiler makes of the header."""
    lines = [f'printf("\\"{name}\\": %d,\\n", {name});' for name in CONSTANTS]
    for record, dtype in RECORDS.items():
        lines.append(f'printf("\\"{record}\\": %zu,\\n", sizeof(struct {record}));')
        lines += [f'printf("\\"{record}.{field}\\": [%zu, %zu],\\n", offsetof(struct {record}, {field}), '
                  f"sizeof(((struct {record} *)0)->{field}));" for field in dtype.names]
    place = tmp_path_factory.mktemp("layout")
    source = ('#include <stdio.h>\n#include <stddef.h>\n#include "pagepulse.h"\n'
              'int main(void) { printf("{"); ' + "\n".join(lines) + ' printf("\\"end\\": 0}"); return 0; }')
    (place / "show.c").write_text(source)
    subprocess.run(["cc", "-Wall", "-Werror", f"-I{BPF}", "-o", place / "show", place / "show.c"], check=True)
    return json.loads(subprocess.run([place / "show"], check=True, capture_output=True).stdout)


@pytest.mark.parametrize("record", RECORDS)
def test_fields_lie_where_the_compiler_puts_them(header, record):
    dtype = RECORDS[record]

    assert dtype.itemsize == header[record]
    assert {name: [dtype.fields[name][1], dtype.fields[name][0].itemsize] for name in dtype.names} == {
        name: header[f"{record}.{name}"] for name in dtype.names}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_those_of_the_header(header, name):
    assert CONSTANTS[name] == header[name]
