# SPDX-License-Identifier: GPL-2.0-only
"""Whatever a scheme file holds: schemes, or every fault in words; never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from documents import DOCUMENTS, JSON, nearly
from pagepulse.errors import RefusedFile
from pagepulse.policy.explain import sentence
from pagepulse.policy.parse import MAX_FAULTS, Document, parse_document, parse_schemes, scheme_text

DAMO = [json.loads(path.read_text()) for path in (Path(__file__).parents[2] / "data" / "damo").glob("*.json")]
MORE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(data: bytes) -> Document | RefusedFile:
    try:
        return parse_document(data, "test")
    except RefusedFile as error:
        return error


def hold_to_promises(data: bytes) -> None:
    """Schemes that can be told in a sentence; or faults, few, printable and in words."""
    found = outcome(data)
    if isinstance(found, RefusedFile):
        lines = found.why.split("\n")
        assert 1 <= len(lines) <= MAX_FAULTS + 1
        assert all(line.strip() and line.isprintable() for line in lines)
        assert all("expected" in line or "unknown key" in line or line.strip().startswith("...") for line in lines)
        return
    assert found.schemes
    for scheme in found.schemes:
        text = sentence(scheme)
        assert text.startswith(f"{scheme.name}: ")
        assert "\n" not in text


@MORE
@given(DOCUMENTS)
def test_a_sound_file_is_accepted_and_comes_back_the_same_when_it_is_written_out(document):
    schemes = parse_schemes(json.dumps(document).encode(), "test")
    assert len(schemes) == len(document["schemes"])
    assert parse_schemes(scheme_text(schemes).encode(), "test") == schemes


@pytest.mark.parametrize("documents", [DOCUMENTS, st.sampled_from(DAMO)], ids=["pagepulse", "damo"])
@MORE
@given(data=st.data())
def test_a_file_with_a_few_things_changed_is_schemes_or_faults(documents, data):
    hold_to_promises(json.dumps(data.draw(nearly(documents))).encode())


@MORE
@given(JSON)
def test_any_json_is_schemes_or_faults(value):
    hold_to_promises(json.dumps(value).encode())


@MORE
@given(st.binary(max_size=200))
def test_any_bytes_are_schemes_or_faults(data):
    hold_to_promises(data)


@pytest.mark.parametrize("document", DAMO, ids=range(len(DAMO)))
def test_what_damo_says_comes_back_the_same_when_it_is_written_in_our_language(document):
    found = outcome(json.dumps(document).encode())
    if isinstance(found, Document):
        assert parse_schemes(scheme_text(found.schemes).encode(), "test") == found.schemes
