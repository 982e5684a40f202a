# SPDX-License-Identifier: GPL-2.0-only
"""What schemes are up to, in words: whether they may act, and which guard holds them back."""

from __future__ import annotations

from typing import Any

import pytest

from pagepulse.report.scheme_states import state_lines, states_json, states_text

MIB = 1 << 20
REFAULT = {"guard": "refault", "stance": "limits", "limit_bytes": 5, "reason": "2 % of what was evicted came back"}
PSI = {"guard": "psi", "stance": "stops", "limit_bytes": 0, "reason": "some programs wait"}
OPEN = {"guard": "swap", "stance": "open", "limit_bytes": 7, "reason": ""}
TRIAL = {"guard": "trial", "stance": "open", "limit_bytes": None, "reason": ""}
PSI_OFF = {"guard": "psi", "stance": "off", "limit_bytes": None, "reason": "this kernel does not measure pressure"}


def state(*guards: dict[str, Any], saved_bytes: int = 0, waits_for: str = "") -> dict[str, Any]:
    return {"name": "prcl", "action": "pageout", "applied_bytes": 3 * MIB, "saved_bytes": saved_bytes,
            "waits_for": waits_for, "guards": guards}


@pytest.mark.parametrize(("given", "expected"), [
    (state(), ["prcl: pageout done on 3 MiB; may act"]),
    (state(OPEN, TRIAL, PSI_OFF),
     ["prcl: pageout done on 3 MiB; may act", "  open: swap, trial; off: psi (this kernel does not measure pressure)"]),
    (state(OPEN, saved_bytes=MIB, waits_for="free memory is above high"),
     ["prcl: pageout done on 3 MiB, 1 MiB saved; waits: free memory is above high", "  open: swap"]),
    (state(REFAULT, OPEN),
     ["prcl: pageout done on 3 MiB; may act", "  refault limits: 2 % of what was evicted came back", "  open: swap"]),
    (state(REFAULT, PSI, waits_for="some programs wait"),
     ["prcl: pageout done on 3 MiB; a guard stops it", "  refault limits: 2 % of what was evicted came back",
      "  psi stops: some programs wait"]),
])
def test_a_reason_is_said_once_and_each_guard_is_named(given, expected):
    assert list(state_lines(given)) == expected


def test_what_a_recording_tells_has_its_time():
    told = [(1_500_000_000, state()), (12_000_000_000, state(PSI))]
    assert list(states_text(told, 500_000_000)) == [
        "      1.0 s  prcl: pageout done on 3 MiB; may act",
        "     11.5 s  prcl: pageout done on 3 MiB; a guard stops it", "               psi stops: some programs wait"]
    assert [one["since_s"] for one in states_json(told, 500_000_000)] == [1.0, 11.5]
