# SPDX-License-Identifier: GPL-2.0-only
"""The heatmap as JSON, for other programs to draw."""

from __future__ import annotations

from typing import Any

from pagepulse.report.heat import Heat, Matrix
from pagepulse.report.words import number


def heat_json(heat: Heat) -> dict[str, Any]:
    """Times, the address axis, and one list for each step of time; null is what is not known.

    `cells[i]` holds the first address of cell i of the axis, which goes on to the first address of the next cell or
    to the end of its group.
    """
    axis = heat.folding
    return {
        "start_ns": heat.start_ns, "end_ns": heat.end_ns, "aggregation_us": number(heat.aggregation_ns / 1000),
        "groups": [{"mapping": group.name, "others": group.others, "start": group.start, "end": group.end,
                    "size_bytes": group.size_bytes, "first_cell": group.first_cell, "cells": group.cells}
                   for group in axis.groups],
        "cells": [axis.address_of(cell) for cell in range(axis.cells)],
        "touched_share": _rows(heat.touched_share), "rate_hz": _rows(heat.rate_hz)}


def _rows(matrix: Matrix) -> list[list[float | None]]:
    return [[number(value) for value in row] for row in matrix.tolist()]
