# SPDX-License-Identifier: GPL-2.0-only
"""Fuzz the parser of scheme files, guided by coverage: `make fuzz`. Stops at the first input that breaks a promise.

The promise: any bytes become schemes that can be told in a sentence and written out again, or a refusal.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pagepulse"]):
    from pagepulse.errors import RefusedFile
    from pagepulse.policy.explain import sentence
    from pagepulse.policy.parse import parse_schemes, scheme_text


def one_input(data: bytes) -> None:
    """Parse, tell, write out, parse again."""
    try:
        schemes = parse_schemes(data, "fuzzed")
    except RefusedFile:
        return
    assert all(sentence(scheme) for scheme in schemes)
    parse_schemes(scheme_text(schemes).encode(), "written out")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
