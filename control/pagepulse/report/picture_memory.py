# SPDX-License-Identifier: GPL-2.0-only
"""A run of schemes as a picture: what is resident, what is swapped, and what was given back, over time."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pagepulse.report.before_after import Point
from pagepulse.report.words import shortened
from pagepulse.units import format_size, format_time_ns

_COLOURS = {"resident": "#3b4cc0", "swapped": "#b40426", "given back": "#5aa469"}


def memory_picture(points: Sequence[Point], title: str, file_format: str) -> bytes:
    """A file of this format (`png`, `svg`).

    Args:
        points: At least one, in the order of time.
        title: What was treated.
        file_format: As matplotlib names it.
    """
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    axes = figure.subplots()
    seconds = np.array([point.since_ns for point in points]) / 1e9
    given_back = [point.given_back_bytes for point in points]
    axes.fill_between(seconds, given_back, color=_COLOURS["given back"], alpha=0.35, linewidth=0)
    for name, sizes in (("resident", [point.rss_bytes for point in points]), ("given back", given_back),
                        ("swapped", [point.swap_bytes for point in points])):
        axes.plot(seconds, sizes, color=_COLOURS[name], linewidth=1.8, label=name,
                  linestyle="--" if name == "swapped" else "-")  # it may lie upon what was given back
    axes.set_title(shortened(title, 110), loc="left", fontsize=12, parse_math=False)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(float(seconds[-1]), 1e-3))
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 3, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_time_ns(value * 1e9) if value else "0"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_size(int(value))))
    axes.set_xlabel("time since the run began")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.legend(loc="best", framealpha=0.9)
    output = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "pagepulse", "svg.fonttype": "none"}):
        figure.savefig(output, format=file_format, dpi=150, metadata={"Date": None} if file_format == "svg" else None)
    return output.getvalue()
