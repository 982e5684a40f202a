# SPDX-License-Identifier: GPL-2.0-only
"""What became of a scheme, as `run` reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SchemeResult:
    """What a scheme tried and what was seen to happen. Results of several passes add up."""

    name: str
    action: str
    tried_bytes: int = 0
    """What the action was called for; for stat, what is resident of the matching regions."""
    applied_bytes: int = 0
    """What was seen to change afterwards, whatever the calls returned."""
    calls: int = 0
    errors: int = 0
    """Calls that the kernel refused."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Bytes on which the action had no effect, by reason. With applied_bytes they make up tried_bytes."""
    saved_bytes: int = 0
    """Resident memory of matching regions that was left alone because it is in use after all: what acting on regions
    as a whole would have taken. A page counts once, however often it was left."""
    restored_bytes: int = 0
    """Went as huge pages, came back as small ones, and was made huge again."""

    def __add__(self, other: SchemeResult) -> SchemeResult:
        """Both together.

        Raises:
            ValueError: They belong to different schemes.
        """
        if (self.name, self.action) != (other.name, other.action):
            raise ValueError(f"results of {self.name} and {other.name} do not add up")
        reasons = {reason: self.reasons.get(reason, 0) + other.reasons.get(reason, 0)
                   for reason in (*self.reasons, *other.reasons)}
        return SchemeResult(self.name, self.action, self.tried_bytes + other.tried_bytes,
                            self.applied_bytes + other.applied_bytes, self.calls + other.calls,
                            self.errors + other.errors, reasons, self.saved_bytes + other.saved_bytes,
                            self.restored_bytes + other.restored_bytes)
