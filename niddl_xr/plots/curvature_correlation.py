"""The verb plot_curvature_correlation: a neuron's activity against the bending of the body next to it."""

from __future__ import annotations

from collections.abc import Mapping

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.neurons import require_traces
from niddl_xr.plots._style import FONT_SIZES, GRID, LINE_COLOURS, TOOLS, load_backend
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError

BEND_COLOUR = "#000000"
LEAST_FRAMES = 3
SCATTER_PX = 170


def plot_curvature_correlation(
    traces: xr.Dataset | Mapping[str, xr.Dataset],
    posture: xr.Dataset,
    *,
    neuron: object = None,
    position: float | xr.DataArray | None = None,
    window: float = 0.05,
    lag_s: float = 0.0,
    variable: str = "dff",
    width_px: int = 520,
    row_px: int = 150,
) -> hv.Layout:
    """Draw the activity of a neuron above the curvature of the body next to it, and one against the other.

    Parameters
    ----------
    traces
        ``variable`` (t, neuron), or a mapping of names to such ("raw", "denoised"), a row each, the first in grey. NaN
        is a gap.
    posture
        ``curvature`` (t, s) in 1/mm, with t of the same clock.
    neuron
        Its label; None for the first.
    position
        Its place along the body, 0 (head) to 1 (tail), or the result of :func:`niddl_xr.assign_body_position`. None:
        the coordinate ``body_position`` of the traces.
    window
        Curvature is the mean over so much of the body length to both sides.
    lag_s
        Activity at t is held against the curvature at t + ``lag_s``, as :func:`niddl_xr.curvature_correlation` finds
        it; the curvature is drawn shifted by so much.
    variable
        Of the traces.
    width_px, row_px
        Size of the curves on the screen, in pixels.

    Returns
    -------
    holoviews.Layout
        A row for each of the traces: activity, with the curvature behind it as a thin black line, both less their mean
        in units of their standard deviation, and their scatter with Pearson's r, of frames as they are: nothing is
        taken out, and r is no test. The curvature is interpolated to the times of the traces.

    Raises
    ------
    NiddlError
        For traces or a posture that do not keep the contract, a neuron that is not there, a place that is not known,
        and fewer than 3 frames in which both are known and vary.

    Examples
    --------
    >>> plot_curvature_correlation({"raw": raw, "denoised": clean}, posture, neuron="VB4")  # doctest: +SKIP
    """
    given = {"activity": traces} if isinstance(traces, xr.Dataset) else dict(traces)
    if not given:
        raise NiddlError(f"expected traces with {variable} (t, neuron) or a mapping of names to such, got none")
    named = {str(name): require_traces(part, variable) for name, part in given.items()}
    first = next(iter(named.values()))
    chosen = first["neuron"].values.tolist()[0] if neuron is None else neuron
    for name, part in named.items():
        if chosen not in part["neuron"].values.tolist():
            raise NiddlError(f"traces {name} have no neuron {chosen!r}; theirs are {part['neuron'].values.tolist()}")
    place = _place(first, chosen, position)
    bend = _local_curvature(require_posture(posture, "curvature"), place, window)
    load_backend()
    panels = []
    for index, (name, part) in enumerate(named.items()):
        trace = part[variable].sel(neuron=chosen)
        times_s = trace["t"].values.astype(float)
        bends = np.interp(
            times_s + lag_s, bend["t"].values.astype(float), bend.values.astype(float), left=np.nan, right=np.nan
        )
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        panels += _row(name, chosen, trace, bends, colour, width_px, row_px, is_last=index == len(named) - 1)
    return hv.Layout(panels).cols(2).opts(merge_tools=True, toolbar="right", backend="bokeh")


