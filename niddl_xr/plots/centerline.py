"""The verb plot_centerline: how the worm lies, over the image of the same frame."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.plots._image import Canvas, draw_plane, upright
from niddl_xr.plots._planes import MAXIMUM, PERCENTILES, Extent, contrast, load_plane
from niddl_xr.plots._style import LINE_COLOURS, MARK_COLOUR, TOOLS, load_backend
from niddl_xr.posture import require_posture
from niddl_xr.schema import RECORDING_DIMS, NiddlError

HEAD_COLOUR, LINE_COLOUR = LINE_COLOURS[1], MARK_COLOUR
SAME_TIME = 0.5  # of the time between frames


def plot_centerline(
    posture: xr.Dataset,
    recording: xr.DataArray | None = None,
    *,
    t: int | None = None,
    edge_px: int = 420,
    palette: str = "grey",
) -> hv.DynamicMap | hv.Overlay:
    """Draw the centreline of a frame, with a dot on the head, over the image of that frame.

    Parameters
    ----------
    posture
        With ``centerline`` (t, s, space) in µm.
    recording
        (t, z, y, x) in µm, of which the maximum over z is drawn under the line; only the frame that is looked at is
        loaded. None draws the line alone. Frames are matched by time; a mask can be given as uint8.
    t
        Number of the frame, from 0, for one picture; None for a slider over all frames.
    edge_px
        The longer edge of the picture on the screen, in pixels.
    palette
        "grey", "viridis" or "difference".

    Returns
    -------
    holoviews.DynamicMap or holoviews.Overlay
        With y downwards, in µm. The title says the time, and why there is no line where there is none.

    Raises
    ------
    NiddlError
        For a posture without centreline, a recording that is not in µm or has no frame at such a time, or a frame that
        is not there.

    Examples
    --------
    >>> posture.niddl.plot_centerline(recording)  # doctest: +SKIP
    """
    load_backend()
    checked = require_posture(posture, "centerline")
    if recording is not None:
        _require_um(recording)
    frames = checked.sizes["t"]
    extent = _extent(checked)

    def draw(frame: int) -> hv.Overlay:
        return _draw(checked, recording, int(frame), extent, edge_px, palette)

    if t is not None:
        if isinstance(t, bool) or not isinstance(t, int | np.integer) or not -frames <= t < frames:
            raise NiddlError(f"expected t as a whole number from 0 to {frames - 1}, got {t!r}")
        return draw(int(t) % frames)
    return hv.DynamicMap(draw, kdims=[hv.Dimension("frame", values=list(range(frames)))])


def _require_um(recording: xr.DataArray) -> None:
    if not isinstance(recording, xr.DataArray) or recording.dims != RECORDING_DIMS:
        got = recording.dims if isinstance(recording, xr.DataArray) else type(recording).__name__
        raise NiddlError(f"expected a recording with dims {RECORDING_DIMS}, got {got}; see expand_dims and transpose")
    for dim in ("y", "x"):
        if dim not in recording.coords or recording[dim].attrs.get("units") != "µm":
            raise NiddlError(f"expected a recording with {dim} in µm, as the centreline is: open it with voxel_um=")


def _extent(posture: xr.Dataset) -> Extent:
    """Return what holds all centrelines with a margin, in µm."""
    line = posture["centerline"].sel(space=["y", "x"]).values.reshape(-1, 2)
    line = line[np.isfinite(line).all(axis=1)]
    if not len(line):
        return Extent(0.0, 0.0, 1.0, 1.0)
    (top, left), (bottom, right) = line.min(axis=0), line.max(axis=0)
    margin = 0.05 * max(bottom - top, right - left, 1.0)
    return Extent(float(left - margin), float(top - margin), float(right + margin), float(bottom + margin))


def _draw(
    posture: xr.Dataset, recording: xr.DataArray | None, frame: int, extent: Extent, edge_px: int, palette: str
) -> hv.Overlay:
    axes = [hv.Dimension("x", unit="µm"), hv.Dimension("y", unit="µm")]
    title = _title(posture, frame)
    layers = []
    if recording is None:
        canvas = Canvas.around(extent, edge_px)
    else:
        plane = upright(load_plane(recording, _frame_at(posture, recording, frame), MAXIMUM))
        if plane.dtype.kind == "b":
            plane = plane.astype(np.uint8)
        canvas = Canvas.around(Extent.of(plane), edge_px)
        limits = contrast(plane.values, PERCENTILES, symmetric=palette == "difference")
        layers.append(draw_plane(plane, canvas=canvas, limits=limits, palette=palette, title=title))
    line = posture["centerline"].isel(t=frame).sel(space=["x", "y"]).values.astype(np.float64)
    line = line[np.isfinite(line).all(axis=1)]
    path = hv.Path([line] if len(line) else [], kdims=axes)
    head = hv.Points(line[:1] if len(line) else np.empty((0, 2)), kdims=axes)
    layers += [
        path.opts(color=LINE_COLOUR, line_width=2, backend="bokeh", **TOOLS),
        head.opts(color=HEAD_COLOUR, size=9, backend="bokeh", **TOOLS),
    ]
    options = {name: value for name, value in canvas.options().items() if name not in TOOLS}
    return hv.Overlay(layers).opts(**options, title=title, xlabel="x (µm)", ylabel="y (µm)", backend="bokeh")


def _title(posture: xr.Dataset, frame: int) -> str:
    unit = posture["t"].attrs.get("units", "frame")
    time = f"t = {float(posture['t'].values[frame]):.4g} s" if unit == "s" else f"frame {frame}"
    reason = str(posture["reason"].values[frame]) if "reason" in posture else ""
    return f"{time}, {reason}" if reason else time


def _frame_at(posture: xr.Dataset, recording: xr.DataArray, frame: int) -> int:
    """Return the frame of the recording that was taken at the time of a frame of the posture."""
    if posture["t"].attrs.get("units") != recording["t"].attrs.get("units"):
        raise NiddlError(
            f"expected times of posture and recording in one unit, got {posture['t'].attrs.get('units')!r} and "
            f"{recording['t'].attrs.get('units')!r}"
        )
    times = recording["t"].values.astype(np.float64)
    wanted = float(posture["t"].values[frame])
    nearest = int(np.argmin(np.abs(times - wanted)))
    step = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    if abs(times[nearest] - wanted) > SAME_TIME * step:
        raise NiddlError(f"the recording has no frame at t = {wanted:g}; it spans {times[0]:g} to {times[-1]:g}")
    return nearest
