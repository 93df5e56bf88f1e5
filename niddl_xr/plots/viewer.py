"""The verb view: a recording to play, beside its denoised version, with traces of what is tapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import xarray as xr

from niddl_xr.plots._image import Canvas, axes_of, draw_plane, draw_scale_bar, upright
from niddl_xr.plots._planes import (
    MAXIMUM,
    PERCENTILES,
    Extent,
    contrast,
    load_plane,
    number,
    require_percentiles,
    stamp,
    unit_of,
)
from niddl_xr.plots._style import FONT_SIZES, GRID, LINE_COLOURS, MARK_COLOUR, TOOLS, load_backend, palette_colours
from niddl_xr.schema import NiddlError, require_recording

PLAY_INTERVAL_MS = 400


def view(
    raw: xr.DataArray,
    denoised: xr.DataArray | None = None,
    tracks: xr.Dataset | None = None,
    traces: xr.DataArray | xr.Dataset | None = None,
    *,
    percentiles: Sequence[float] = PERCENTILES,
    palette: str = "grey",
    trace_frames: int = 60,
    roi_px: int = 3,
    edge_px: int = 420,
) -> pn.Column:
    """Play a recording, raw beside denoised; tap a pixel to see its trace.

    A frame is loaded when it is drawn, and no other. While the slider is dragged nothing is loaded; when it is let go,
    one frame. A tap loads ``trace_frames`` frames around the present one, because a pixel of every frame of a long
    recording would mean to read it whole (or, lazily denoised, to denoise it whole). All pictures have one contrast,
    that of the first frame drawn, so that a change of brightness is one; the button takes it from the present frame.

    Parameters
    ----------
    raw
        Dims (t, z, y, x).
    denoised
        Of the same sizes, stored or lazy.
    tracks
        ``position`` (t, neuron, space) in the units of the recordings' coordinates, µm where known, and where present
        ``observed``: neurons are drawn as rings, all of them over a maximum, else those within one plane's distance.
    traces
        (t, neuron), or a Dataset with ``dff`` or ``F``: the trace of one neuron is drawn below, chosen by name, or by
        a tap near its ring.
    percentiles, palette
        As in :func:`plot_frame`.
    trace_frames
        Length of the trace of a tapped pixel, in frames.
    roi_px
        A trace is the mean of ``roi_px`` × ``roi_px`` pixels in one plane: the one that is drawn, or in a maximum the
        brightest at this pixel.
    edge_px
        The longer edge of a picture on the screen, in pixels.

    Returns
    -------
    panel.Column
        An app: the last line of a notebook cell shows it, ``panel serve`` puts it into a page of its own. Its pictures
        need a running kernel.

    Raises
    ------
    NiddlError
        For recordings, tracks or traces of different lengths or sizes, and as :func:`plot_frame`.

    Examples
    --------
    >>> recording.niddl.view(denoised=clean)  # doctest: +SKIP
    """
    recordings = {"raw": require_recording(raw)}
    if denoised is not None:
        recordings["denoised"] = require_recording(denoised)
        if denoised.shape != raw.shape:
            raise NiddlError(
                f"expected denoised with the sizes of raw, {dict(raw.sizes)}, got {dict(denoised.sizes)}; "
                "select the same part of each with isel"
            )
    palette_colours(palette)
    for name, value in (("trace_frames", trace_frames), ("roi_px", roi_px)):
        if value < 1:
            raise NiddlError(f"expected {name} of 1 or more, got {value}")
    neurons = None if tracks is None else _require_tracks(tracks, raw.sizes["t"])
    curves = None if traces is None else _require_traces(traces)
    load_backend()
    viewer = _Viewer(
        recordings, neurons, curves, require_percentiles(percentiles), palette, trace_frames, roi_px, edge_px
    )
    return viewer.app()


def _require_tracks(tracks: xr.Dataset, frames: int) -> xr.Dataset:
    wanted = {"t", "neuron", "space"}
    if not isinstance(tracks, xr.Dataset) or "position" not in tracks or set(tracks["position"].dims) != wanted:
        raise NiddlError(
            "expected tracks as a Dataset with position (t, neuron, space), "
            f"got {dict(tracks.sizes) if isinstance(tracks, xr.Dataset) else type(tracks).__name__}; "
            "see niddl_xr.simulate.whole_brain for an example"
        )
    if tracks.sizes["t"] != frames:
        raise NiddlError(f"expected tracks of {frames} frames, as the recording has, got {tracks.sizes['t']}")
    return tracks


def _require_traces(traces: xr.DataArray | xr.Dataset) -> xr.DataArray:
    if isinstance(traces, xr.Dataset):
        found = [name for name in ("dff", "F") if name in traces]
        if not found:
            raise NiddlError(f"expected traces with the variable dff or F, got {sorted(map(str, traces.data_vars))}")
        traces = traces[found[0]]
    if set(traces.dims) != {"t", "neuron"}:
        raise NiddlError(f"expected traces with dims ('t', 'neuron'), got {traces.dims}; choose one variable")
    return traces


class _Viewer:
    """The widgets of one app and the pictures that follow them."""

    def __init__(
        self,
        recordings: dict[str, xr.DataArray],
        tracks: xr.Dataset | None,
        traces: xr.DataArray | None,
        percentiles: tuple[float, float],
        palette: str,
        trace_frames: int,
        roi_px: int,
        edge_px: int,
    ) -> None:
        self.recordings = recordings
        self.raw = recordings["raw"]
        self.tracks = tracks
        self.traces = traces
        self.percentiles = percentiles
        self.palette = palette
        self.trace_frames = min(trace_frames, self.raw.sizes["t"])
        self.roi_px = roi_px
        self.plane_like = upright(self.raw.isel(t=0, z=0))  # its coordinates alone are used
        self.canvas = Canvas.around(Extent.of(self.plane_like), edge_px)
        self._loaded: dict[str, tuple[tuple[int, int | str], xr.DataArray]] = {}
        self._limits: dict[bool, tuple[float, float]] = {}

        sizes = self.raw.sizes
        self.player = pn.widgets.Player(
            name="frame",
            start=0,
            end=max(1, sizes["t"] - 1),
            value=0,
            interval=PLAY_INTERVAL_MS,
            loop_policy="once",
            show_value=True,
            show_loop_controls=False,
            width=self.canvas.width_px,
            visible=sizes["t"] > 1,
        )
        self.maximum = pn.widgets.Checkbox(name="maximum over z", value=True, visible=sizes["z"] > 1)
        self.plane = pn.widgets.IntSlider(
            name="plane", start=0, end=max(1, sizes["z"] - 1), value=sizes["z"] // 2 if sizes["z"] > 1 else 0
        )
        self.plane.visible = False
        self.maximum.link(self.plane, callbacks={"value": _show_unless})
        self.renew = pn.widgets.Button(name="contrast from this frame")
        self.renew.on_click(lambda _: self._limits.clear())
        self.where = hv.streams.Stream.define("Where", x=None, y=None)()
        self.neuron = (
            None
            if traces is None
            else pn.widgets.Select(name="neuron", options=[str(label) for label in traces["neuron"].values], width=140)
        )

    # What is drawn now

    @property
    def t(self) -> int:
        return min(self.player.value_throttled, self.raw.sizes["t"] - 1)

    @property
    def z(self) -> int | str:
        return MAXIMUM if self.maximum.value else int(self.plane.value_throttled or 0)

    def load(self, name: str) -> xr.DataArray:
        """Return the plane that is drawn; the last one of each recording is kept."""
        key = (self.t, self.z)
        if name not in self._loaded or self._loaded[name][0] != key:
            self._loaded[name] = (key, upright(load_plane(self.recordings[name], *key)))
        return self._loaded[name][1]

    def limits(self) -> tuple[float, float]:
        """Return the contrast of all pictures; maxima and single planes each have one."""
        projected = self.z == MAXIMUM
        if projected not in self._limits:
            symmetric = self.palette == "difference"
            ranges = [
                contrast(self.load(name).values, self.percentiles, symmetric=symmetric) for name in self.recordings
            ]
            self._limits[projected] = min(low for low, _ in ranges), max(high for _, high in ranges)
        return self._limits[projected]

    # Pictures

    def picture(self, name: str) -> hv.Image:
        title = f"{name}: {stamp(self.raw, self.t, self.z)}"
        return draw_plane(
            self.load(name), canvas=self.canvas, limits=self.limits(), palette=self.palette, title=title
        ).opts(framewise=False, backend="bokeh")

    def rings(self) -> hv.Points:
        axes = axes_of(self.plane_like)
        found: list[tuple[float, float, str]] = []
        if self.tracks is not None:
            shown = self._shown_positions(self.tracks)
            found = [
                (float(position.sel(space="x")), float(position.sel(space="y")), str(position["neuron"].values))
                for position in shown
            ]
        return hv.Points(found, kdims=axes, vdims="neuron").opts(
            color=None, line_color=MARK_COLOUR, size=9, line_width=1.2, tools=["hover"], **TOOLS, backend="bokeh"
        )

    def _shown_positions(self, tracks: xr.Dataset) -> xr.DataArray:
        """Return the positions (neuron, space) in the present frame, near the present plane."""
        now = tracks.isel(t=self.t).compute()
        position = now["position"].transpose("neuron", "space")
        visible = position.notnull().all("space")
        if "observed" in now:
            visible = visible & now["observed"]
        depths = self.raw["z"].values
        if self.z != MAXIMUM and len(depths) > 1:
            visible = visible & (np.abs(position.sel(space="z") - depths[int(self.z)]) <= abs(depths[1] - depths[0]))
        return position.isel(neuron=np.flatnonzero(visible.values))

    def cross(self, x: float | None, y: float | None) -> hv.Points:
        points = [] if x is None or y is None else [(x, y)]
        return hv.Points(points, kdims=axes_of(self.plane_like)).opts(
            marker="cross", color=MARK_COLOUR, size=14, line_width=2, **TOOLS, backend="bokeh"
        )

    def pixel_traces(self, x: float | None, y: float | None) -> hv.Overlay:
        """Draw the mean of the pixels around a tap, over the frames around the present one, for all recordings."""
        time = hv.Dimension("t", label="time", unit=unit_of(self.raw, "t"))
        value = hv.Dimension("counts")
        title = "tap a pixel to see its trace"
        curves: dict[str, tuple[np.ndarray, np.ndarray]] = {
            name: (np.empty(0), np.empty(0)) for name in self.recordings
        }
        if x is not None and y is not None:
            window, title = self._around(x, y)
            curves = {
                name: (self.raw["t"].values[window["t"]], recording.isel(window).mean(("z", "y", "x")).values)
                for name, recording in self.recordings.items()
            }
        drawn = [
            hv.Curve(points, time, value, label=name).opts(
                color=colour, line_width=1.5, **self._trace_options(title), backend="bokeh"
            )
            for (name, points), colour in zip(curves.items(), (LINE_COLOURS[0], LINE_COLOURS[1]), strict=False)
        ]
        return hv.Overlay(drawn)

    def _around(self, x: float, y: float) -> tuple[dict[str, slice], str]:
        """Return the pixels around a position and the frames around the present one, and what to call them."""
        raw = self.raw
        column = {dim: int(np.argmin(np.abs(raw[dim].values - at))) for dim, at in (("y", y), ("x", x))}
        if self.z == MAXIMUM:
            clearest = list(self.recordings.values())[-1]
            depth = int(clearest.isel({"t": self.t, **column}).argmax("z").values) if raw.sizes["z"] > 1 else 0
        else:
            depth = int(self.z)
        before = self.roi_px // 2
        window = {"z": slice(depth, depth + 1)}
        for dim, index in column.items():
            window[dim] = slice(max(0, index - before), index - before + self.roi_px)
        first = min(max(0, self.t - self.trace_frames // 2), raw.sizes["t"] - self.trace_frames)
        window["t"] = slice(first, first + self.trace_frames)
        places = ", ".join(
            f"{dim} {number(float(raw[dim].values[index]))} {unit_of(raw, dim)}"
            for dim, index in {"z": depth, **column}.items()
        )
        return window, f"mean of {self.roi_px}×{self.roi_px} pixels at {places}"

    def neuron_trace(self, neuron: str) -> hv.Curve:
        assert self.traces is not None  # only drawn where there are traces
        labels = [str(label) for label in self.traces["neuron"].values]
        trace = self.traces.isel(neuron=labels.index(neuron)).compute()
        time = hv.Dimension("t", label="time", unit=unit_of(self.traces, "t"))
        value = hv.Dimension("trace", label=str(self.traces.name or "trace"), unit=_shown_unit(self.traces))
        return hv.Curve((trace["t"].values, trace.values), time, value).opts(
            color=LINE_COLOURS[2], line_width=1.5, backend="bokeh", **self._trace_options(f"neuron {neuron}")
        )

    def _trace_options(self, title: str) -> dict[str, Any]:
        return {
            "frame_width": 2 * self.canvas.width_px + 40,
            "frame_height": 130,
            "framewise": True,
            "axiswise": True,
            "title": title,
            "padding": (0.0, 0.1),
            "fontsize": FONT_SIZES,
            **GRID,
            **TOOLS,
        }

    def now(self) -> hv.VLine:
        return hv.VLine(float(self.raw["t"].values[self.t])).opts(
            color="#000000", line_width=1, line_dash="dotted", **TOOLS, backend="bokeh"
        )

    # The app

    def _following(self, draw: Callable[[], hv.Element], *more: Any) -> hv.DynamicMap:
        """Return a picture that is drawn anew when frame or plane change, when they are let go."""
        depends = [self.player.param.value_throttled, self.maximum.param.value, self.plane.param.value_throttled, *more]
        return hv.DynamicMap(pn.bind(lambda *_: draw(), *depends))

    def _tapped(self, x: float | None, y: float | None) -> None:
        if x is None or y is None:
            return
        self.where.event(x=x, y=y)
        if self.tracks is not None and self.neuron is not None:
            shown = self._shown_positions(self.tracks)
            if shown.sizes["neuron"]:
                distance = np.hypot(shown.sel(space="x").values - x, shown.sel(space="y").values - y)
                nearest = str(shown["neuron"].values[int(np.argmin(distance))])
                if nearest in self.neuron.options:
                    self.neuron.value = nearest

    def app(self) -> pn.Column:
        """Put the widgets and pictures together."""
        pictures = []
        self._taps = []  # streams live as long as something holds them
        for name in self.recordings:
            image = self._following(partial(self.picture, name), self.renew.param.clicks)
            tap = hv.streams.Tap(source=image)
            tap.add_subscriber(self._tapped)
            self._taps.append(tap)
            bar = draw_scale_bar(self.plane_like, canvas=self.canvas, scale_bar_um=None, palette=self.palette)
            picture = image if bar is None else image * bar
            if self.tracks is not None:
                picture = picture * self._following(self.rings)
            pictures.append(picture * hv.DynamicMap(self.cross, streams=[self.where]))
        tapped = hv.DynamicMap(self.pixel_traces, streams=[self.where]) * self._following(self.now)
        below = [tapped.opts(hv.opts.Overlay(legend_position="right", backend="bokeh"))]
        controls = [self.player, pn.Column(self.maximum, self.plane), self.renew]
        if self.neuron is not None:
            controls.append(self.neuron)
            below.append(hv.DynamicMap(pn.bind(self.neuron_trace, self.neuron)) * self._following(self.now))
        beside = hv.Layout(pictures).cols(len(pictures)).opts(merge_tools=True, backend="bokeh")
        return pn.Column(
            pn.Row(*controls),
            pn.pane.HoloViews(beside),
            *[pn.pane.HoloViews(picture, linked_axes=False) for picture in below],
        )


def _shown_unit(traces: xr.DataArray) -> str | None:
    unit = traces.attrs.get("units")
    return None if unit in (None, "", "1") else str(unit)


def _show_unless(widget: pn.widgets.IntSlider, event: Any) -> None:
    """Show the slider of planes where no maximum is drawn."""
    widget.visible = not event.new
