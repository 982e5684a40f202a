# SPDX-License-Identifier: GPL-2.0-only
"""The heatmap as PNG or SVG, by matplotlib: time to the right, addresses downwards, mapping names at the side."""

from __future__ import annotations

import io
import warnings

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

from pagepulse.report.folding import Group
from pagepulse.report.heat import Heat, shade
from pagepulse.report.words import shortened
from pagepulse.units import format_size, format_time_ns

COLOURS = "inferno"
UNKNOWN_COLOUR = "#c9ccd1"
_SHARES = (0, 0.001, 0.01, 0.05, 0.2, 0.5, 1)
_NAME_WIDTH = 28


def colour_map() -> Colormap:
    """Dark for idle, bright for hot, grey for what is not known."""
    return mpl.colormaps[COLOURS].with_extremes(bad=UNKNOWN_COLOUR)


def picture(heat: Heat, title: str, file_format: str) -> bytes:
    """A file of this format (`png`, `svg`).

    Args:
        heat: What to draw.
        title: What was watched.
        file_format: As matplotlib names it.
    """
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(heat.touched_share.T, aspect="auto", interpolation="nearest", cmap=colour_map(),
                        norm=PowerNorm(1 / 3, 0, 1),
                        extent=(0, (heat.end_ns - heat.start_ns) / 1e9, heat.folding.cells, 0))
    axes.set_title(shortened(title, 110), loc="left", fontsize=12, parse_math=False)
    _draw_times(axes)
    _draw_addresses(axes, heat)
    _draw_scale(figure, axes, image, heat)
    output = io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "pagepulse", "svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in scripts that the font lacks show as boxes
        figure.savefig(output, format=file_format, dpi=150, metadata={"Date": None} if file_format == "svg" else None)
    return output.getvalue()


def _draw_times(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 3, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_time_ns(seconds * 1e9) if seconds else "0"))
    axes.set_xlabel("time since the recording began")


def _draw_addresses(axes: Axes, heat: Heat) -> None:
    """Offsets into large mappings on the left, names on the right, a white line where addresses are folded away."""
    offsets: list[tuple[float, str]] = []
    end = None
    for group in heat.folding.groups:
        offsets += _offsets(group, heat.folding.cells)
        if end is not None:
            folded = group.start > end
            axes.axhline(group.first_cell, color="white", linewidth=2.5 if folded else 0.8)
            if folded:
                axes.text(1, group.first_cell, "≈", transform=axes.get_yaxis_transform(), ha="center", va="center",
                          fontsize=11, color="#444444")
        others = f" +{group.others} more" if group.others else ""
        axes.text(1.008, group.first_cell + group.cells / 2,
                  f"{shortened(group.name, _NAME_WIDTH)}{others}  {format_size(group.size_bytes)}",
                  transform=axes.get_yaxis_transform(), va="center", fontsize=8, parse_math=False)
        end = group.end
    axes.yaxis.set_major_locator(FixedLocator([cell for cell, _ in offsets]))
    axes.yaxis.set_major_formatter(FixedFormatter([label for _, label in offsets]))
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylabel("address (start of a mapping, then offset into it)")


def _offsets(group: Group, cells: int) -> list[tuple[float, str]]:
    """Where in a group there is room for ticks, and what they say: its start, then round offsets."""
    if group.cells < cells / 40:
        return []
    ticks: list[tuple[float, str]] = []
    room = group.cells * 16 // cells
    if room >= 1:
        step = 1 << max(int(np.ceil(np.log2(max(group.size_bytes / room, 4096)))), 12)
        ticks = [(group.first_cell + group.cells * offset / group.size_bytes, f"+{format_size(offset)}")
                 for offset in range(step, group.size_bytes - step // 3, step)]
    return [(group.first_cell, f"{group.start:#x}"), *ticks]


def _draw_scale(figure: Figure, axes: Axes, image: AxesImage, heat: Heat) -> None:
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.55, aspect=45, pad=0.02, anchor=(0, 1))
    bar.set_label(f"share of the memory there that was touched within {format_time_ns(heat.aggregation_ns)}")
    bar.set_ticks(list(_SHARES), labels=["idle", *(f"{100 * share:g} %" for share in _SHARES[1:])])
    bar.minorticks_off()
    figure.legend(handles=[Patch(facecolor=UNKNOWN_COLOUR, label="not mapped, not resident, or not known"),
                           Patch(facecolor="none", label="≈  addresses folded away; small mappings enlarged")],
                  loc="lower right", fontsize=8, frameon=False)


def pixels(heat: Heat) -> bytes:
    """The bare matrix as PNG: one pixel for each cell, addresses downwards."""
    from matplotlib.image import imsave  # noqa: PLC0415 it loads pillow, which only the page needs
    coloured = colour_map()(np.ma.masked_invalid(shade(heat.touched_share.T)), bytes=True)
    output = io.BytesIO()
    imsave(output, coloured, format="png")
    return output.getvalue()


def gradient(steps: int = 12) -> list[str]:
    """Colours of the scale from idle to hot, as CSS has them."""
    return [mpl.colors.to_hex(colour_map()(value)) for value in np.linspace(0, 1, steps)]