def _place(traces: xr.Dataset, neuron: object, position: float | xr.DataArray | None) -> float:
    if isinstance(position, xr.DataArray):
        if position.dims != ("neuron",) or neuron not in position["neuron"].values.tolist():
            raise NiddlError(f"expected position (neuron) that holds {neuron!r}, got dims {position.dims}")
        place = float(position.sel(neuron=neuron))
    elif position is not None:
        place = float(position)
    elif "body_position" in traces.coords:
        place = float(traces["body_position"].sel(neuron=neuron))
    else:
        raise NiddlError("expected position=, where along the body the neuron lies; see niddl_xr.assign_body_position")
    if not 0 <= place <= 1:
        raise NiddlError(f"expected the place of {neuron} along the body from 0 (head) to 1 (tail), got {place:g}")
    return place


def _local_curvature(posture: xr.Dataset, place: float, window: float) -> xr.DataArray:
    near = np.abs(posture["s"].values - place) <= window + 1e-9
    if not near.any():
        raise NiddlError(f"expected a window that holds points of the posture, got {window!r}: widen it")
    return posture["curvature"].isel(s=near).mean("s")


def _row(
    name: str,
    neuron: object,
    trace: xr.DataArray,
    bends_per_mm: np.ndarray,
    colour: str,
    width_px: int,
    row_px: int,
    *,
    is_last: bool,
) -> list[hv.Element]:
    values = trace.values.astype(float)
    together = np.isfinite(values) & np.isfinite(bends_per_mm)
    both = np.stack([values[together], bends_per_mm[together]])
    if both.shape[1] < LEAST_FRAMES or np.any(np.ptp(both, axis=1) == 0):
        raise NiddlError(
            f"expected {LEAST_FRAMES} frames or more in which the activity ({name}) of {neuron} and the curvature are "
            f"known and vary, got {both.shape[1]}: compare the times of traces and posture"
        )
    r = float(np.corrcoef(both)[0, 1])
    time = hv.Dimension("t", label="time", unit="s")
    level = hv.Dimension("level", label="deviation (SD)")
    shared = {"fontsize": FONT_SIZES, "yticks": 3, **TOOLS, "backend": "bokeh"}
    times_s = trace["t"].values.astype(float)
    mean, sd = both.mean(axis=1), both.std(axis=1)
    # One axis for both keeps their zeros together; they are brought to the same spread for that.
    bent = hv.Curve((times_s, (bends_per_mm - mean[1]) / sd[1]), time, level, label="curvature")
    active = hv.Curve((times_s, (values - mean[0]) / sd[0]), time, level, label=name)
    curves = hv.Overlay(
        [
            bent.opts(color=BEND_COLOUR, line_width=0.8, alpha=0.7, **TOOLS, backend="bokeh"),
            active.opts(color=colour, line_width=1.5, **TOOLS, backend="bokeh"),
        ]
    ).opts(
        frame_width=width_px,
        frame_height=row_px,
        title=f"{neuron}, {name}: r = {r:.2f}",
        legend_position="top_right",
        legend_opts={"background_fill_alpha": 0.6},
        padding=(0.0, 0.08),
        xlabel="time (s)" if is_last else "",
        **shared,
    )
    # Another label too: holoviews links ranges of one label.
    shown = hv.Dimension((f"shown_{name}", f"{trace.name}, {name}"), unit=_unit(trace))
    scatter = hv.Scatter((both[1], both[0]), hv.Dimension("curvature", unit="1/mm"), shown)
    slope = r * sd[0] / sd[1]
    line = hv.Slope(float(slope), float(mean[0] - slope * mean[1]))
    points = hv.Overlay(
        [
            scatter.opts(color=colour, size=3, alpha=0.4, **TOOLS, backend="bokeh"),
            line.opts(color=BEND_COLOUR, line_width=1.5, backend="bokeh"),
        ]
    ).opts(
        frame_width=max(SCATTER_PX, row_px),
        frame_height=row_px,
        title="",
        padding=0.08,
        xlabel="curvature (1/mm)" if is_last else "",
        **GRID,
        **shared,
    )
    return [curves, points]


def _unit(trace: xr.DataArray) -> str | None:
    unit = trace.attrs.get("units")
    return None if unit in (None, "1") else str(unit)
