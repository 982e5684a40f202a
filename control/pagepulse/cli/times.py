# SPDX-License-Identifier: GPL-2.0-only
"""Times as `journalctl` takes them: on the wall's clock, or so long ago; and since the beginning of a recording."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta

from pagepulse.capture import When
from pagepulse.units import parse_time_ns

EXPECTED = ("2026-11-23 14:05, 14:05:30, today, yesterday, now, -90m or 2h ago, "
            "or +10s after the recording's beginning")


def parse_when(text: str, now: datetime | None = None) -> When:
    """What a user wrote.

    Args:
        text: For instance `yesterday` or `-1h`.
        now: With a time zone; None: now.

    Raises:
        ValueError: It is no time.
    """
    now = now or datetime.now().astimezone()
    text = text.strip()
    if text.startswith("+"):
        return When(from_begin_ns=parse_time_ns(text[1:]))
    if text.startswith("-") or text.endswith(" ago"):
        return When(_wall_ns(now) - parse_time_ns(text.removeprefix("-").removesuffix(" ago")))
    if text.startswith("@"):
        return When(int(float(text[1:]) * 1e9))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    return When(_wall_ns(named[text] if text in named else _written(text, midnight)))


def _written(text: str, midnight: datetime) -> datetime:
    """A date, a time of today, or both."""
    is_time_of_day = ":" in text and "-" not in text
    written = datetime.fromisoformat(f"{midnight:%Y-%m-%d} {text}" if is_time_of_day else text)
    return written if written.tzinfo else written.astimezone()


def _wall_ns(when: datetime) -> int:
    seconds = int(when.timestamp())
    return seconds * 1_000_000_000 + when.microsecond * 1000


def when(text: str) -> When:
    """For argparse."""
    try:
        return parse_when(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"expected {EXPECTED}, got {text!r}") from None
