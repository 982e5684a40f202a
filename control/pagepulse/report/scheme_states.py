# SPDX-License-Identifier: GPL-2.0-only
"""What schemes are up to: as the live view shows it now, and as a recording tells it afterwards.

A state is what `run --json` says of one scheme: its result, why it waits, and what each of its guards says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pagepulse.units import format_size

State = Mapping[str, Any]


def state_lines(state: State) -> Iterator[str]:
    """One scheme: what it came to, whether it may act, the guards that hold it back, and then the others."""
    held = [guard for guard in state["guards"] if guard["stance"] in {"limits", "stops"}]
    is_stopped = any(guard["stance"] == "stops" for guard in held)
    may = "a guard stops it" if is_stopped else f"waits: {state['waits_for']}" if state["waits_for"] else "may act"
    saved = f", {format_size(state['saved_bytes'])} saved" if state["saved_bytes"] else ""
    yield f"{state['name']}: {state['action']} done on {format_size(state['applied_bytes'])}{saved}; {may}"
    for guard in held:
        yield f"  {guard['guard']} {guard['stance']}: {guard['reason']}"
    others = [_others(state["guards"], "open"), _others(state["guards"], "off")]
    if any(others):
        yield "  " + "; ".join(words for words in others if words)


def _others(guards: Iterable[Mapping[str, Any]], stance: str) -> str:
    """Those that have nothing against it, in one line: `off: psi (this kernel does not measure pressure), swap`."""
    words = [guard["guard"] + (f" ({guard['reason']})" if guard["reason"] else "")
             for guard in guards if guard["stance"] == stance]
    return f"{stance}: {', '.join(words)}" if words else ""


def states_text(states: Iterable[tuple[int, State]], origin_ns: int) -> Iterator[str]:
    """What a recording tells: a time and a state each, whenever it changed.

    Args:
        states: CLOCK_MONOTONIC, and the state from then on.
        origin_ns: What times count from.
    """
    for at_ns, state in states:
        first, *others = state_lines(state)
        yield f"{(at_ns - origin_ns) / 1e9:9.1f} s  {first}"
        yield from (f"{'':13}{line}" for line in others)


def states_json(states: Iterable[tuple[int, State]], origin_ns: int) -> list[dict[str, Any]]:
    """The same for programs."""
    return [{"since_s": round((at_ns - origin_ns) / 1e9, 3), **state} for at_ns, state in states]
