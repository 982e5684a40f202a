# SPDX-License-Identifier: GPL-2.0-only
"""The JSON schema of scheme files, for editors: `python -m pagepulse.policy.json_schema > schemes/scheme.schema.json`.

It is generated from the models, and says less than they do: only `check` knows, for instance, a min above its max.
"""

from __future__ import annotations

import json
import sys

from pagepulse.policy.scheme import SchemeFile


def schema_text() -> str:
    """The text of `schemes/scheme.schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **SchemeFile.model_json_schema()}
    return json.dumps(_bare(schema), indent=2, sort_keys=True) + "\n"


def _bare(node: object) -> object:
    """Without titles, which repeat the keys, and defaults, which are in the units of the program, not of the file."""
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _bare(value) for key, value in node.items()
            if not (key == "default" or (key == "title" and isinstance(value, str)))}


if __name__ == "__main__":
    sys.stdout.write(schema_text())
