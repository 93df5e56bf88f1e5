"""Draws one plane: true to the voxel sizes, first row on top, with a scale bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.plots._planes import Extent, number, unit_of
from niddl_xr.plots._style import FONT_SIZES, TOOLS, palette_colours
from niddl_xr.schema import NiddlError

SHORTEST_EDGE_PX = 40  # a line of pixels, too, is something to see
BAR_FRACTION = 0.25  # of the width, at most


@dataclass(frozen=True)
class Canvas:
    """The frame on the screen that a plane is drawn into: its size in screen pixels and the coordinates it spans.

    One unit is as long along x as along y. A plane that is much longer than wide gets an empty margin, so that
    neither edge vanishes.
    """

    extent: Extent
    width_px: int
    height_px: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @classmethod
    def around(cls, extent: Extent, edge_px: int) -> Canvas:
        """Fit an extent into a square of ``edge_px`` screen pixels."""
        if edge_px < SHORTEST_EDGE_PX:
            raise NiddlError(f"expected edge_px of at least {SHORTEST_EDGE_PX} screen pixels, got {edge_px}")
        unit_px = edge_px / max(extent.width, extent.height)
        width_px, height_px = extent.width * unit_px, extent.height * unit_px
        x_margin = max(0.0, SHORTEST_EDGE_PX - width_px) / unit_px / 2
        y_margin = max(0.0, SHORTEST_EDGE_PX - height_px) / unit_px / 2
        return cls(
            extent,
            max(SHORTEST_EDGE_PX, round(width_px)),
            max(SHORTEST_EDGE_PX, round(height_px)),
            (extent.left - x_margin, extent.right + x_margin),
            (extent.top - y_margin, extent.bottom + y_margin),
        )

    def options(self) -> dict[str, Any]:
        """Return the plot options that put an element into this frame."""
        return {
            "frame_width": self.width_px,
            "frame_height": self.height_px,
            "xlim": self.x_range,
            "ylim": self.y_range,
            "invert_yaxis": True,
            "xticks": 5 if self.width_px >= 150 else 2,
            "yticks": 5 if self.height_px >= 150 else 2,
            "fontsize": FONT_SIZES,
            "toolbar": "above",
            **TOOLS,
        }


def axes_of(plane: xr.DataArray, prefix: str = "") -> list[hv.Dimension]:
    """Return the axes x and y with their units; holoviews links axes of one name, so another prefix is another link."""
    return [hv.Dimension(f"{prefix}{dim}", unit=unit_of(plane, dim)) for dim in ("x", "y")]


def upright(plane: xr.DataArray) -> xr.DataArray:
    """Return a plane (y, x) with increasing coordinates."""
    for dim in ("y", "x"):
        values = plane[dim].values
        if len(values) > 1 and values[-1] < values[0]:
            plane = plane.isel({dim: slice(None, None, -1)})
    return plane


def draw_plane(
    plane: xr.DataArray,
    *,
    canvas: Canvas,
    limits: tuple[float, float],
    palette: str,
    title: str,
    prefix: str = "",
    colorbar: bool = False,
) -> hv.Image:
    """Draw a loaded plane (y, x) with increasing coordinates; pixels keep their dtype, NaN stays empty."""
    extent = canvas.extent
    values = plane.values
    if values.dtype.itemsize > 4:
        values = values.astype(np.float32)
    bounds = (extent.left, extent.top, extent.right, extent.bottom)
    # holoviews puts the first row at the upper end of y; with the axis turned over, row 0 is on top.
    image = hv.Image(values[::-1], kdims=axes_of(plane, prefix), vdims=[hv.Dimension("counts")], bounds=bounds)
    return image.opts(
        **canvas.options(),
        cmap=palette_colours(palette),
        clim=limits,
        title=title,
        xlabel=f"x ({unit_of(plane, 'x')})",
        ylabel=f"y ({unit_of(plane, 'y')})",
        colorbar=colorbar,
        clabel="",
        colorbar_opts={"width": 10, "padding": 2} if colorbar else {},
        tools=["hover"],
        backend="bokeh",
    )


def bar_length_um(width_um: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20, … µm (or a tenth, a hundredth, …) that fits a quarter of the width."""
    longest = width_um * BAR_FRACTION
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))


def draw_scale_bar(
    plane: xr.DataArray, *, canvas: Canvas, scale_bar_um: float | None, palette: str, prefix: str = ""
) -> hv.Overlay | None:
    """Draw a scale bar into the lower right corner; None where there is none to draw.

    ``scale_bar_um`` None chooses a round length, and no bar where x is not in µm; 0 is no bar.
    """
    in_um = unit_of(plane, "x") == "µm"
    if scale_bar_um == 0 or (scale_bar_um is None and (not in_um or plane.sizes["x"] == 1)):
        return None
    if not in_um:
        raise NiddlError(
            f"expected a recording in µm for a scale bar of {scale_bar_um} µm, its x is in {unit_of(plane, 'x')}; "
            "set voxel_um= where it is opened, or scale_bar_um=0"
        )
    extent = canvas.extent
    length = bar_length_um(extent.width) if scale_bar_um is None else float(scale_bar_um)
    if not 0 < length <= extent.width:
        raise NiddlError(
            f"expected scale_bar_um from 0 to the width of the picture, {number(extent.width)} µm, got {scale_bar_um}"
        )
    axes = axes_of(plane, prefix)
    right = extent.right - min(0.04 * extent.width, extent.width - length)
    level = extent.bottom - 0.05 * extent.height
    colour, ground = ("black", "white") if palette == "difference" else ("white", "black")
    margin = min(0.02 * extent.width, (extent.width - length) / 2)
    corners = (right - length - margin, level - 0.1 * extent.height, right + margin, level + 0.03 * extent.height)
    # Behind the bar, so that it can be read on bright cells too.
    veil = hv.Rectangles([corners]).opts(color=ground, fill_alpha=0.45, line_alpha=0, **TOOLS, backend="bokeh")
    bar = hv.Path([[(right - length, level), (right, level)]], kdims=axes).opts(
        color=colour, line_width=3, **TOOLS, backend="bokeh"
    )
    above = level - 0.015 * extent.height
    label = hv.Labels([(right - length / 2, above, f"{length:g} µm")], kdims=axes, vdims="label").opts(
        text_color=colour, text_font_size="9pt", text_baseline="bottom", **TOOLS, backend="bokeh"
    )
    return veil * bar * label
