# SPDX-License-Identifier: GPL-2.0-only
"""The heatmap in a terminal: addresses downwards, time to the right, coloured where there are colours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

import numpy as np
from rich.text import Text

from pagepulse.report.folding import Group
from pagepulse.report.heat import Heat, shade
from pagepulse.report.words import percent, shortened
from pagepulse.units import format_size, format_time_ns

RAMP = ".:-=+*o#%@"
"""Characters from idle to hot, for terminals without colour; a blank is what is not known."""
COLOURS = ("#03051a", "#2a0c4a", "#56106e", "#821f6c", "#ad305d", "#d4493e", "#ee6a24", "#fb9b06", "#f6cf46", "#fcffa4")
UNKNOWN_COLOUR = "#808080"
_FOLD = "~"


def label_width(width: int) -> int:
    """How much of each line the mapping's name takes."""
    return max(min(26, width // 3), 8)


def heat_text(heat: Heat, width: int = 80) -> Iterator[Text]:
    """Line by line. The matrix should have as many rows as `time_columns(width)`.

    Args:
        heat: Its cells become lines, its rows become columns.
        width: Of the terminal.
    """
    left = label_width(width)
    levels = _levels(heat)
    yield Text(f"memory touched within {format_time_ns(heat.aggregation_ns)}, by address and time"[:width])
    end = None
    for group in heat.folding.groups:
        if end is not None and group.start > end:
            yield Text(" " * (left + 1) + _FOLD * heat.rows, style="dim")
        for line, label in enumerate(_labels(group, left)):
            yield _line(f"{label:<{left}} ", levels[:, group.first_cell + line])
        end = group.end
    yield from _time_axis(heat, left)
    yield from _legend(width)


def time_columns(width: int) -> int:
    """How many columns of time fit in a terminal of this width."""
    return max(width - label_width(width) - 1, 8)


def _levels(heat: Heat) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Shape (rows, cells): index into RAMP and COLOURS; -1 is not known."""
    share = heat.touched_share
    known = np.nan_to_num(share)
    levels = np.ceil(shade(known) * (len(RAMP) - 1)).astype(np.int64)
    return np.where(np.isnan(share), -1, np.where(known < 1e-4, 0, levels))


def _line(label: str, levels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Text:
    line = Text(label, no_wrap=True)
    for level, run in groupby(levels.tolist()):
        character, style = _cell(level)
        line.append(character * len(list(run)), style)
    return line


def _cell(level: int) -> tuple[str, str]:
    """Character and style: in colour the character is drawn in its background's colour, and not seen."""
    colour = COLOURS[level] if level >= 0 else UNKNOWN_COLOUR
    return RAMP[level] if level >= 0 else " ", f"{colour} on {colour}"


def _labels(group: Group, width: int) -> Iterator[str]:
    """One for each of the group's lines: its name and size, then how far into it the line lies."""
    size = format_size(group.size_bytes)
    more = f" +{group.others}" if group.others else ""
    name = shortened(group.name, width - len(more))
    if group.cells == 1 and width >= 20:
        yield f"{shortened(group.name, width - len(more) - len(size) - 1)}{more} {size}"
    else:
        yield name + more
    for line in range(1, group.cells):
        if line == 1:
            yield f"  {size}"
        elif line % 4 == 0:
            yield f"  +{format_size(group.size_bytes * line / group.cells)}"[:width]
        else:
            yield ""


def _time_axis(heat: Heat, left: int) -> Iterator[Text]:
    step = max(heat.rows // 4, 12)
    marks, labels = "", ""
    for column in range(0, heat.rows, step):
        label = format_time_ns(column * heat.row_ns) if column else "0 s"
        if column + len(label) <= heat.rows:
            marks = f"{marks:<{column}}|"
            labels = f"{labels:<{column}}{label}"
    yield Text(f"{'time':>{left}} {marks}", no_wrap=True)
    yield Text(f"{'':>{left}} {labels}", no_wrap=True)


def _legend(width: int) -> Iterator[Text]:
    """What each character and colour means, wrapped to the width."""
    entries = [(level, f"<={percent(math.pow(level / (len(RAMP) - 1), 3), 1)}" if level else "idle")
               for level in (0, 1, 2, 4, 6, 8, 9)]
    line = Text(no_wrap=True)
    for level, meaning in [*entries, (-1, "not known or not there")]:
        if line.cell_len + len(meaning) + 4 > width:
            yield line
            line = Text(no_wrap=True)
        line.append("[")
        line.append(*_cell(level))
        line.append(f"]{meaning} ")
    line.append("~ fold" if line.cell_len + 6 <= width else "")
    yield line
