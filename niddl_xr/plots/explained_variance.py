"""The verb plot_explained_variance: what each mode explains, beside what chance does."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.neurons import require_population
from niddl_xr.plots._style import FONT_SIZES, GRID, LINE_COLOURS, MARK_COLOUR, TOOLS, load_backend
from niddl_xr.schema import NiddlError

SIGNIFICANT_COLOUR = "#0072B2"
_HALF_BAR = 0.36


def plot_explained_variance(
    population: xr.Dataset, *, modes: int | None = None, width_px: int = 420, height_px: int = 280
) -> hv.Overlay:
    """Draw the part of the variance that each mode explains.

    Parameters
    ----------
    population
        See :func:`niddl_xr.pca`.
    modes
        How many modes, from the first; None for all.
    width_px, height_px
        Size of the picture on the screen, in pixels.

    Returns
    -------
    holoviews.Overlay
        Bars in per cent, blue where the mode and all before it are ``significant`` (chance gives less in 99 of 100
        cases), grey where not or where that was not asked. The line is what chance exceeds once in twenty times; the
        points the part of the variance without noise, where the population has it.

    Raises
    ------
    NiddlError
        For something else than a population, and fewer modes than one.

    Examples
    --------
    >>> plot_explained_variance(niddl_xr.pca(traces))  # doctest: +SKIP
    """
    population = require_population(population)
    if modes is not None and (isinstance(modes, bool) or not isinstance(modes, int | np.integer) or modes < 1):
        raise NiddlError(f"expected modes as a whole number of 1 or more, or None, got {modes!r}")
    population = population.isel(mode=slice(modes))
    load_backend()
    places = population["mode"].values if "mode" in population.coords else np.arange(population.sizes["mode"]) + 1
    explained = 100 * population["explained"].values
    tested = "significant" in population
    above = population["significant"].values.astype(bool) if tested else np.zeros(len(places), bool)
    below = "not significant" if tested else "explained"
    mode = hv.Dimension("mode")
    part = hv.Dimension("part", label="explained variance", unit="%")
    edges = (places[:, None] + [-_HALF_BAR, _HALF_BAR]).ravel()
    drawn: list[hv.Element] = []
    for chosen, name, colour in ((above, "significant", SIGNIFICANT_COLOUR), (~above, below, LINE_COLOURS[0])):
        if chosen.any():
            heights = np.zeros(2 * len(places) - 1)  # a bar of a mode, a gap, and so on
            heights[::2] = np.where(chosen, explained, 0.0)
            bar = hv.Histogram((edges, heights), kdims=[mode], vdims=[part], label=name)
            drawn.append(bar.opts(fill_color=colour, line_color=None, **TOOLS, backend="bokeh"))
    if "explained_null" in population and population["explained_null"].notnull().any():
        level = hv.Curve(
            (places, 100 * population["explained_null"].values), mode, part, label="chance, 95th percentile"
        )
        drawn.append(level.opts(color="black", line_dash="dashed", line_width=1.5, **TOOLS, backend="bokeh"))
    if "explained_signal" in population and population["explained_signal"].notnull().any():
        signal = hv.Scatter((places, 100 * population["explained_signal"].values), mode, part, label="without noise")
        drawn.append(signal.opts(color=MARK_COLOUR, size=8, line_color="white", **TOOLS, backend="bokeh"))
    return hv.Overlay(drawn).opts(
        frame_width=width_px,
        frame_height=height_px,
        xticks=places.tolist(),
        xlim=(float(places[0]) - 0.7, float(places[-1]) + 0.7),
        xlabel="mode",
        ylabel="explained variance (%)",
        legend_position="top_right",
        show_legend=True,
        fontsize=FONT_SIZES,
        backend="bokeh",
        **GRID,
        **TOOLS,
    )
