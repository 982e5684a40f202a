# SPDX-License-Identifier: GPL-2.0-only
"""One HTML page with everything in it: heatmap, working set, idle memory, costs. It loads nothing from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from html import escape
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

from pagepulse.report.heat import Heat, Matrix
from pagepulse.report.overview import Overview
from pagepulse.report.page_parts import SCRIPT, SKELETON, STYLE
from pagepulse.report.picture import UNKNOWN_COLOUR, gradient, pixels
from pagepulse.report.totals import costs_text, idle_rows, wss_percentiles
from pagepulse.report.words import counted, not_watched, plain, shortened
from pagepulse.units import format_size, format_time_ns

_CURVE_POINTS = 600
_CURVE_WIDTH, _CURVE_HEIGHT = 1000, 180


def page(heat: Heat, summed: Overview, title: str) -> str:
    """The page. Names come from the target: every one is escaped, and the page may load and send nothing.

    Args:
        heat: The heatmap; what the pointer shows is its matrix.
        summed: The same recording in numbers.
        title: What was watched.
    """
    newest = summed.last
    interval = format_time_ns(summed.aggregation_ns)
    facts = (f"{format_size(newest.rss_bytes)} resident; {counted(summed.snapshots, 'snapshot')} over "
             f"{format_time_ns(summed.duration_ns)}, one each {interval}")
    doubts = [*costs_text(summed), *not_watched(newest)]
    return Template(SKELETON).substitute(
        style=STYLE, script=SCRIPT, title=_text(title), facts=_text(facts), interval=_text(interval),
        unknown=UNKNOWN_COLOUR, gradient=", ".join(gradient()), image=_base64(pixels(heat)),
        groups="".join(_groups(heat)), times="".join(_times(heat)), data=_script_json(_hover_data(heat)),
        percentiles=_table((f"{percentile} %", format_size(size_bytes))
                           for percentile, size_bytes in wss_percentiles(summed).items()),
        curve=_curve(summed), top=_text(format_size(float(summed.wss_bytes.max()))),
        duration=_text(format_time_ns(summed.duration_ns)),
        idle=_table(idle_rows(newest, summed.duration_ns)), doubts="".join(f"<li>{_text(line)}" for line in doubts))


def _text(text: str) -> str:
    return escape(plain(text))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "".join("<tr>" + "".join(f"<td>{_text(cell)}" for cell in row) for row in rows)


def _groups(heat: Heat) -> Iterator[str]:
    """Names at the side, and a white line where addresses are folded away."""
    end = None
    for group in heat.folding.groups:
        top, middle = (100 * cell / heat.folding.cells for cell in
                       (group.first_cell, group.first_cell + group.cells / 2))
        if end is not None:
            yield f'<i class="{"fold" if group.start > end else "seam"}" style="top:{top:.3f}%"></i>'
        others = f" +{group.others} more" if group.others else ""
        yield (f'<span class="name" style="top:{middle:.3f}%" title="{_text(group.name)}">'
               f"{_text(shortened(group.name, 28))}{others} <b>{_text(format_size(group.size_bytes))}</b></span>")
        yield f'<span class="at" style="top:{top:.3f}%">{group.start:#x}</span>'
        end = group.end


def _times(heat: Heat) -> Iterator[str]:
    for quarter in range(5):
        time_ns = (heat.end_ns - heat.start_ns) * quarter / 4
        label = format_time_ns(time_ns) if quarter else "0"
        yield f'<span style="left:{25 * quarter}%">{_text(label)}</span>'


def _hover_data(heat: Heat) -> dict[str, Any]:
    """What the script needs to say what is under the pointer."""
    axis = heat.folding
    return {"rows": heat.rows, "cells": axis.cells, "row_ns": heat.row_ns,
            "share": _base64(_halves(heat.touched_share)), "rate": _base64(_halves(heat.rate_hz)),
            "address": [hex(axis.address_of(cell)) for cell in range(axis.cells)],
            "groups": [[group.first_cell, plain(group.name), group.others] for group in axis.groups]}


def _halves(matrix: Matrix) -> bytes:
    """Two bytes a number: the upper half of a 32-bit float, rounded. NaN stays NaN."""
    words = matrix.astype("<f4").view("<u4")
    halves: npt.NDArray[np.uint16] = ((words + np.uint32(0x8000)) >> np.uint32(16)).astype("<u2")
    return halves.tobytes()


def _curve(summed: Overview) -> str:
    """Points of the working set's curve: the highest value of each step, so that no peak is lost."""
    steps = min(_CURVE_POINTS, summed.snapshots)
    firsts = np.arange(steps) * summed.snapshots // steps
    highest = np.maximum.reduceat(summed.wss_bytes, firsts)
    times = (summed.times_ns[firsts] - summed.start_ns) / summed.duration_ns
    top = max(int(highest.max()), 1)
    return " ".join(f"{x * _CURVE_WIDTH:.1f},{_CURVE_HEIGHT * (1 - y / top):.1f}"
                    for x, y in zip(times.tolist(), highest.tolist(), strict=True))
