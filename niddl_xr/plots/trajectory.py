"""The verb plot_trajectory: the way of a population through the space of its modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.neurons import require_population
from niddl_xr.plots._style import FONT_SIZES, GRID, LINE_COLOURS, TOOLS, load_backend, palette_colours
from niddl_xr.schema import NiddlError

# The same state has the same colour in every picture; others take what is left, in the order of their names.
STATE_COLOURS = {
    "forward": "#0072B2",
    "reversal": "#D55E00",
    "dorsal turn": "#009E73",
    "ventral turn": "#CC79A7",
    "turn": "#009E73",
    "pause": "#E69F00",
    "quiescence": "#56B4E9",
}
UNKNOWN_COLOUR = LINE_COLOURS[0]
_LINE_WIDTH = 1.6
_AZIMUTH_STEP_DEG, _ELEVATION_STEP_DEG = 15, 30
_FIRST_VIEW_DEG = (30, 30)
_AXIS_LENGTH, _VIEW = 1.1, 1.6  # relative to the farthest point

ColourSource = str | xr.DataArray | np.ndarray | Sequence[object] | None


@dataclass(frozen=True)
class _Colour:
    """What the trajectory is coloured by: ``values`` (t,), words of states or numbers, with what they are called."""

    values: np.ndarray
    label: str
    unit: str | None

    @property
    def is_state(self) -> bool:
        return self.values.dtype.kind == "U"


def plot_trajectory(
    population: xr.Dataset,
    *,
    modes: Sequence[int] = (1, 2),
    color: ColourSource = None,
    variable: str | None = None,
    palette: str = "viridis",
    edge_px: int = 420,
) -> hv.Overlay | hv.DynamicMap:
    """Draw the trajectory of a population over two or three of its modes.

    Parameters
    ----------
    population
        See :func:`niddl_xr.pca`.
    modes
        Two modes, or three: then seen from a direction that two sliders turn.
    color
        What colours the line: the name of a coordinate or variable (t) of the population, or values (t), such as the
        worm's speed. Words and booleans are states, with a legend, each in a colour that is the same in all pictures;
        numbers have a colour bar. None: the coordinate ``state`` where there is one, else time. Grey where NaN or "".
    variable
        "score", or "integrated" of derivatives; None: "integrated" where there is one.
    palette
        Of numbers: "viridis", "grey", or "difference", whose white is 0.
    edge_px
        Size of the picture on the screen in pixels.

    Returns
    -------
    holoviews.Overlay or holoviews.DynamicMap
        Of three modes a DynamicMap over azimuth and elevation in degrees, an orthographic view with mode 1 to the front
        at azimuth 0 and the third mode upwards. A page that was saved shows its first view; for more,
        ``hv.HoloMap({(a, 30): plot[a, 30] for a in range(0, 360, 30)}, ["azimuth", "elevation"])``. One unit is
        as long along every axis. Frames without score are gaps in the line.

    Raises
    ------
    NiddlError
        For other numbers of modes, modes or colours that are not there, colours of another length, and more than eight
        states.

    Examples
    --------
    >>> plot_trajectory(niddl_xr.pca(traces), color="state")  # doctest: +SKIP
    >>> plot_trajectory(population, modes=(1, 2, 3), color=speed, palette="difference")  # doctest: +SKIP
    """
    population = require_population(population)
    chosen = _require_modes(population, modes)
    variable = variable or ("integrated" if "integrated" in population else "score")
    if variable not in population or set(population[variable].dims) != {"t", "mode"}:
        raise NiddlError(f"expected variable as 'score', or 'integrated' of a derivative, got {variable!r}")
    points = population[variable].sel(mode=chosen).transpose("t", "mode").values.astype(float)
    if not np.isfinite(points).all(axis=1).any():
        raise NiddlError(f"expected a population with a score in some frame, got NaN alone in {variable}")
    colour = _colour_of(population, color)
    palette_colours(palette)  # an unknown one is an error, also where states have colours of their own
    load_backend()
    labels = [_axis_label(population, mode, variable) for mode in chosen]
    if len(chosen) == 2:
        drawn = _line(points, colour, palette)
        options = {"xlabel": labels[0], "ylabel": labels[1], "padding": 0.05, **GRID}
        return hv.Overlay(drawn).opts(**_frame(edge_px, colour), **options, backend="bokeh")
    middle = (np.nanmax(points, axis=0) + np.nanmin(points, axis=0)) / 2
    return _turning(points - middle, colour, palette, labels, edge_px)


def _require_modes(population: xr.Dataset, modes: Sequence[int]) -> list[int]:
    chosen = list(modes)
    there = population["mode"].values.tolist() if "mode" in population.coords else []
    if len(chosen) not in (2, 3) or len(set(chosen)) < len(chosen):
        raise NiddlError(f"expected two or three different modes, got {modes!r}")
    if missing := [mode for mode in chosen if mode not in there]:
        raise NiddlError(f"the population has no mode {missing}; its modes are {there}")
    return chosen


def _axis_label(population: xr.Dataset, mode: int, variable: str) -> str:
    explained = float(population["explained"].sel(mode=mode))
    name = f"integrated PC{mode}" if variable == "integrated" else f"PC{mode}"
    return f"{name} ({explained:.0%})"


def _colour_of(population: xr.Dataset, color: ColourSource) -> _Colour:
    if color is None:
        color = "state" if "state" in population.coords and population["state"].dims == ("t",) else "t"
    label, unit = "", None
    if isinstance(color, str):
        over_time = sorted(str(name) for name, item in population.variables.items() if item.dims == ("t",))
        if color not in over_time and not (color == "t" and "t" not in population.coords):
            raise NiddlError(f"expected color as the name of something over t, one of {over_time}, got {color!r}")
        color = population[color]
    if isinstance(color, xr.DataArray):
        if color.dims != ("t",):
            raise NiddlError(f"expected color over t alone, got dims {color.dims}")
        if not _same_times(color, population):
            raise NiddlError("expected color at the times of the population, got others; see interp(t=population.t)")
        label = {"t": "time"}.get(str(color.name), str(color.name or "").replace("_", " "))
        unit = color.attrs.get("units", "frame" if color.name == "t" else None)
        unit = None if unit == "1" else unit
    values = np.asarray(color)
    if values.shape != (population.sizes["t"],):
        raise NiddlError(
            f"expected color as {population.sizes['t']} values, one for each frame, got shape {values.shape}"
        )
    if values.dtype.kind == "b":
        values = np.where(values, label or "true", f"not {label}" if label else "false")
    if values.dtype.kind in "uif":
        return _Colour(values.astype(float), label, unit)
    words = ["" if item is None or item != item else str(item) for item in values.tolist()]
    if len(states := set(words) - {""}) > len(LINE_COLOURS):
        raise NiddlError(f"expected {len(LINE_COLOURS)} states at most, got {len(states)}; merge some, or use numbers")
    return _Colour(np.asarray(words, dtype=str), label, None)


def _same_times(color: xr.DataArray, population: xr.Dataset) -> bool:
    if "t" not in color.coords or "t" not in population.coords:
        return True
    ours, theirs = population["t"].values, color["t"].values
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0, atol=1e-6))


def colours_of_states(states: Sequence[str]) -> dict[str, str]:
    """Return a colour for each state: its own, or of the rest one that none of them has."""
    own = {state: STATE_COLOURS[state] for state in states if state in STATE_COLOURS}
    free = iter([colour for colour in LINE_COLOURS[1:] if colour not in own.values()] + [UNKNOWN_COLOUR])
    return {state: own[state] if state in own else next(free) for state in states}


def _line(points: np.ndarray, colour: _Colour, palette: str) -> list[hv.Element]:
    """Return the trajectory (t, 2): segments coloured by numbers, or a curve for each state."""
    known = np.isfinite(points).all(axis=1)
    if not colour.is_state:
        # One segment from each frame to the next: a path of several parts would mix up their colours.
        joined = np.flatnonzero(known[:-1] & known[1:])
        value = hv.Dimension("value", label=colour.label or "value", unit=colour.unit)
        ends = [hv.Dimension(name) for name in ("x", "y", "to_x", "to_y")]
        title = f"{colour.label} ({colour.unit})" if colour.unit else colour.label
        columns = (*points[joined].T, *points[joined + 1].T, colour.values[joined])
        segments = hv.Segments(columns, ends, value).opts(
            color="value",
            cmap=palette_colours(palette),
            clim=_limits(colour.values, palette),
            clipping_colors={"NaN": UNKNOWN_COLOUR},
            colorbar=True,
            clabel=title,
            line_width=_LINE_WIDTH,
            **TOOLS,
            backend="bokeh",
        )
        return [segments]
    drawn = []
    states = sorted(set(colour.values.tolist()) - {""})
    for state, shade in {**colours_of_states(states), "": UNKNOWN_COLOUR}.items():
        # To the next frame, so that the line does not break where the state changes; NaN between runs.
        runs = [points[start : stop + 1] for start, stop in _runs(known & (colour.values == state))]
        if runs:
            joined = np.concatenate([np.concatenate([run, [[np.nan, np.nan]]]) for run in runs])
            curve = hv.Curve(joined, "x", "y", label=state or "unknown")
            drawn.append(curve.opts(color=shade, line_width=_LINE_WIDTH, **TOOLS, backend="bokeh"))
    return drawn


def _runs(chosen: np.ndarray) -> list[tuple[int, int]]:
    """Return start and stop of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _limits(values: np.ndarray, palette: str) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if palette == "difference":
        high = max(abs(low), abs(high))
        low = -high
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _frame(edge_px: int, colour: _Colour) -> dict[str, Any]:
    return {
        "frame_width": edge_px,
        "frame_height": edge_px,
        "fontsize": FONT_SIZES,
        "show_legend": colour.is_state,
        "legend_position": "right",
        **TOOLS,
    }


