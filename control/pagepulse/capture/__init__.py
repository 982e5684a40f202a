# SPDX-License-Identifier: GPL-2.0-only
"""Recordings: snapshots on disk. Append-only, versioned, self-describing.

A recording is a preamble (magic, version) and chunks: kind, length, CRC-32, payload. `HEAD` comes first and describes
the rest, `MAPS` names the mappings when they change, `SNAP` is a snapshot by itself, `DIFF` one that builds on the
snapshot before it, `EVNT` an event, `DONE` the summary and the end. What was written stays as it is, so a recorder that
is killed leaves every finished snapshot readable. What is rounded, and how far, `codec` says.

A recording for weeks is a series of such files (`series`), each a recording by itself; those that have ended are packed
(`packed`), and `recordings` reads them all as one.
"""

from pagepulse.capture.codec import VERSION, quantised
from pagepulse.capture.recorder import Recorder, check_new
from pagepulse.capture.recording import Event, Recording
from pagepulse.capture.recordings import Recordings, TimeRange, When
from pagepulse.capture.series import NEVER, Holding, Rotation, Series

__all__ = ["NEVER", "VERSION", "Event", "Holding", "Recorder", "Recording", "Recordings", "Rotation", "Series",
           "TimeRange", "When", "check_new", "quantised"]
