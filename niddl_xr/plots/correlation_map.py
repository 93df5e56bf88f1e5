"""The verb plot_correlation_map: one neuron's correlation with bending along the body and over lags."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.plots._style import FONT_SIZES, MARK_COLOUR, TOOLS, load_backend, palette_colours
from niddl_xr.schema import NiddlError

MAP_DIMS = ("neuron", "s", "lag")


def plot_correlation_map(
    correlation: xr.DataArray, *, neuron: object = None, largest: float | None = None, width_px: int = 420
) -> hv.Overlay:
    """Draw where along the body, and at which lag, bending goes with the activity of a neuron.

    Parameters
    ----------
    correlation
        Of :func:`niddl_xr.correlation_map`, dims (neuron, s, lag) in any order. NaN is transparent.
    neuron
        Its label; None for the first.
    largest
        Correlation at the ends of the colours, which are white at 0; None for the largest |r| of this neuron.
    width_px
        Width of the picture, in pixels; its height is three quarters of that.

    Returns
    -------
    holoviews.Overlay
        The map, lag to the right and the body downwards from the head, a dotted line at lag 0, and a ring at the
        neuron's own place, where the map knows it (coordinate ``body_position``).

    Raises
    ------
    NiddlError
        For other dims, a neuron that is not there, a map without any number, and ``largest`` not above 0.

    Examples
    --------
    >>> plot_correlation_map(nx.correlation_map(traces, posture), neuron="VB4")  # doctest: +SKIP
    """
    if not isinstance(correlation, xr.DataArray) or set(correlation.dims) != set(MAP_DIMS):
        got = correlation.dims if isinstance(correlation, xr.DataArray) else type(correlation).__name__
        raise NiddlError(f"expected a map with dims {MAP_DIMS}, got {got}; see niddl_xr.correlation_map")
    names = correlation["neuron"].values.tolist()
    chosen = names[0] if neuron is None else neuron
    if chosen not in names:
        raise NiddlError(f"the map has no neuron {chosen!r}; its neurons are {names}")
    one = correlation.sel(neuron=chosen).transpose("s", "lag")
    values = one.values.astype(float)
    if not np.isfinite(values).any():
        raise NiddlError(f"expected a correlation, got NaN alone for {chosen}: look at its trace")
    limit = float(np.nanmax(np.abs(values))) if largest is None else float(largest)
    if not limit > 0:
        raise NiddlError(f"expected largest above 0, the correlation at the ends of the colours, got {limit:g}")
    load_backend()
    lag = hv.Dimension("lag", label="lag", unit="s")
    place = hv.Dimension("s", label="place along the body (0 is the head)")
    picture = hv.Image((one["lag"].values, one["s"].values, values), [lag, place], hv.Dimension("r"))
    picture = picture.opts(
        cmap=palette_colours("difference"),
        clim=(-limit, limit),
        colorbar=True,
        clabel="r",
        invert_yaxis=True,
        frame_width=width_px,
        frame_height=round(0.75 * width_px),
        title=_title(one, chosen),
        fontsize=FONT_SIZES,
        xlabel="lag (s), above 0 activity precedes bending",
        **TOOLS,
        backend="bokeh",
    )
    now = hv.VLine(0.0).opts(color="black", line_width=1, line_dash="dotted", backend="bokeh")
    drawn = [picture, now]
    if "body_position" in one.coords and np.isfinite(one["body_position"]):
        ring = hv.Points([(0.0, float(one["body_position"]))], [lag, place])
        drawn.append(ring.opts(color=MARK_COLOUR, fill_alpha=0, size=12, line_width=2, backend="bokeh"))
    return hv.Overlay(drawn)


def _title(one: xr.DataArray, neuron: object) -> str:
    if "p" not in one.coords or not np.isfinite(one["p"]):
        return f"{neuron}"
    p = float(one["p"])
    return f"{neuron}, p < 0.001" if p < 0.001 else f"{neuron}, p = {p:.2g}"