def projected(points: np.ndarray, azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    """Return where points (n, 3) appear on the screen (n, 2) to one who looks from a direction.

    The third axis points upwards; at azimuth 0 the first axis points to the viewer and the second to the right; a
    higher elevation looks from higher up.
    """
    azimuth, elevation = np.deg2rad([azimuth_deg, elevation_deg])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    up = np.array([-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation)])
    return np.asarray(points @ np.stack([right, up], axis=1))


def _turning(points: np.ndarray, colour: _Colour, palette: str, labels: Sequence[str], edge_px: int) -> hv.DynamicMap:
    """Return the view of centred points (t, 3) that sliders turn; its range holds the points from every side."""
    radius = float(np.sqrt(np.nanmax(np.sum(points**2, axis=1)))) or 1.0
    axes = _AXIS_LENGTH * radius * np.eye(3)
    title = "integrated scores" if labels[0].startswith("integrated") else ""
    limits = (-_VIEW * radius, _VIEW * radius)

    def seen(azimuth: float, elevation: float) -> hv.Overlay:
        ends = projected(axes, azimuth, elevation)
        lines = hv.Path([np.stack([-end, end]) for end in ends], ["x", "y"])
        names = hv.Labels(
            [(*(1.08 * end), label.removeprefix("integrated ")) for end, label in zip(ends, labels, strict=True)],
            ["x", "y"],
            "axis",
        )
        drawn = [
            lines.opts(color="#888888", line_width=1, line_dash="dotted", **TOOLS, backend="bokeh"),
            *_line(projected(points, azimuth, elevation), colour, palette),
            names.opts(text_font_size="9pt", text_color="#444444", **TOOLS, backend="bokeh"),
        ]
        options = {"xlim": limits, "ylim": limits, "xaxis": None, "yaxis": None, "title": title}
        return hv.Overlay(drawn).opts(**_frame(edge_px, colour), **options, backend="bokeh")

    sliders = [
        hv.Dimension("azimuth", unit="°", values=list(range(0, 360, _AZIMUTH_STEP_DEG)), default=_FIRST_VIEW_DEG[0]),
        hv.Dimension(
            "elevation", unit="°", values=list(range(-90, 91, _ELEVATION_STEP_DEG)), default=_FIRST_VIEW_DEG[1]
        ),
    ]
    return hv.DynamicMap(seen, kdims=sliders)
