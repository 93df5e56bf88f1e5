"""The verb plot_traces: the same neurons as several recordings show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import holoviews as hv
import xarray as xr

from niddl_xr.plots._planes import unit_of
from niddl_xr.plots._style import FONT_SIZES, LINE_COLOURS, TOOLS, load_backend
from niddl_xr.schema import NiddlError

TRACE_DIMS = ("t", "neuron")
MOST_ROWS = 6


Traces = xr.DataArray | xr.Dataset
BAND_ALPHA = 0.25


def plot_traces(
    traces: Traces | Mapping[str, Traces],
    *,
    neurons: Sequence[object] | None = None,
    width_px: int = 760,
    row_px: int = 110,
) -> hv.Layout:
    """Draw traces, a row for each neuron, with those of several recordings in one row.

    Parameters
    ----------
    traces
        Dims (t, neuron) in any order; or the Dataset of :func:`niddl_xr.dff`, whose ``dff`` is drawn within its 90 %
        band (of other Datasets ``F``); or a mapping of names to either, drawn in this order, the first one in grey. NaN
        is a gap.
    neurons
        Labels of the neurons to draw; None for the first six.
    width_px, row_px
        Size of a row on the screen, in pixels.

    Returns
    -------
    holoviews.Layout
        Rows with one linked time axis, in s where known. Each has its own range of counts.

    Raises
    ------
    NiddlError
        For other dims, or neurons that are not there.

    Examples
    --------
    >>> plot_traces({"raw": raw_traces, "denoised": clean_traces}, neurons=["AVAL", "RIML"])  # doctest: +SKIP
    """
    given = {"": traces} if isinstance(traces, xr.DataArray | xr.Dataset) else {str(k): v for k, v in traces.items()}
    if not given:
        raise NiddlError(f"expected traces with dims {TRACE_DIMS} or a mapping of names to such, got an empty mapping")
    named = {name: _curve_of(name, trace) for name, trace in given.items()}
    bands = {name: trace for name, trace in given.items() if isinstance(trace, xr.Dataset) and _has_band(trace)}
    first = next(iter(named.values()))
    chosen = first["neuron"].values[:MOST_ROWS].tolist() if neurons is None else list(neurons)
    for name, trace in named.items():
        if missing := [label for label in chosen if label not in trace["neuron"].values.tolist()]:
            raise NiddlError(f"traces {name} have no neuron {missing}; theirs are {trace['neuron'].values.tolist()}")
    load_backend()
    rows = [_row(named, bands, label, is_last=label == chosen[-1]) for label in chosen]
    shared = {
        "frame_width": width_px,
        "show_legend": False,
        "padding": (0.0, 0.08),
        "fontsize": FONT_SIZES,
        "yticks": 3,
        **TOOLS,
    }
    drawn = [row.opts(**shared, frame_height=row_px, backend="bokeh") for row in rows]
    drawn[0].opts(show_legend=len(named) > 1, legend_position="right", backend="bokeh")
    return hv.Layout(drawn).cols(1).opts(merge_tools=True, toolbar="right", backend="bokeh")


def _curve_of(name: str, traces: Traces) -> xr.DataArray:
    """Return the traces to draw: of a Dataset dF/F, or F where there is none."""
    trace: object = traces
    if isinstance(traces, xr.Dataset):
        trace = next((traces[variable] for variable in ("dff", "F") if variable in traces), traces)
    if not isinstance(trace, xr.DataArray) or set(trace.dims) != set(TRACE_DIMS):
        got = trace.dims if isinstance(trace, xr.DataArray) else f"{type(trace).__name__} without dff and F"
        raise NiddlError(f"expected traces {name} with dims {TRACE_DIMS}, got {got}; choose one variable")
    return trace


def _has_band(traces: xr.Dataset) -> bool:
    return {"dff", "dff_lo", "dff_hi"} <= set(traces.data_vars)


def _row(
    named: Mapping[str, xr.DataArray], bands: Mapping[str, xr.Dataset], neuron: object, *, is_last: bool
) -> hv.Overlay:
    drawn = []
    for index, (name, trace) in enumerate(named.items()):
        time = hv.Dimension("t", label="time", unit=unit_of(trace, "t"))
        # Every row its own name of the value, else holoviews links the ranges of all rows.
        value = hv.Dimension((f"value_{neuron}", f"{neuron}"), unit=trace.attrs.get("units"))
        values = trace.sel(neuron=neuron).compute()
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        if name in bands:
            lower, upper = (bands[name][edge].sel(neuron=neuron).values for edge in ("dff_lo", "dff_hi"))
            above = hv.Dimension(f"upper_{neuron}", unit=trace.attrs.get("units"))
            band = hv.Area((trace["t"].values, lower, upper), time, [value, above])
            drawn.append(band.opts(color=colour, alpha=BAND_ALPHA, line_alpha=0, **TOOLS, backend="bokeh"))
        curve = hv.Curve((trace["t"].values, values.values), time, value, label=name)
        drawn.append(curve.opts(color=colour, line_width=1.5 if index else 1.2, **TOOLS, backend="bokeh"))
    return hv.Overlay(drawn).opts(xaxis="bottom" if is_last else "bare", backend="bokeh")
