"""The pictures of the experiments: means as lines, units as boxes, a matrix."""

from __future__ import annotations

from itertools import product
from typing import Any

import holoviews as hv
import pandas as pd
from bokeh.palettes import interp_palette

from niddl_xr.plots._style import FONT_SIZES, GRID, LINE_COLOURS, load_backend

WIDTH_PX, HEIGHT_PX = 420, 320


def lines(
    table: pd.DataFrame, x: str, value: str, *, by: str = "method", xlabel: str, ylabel: str, title: str = ""
) -> hv.Overlay:
    """Draw the mean of ``value`` over units against ``x``, on a logarithmic axis, a line for each of ``by``."""
    load_backend()
    drawn = []
    for number, (name, group) in enumerate(table.groupby(by, sort=False)):
        mean = group.groupby(x)[value].mean().reset_index()
        look = {"color": LINE_COLOURS[number % len(LINE_COLOURS)], "backend": "bokeh"}
        dash = "solid" if number < len(LINE_COLOURS) else "dashed"
        curve = hv.Curve(mean, x, value, label=str(name)).opts(line_width=2, line_dash=dash, tools=["hover"], **look)
        drawn.append((curve, hv.Scatter(mean, x, value, label=str(name)).opts(size=6, **look)))
    return hv.Overlay([element for pair in drawn for element in pair]).opts(
        width=WIDTH_PX + 180,
        height=HEIGHT_PX,
        logx=True,
        xticks=sorted(table[x].dropna().unique().tolist()),
        xlabel=xlabel,
        ylabel=ylabel,
        title=title,
        legend_position="right",
        fontsize=FONT_SIZES,
        **GRID,
        backend="bokeh",
    )


def boxes(table: pd.DataFrame, by: tuple[str, str], value: str, *, ylabel: str, title: str = "") -> hv.BoxWhisker:
    """Draw the distribution of ``value`` over units, a box for each second of ``by`` within each of the first."""
    load_backend()
    there = set(zip(*(table[name] for name in by), strict=True))
    factors = [pair for pair in product(*(table[name].unique() for name in by)) if pair in there]

    def in_order(plot: Any, element: hv.Element) -> None:
        plot.handles["x_range"].factors = factors  # holoviews sorts them by name

    return hv.BoxWhisker(table, list(by), value).opts(
        width=max(WIDTH_PX, 40 * len(factors)),
        height=HEIGHT_PX + 120,
        ylabel=ylabel,
        xlabel="",
        xrotation=60,
        title=title,
        box_fill_color=LINE_COLOURS[6],
        hooks=[in_order],
        fontsize=FONT_SIZES,
        **GRID,
        backend="bokeh",
    )


def matrix(table: pd.DataFrame, x: str, y: str, value: str, *, title: str = "") -> hv.Overlay:
    """Draw the mean of ``value`` as a matrix, with its numbers; rows in the order of the table."""
    load_backend()
    mean = table.groupby([x, y], sort=False)[value].mean().reset_index()
    mean["text"] = mean[value].map("{:.1f}".format)
    heat = hv.HeatMap(mean, [x, y], value).opts(
        width=WIDTH_PX + 240,
        height=HEIGHT_PX + 60,
        cmap=list(interp_palette(("#FFFFFF", LINE_COLOURS[5]), 64)),  # pale: the numbers stay readable
        colorbar=True,
        xrotation=40,
        invert_yaxis=True,
        title=title,
        fontsize=FONT_SIZES,
        backend="bokeh",
    )
    return heat * hv.Labels(mean, [x, y], "text").opts(text_font_size="9pt", text_color="black", backend="bokeh")
