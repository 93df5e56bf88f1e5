"""The verb plot_kymograph: how the body bends, over time and along it."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from niddl_xr.plots._style import FONT_SIZES, TOOLS, load_backend, palette_colours
from niddl_xr.posture import CURVATURE_DIMS
from niddl_xr.schema import NiddlError

PERCENTILE = 95.0
SIDES = {True: ("dorsal", "ventral side"), False: ("left", "right")}


def plot_kymograph(
    posture: xr.Dataset | xr.DataArray,
    *,
    limit_per_mm: float | None = None,
    title: str | None = None,
    width_px: int = 760,
    height_px: int = 220,
) -> hv.Image:
    """Draw curvature over time, from left to right, and along the body, the head on top.

    Parameters
    ----------
    posture
        A posture with ``curvature`` (t, s), or the curvature itself, of :func:`niddl_xr.curvature`. NaN stays empty.
    limit_per_mm
        Curvature of the deepest colours, in its own unit; None for the 95th percentile of its size.
    title
        In place of which side is which.
    width_px, height_px
        Size of the picture on the screen, in pixels.

    Returns
    -------
    holoviews.Image
        Blue-white-red, 0 is white; red bends to the ventral side, or to the right where that is not known: dorsal and
        ventral are named only where the posture says which side is which. A gap in time is as wide as it was long.

    Raises
    ------
    NiddlError
        For other dims, no known frame, or a limit that is not above 0.

    Examples
    --------
    >>> posture.niddl.plot_kymograph()  # doctest: +SKIP
    """
    load_backend()
    curvature = _curvature_of(posture)
    values = curvature.values
    size = np.abs(values[np.isfinite(values)])
    if not size.size:
        raise NiddlError("expected curvature in one frame at least, got NaN alone; see the reason of the posture")
    if limit_per_mm is None:
        limit = float(np.percentile(size, PERCENTILE)) or 1.0
    elif not np.isfinite(limit_per_mm) or limit_per_mm <= 0:
        raise NiddlError(f"expected limit_per_mm above 0, got {limit_per_mm!r}")
    else:
        limit = float(limit_per_mm)
    side = posture.attrs.get("ventral_side", "unknown")
    negative, positive = SIDES[side in ("right", "left")]
    times, values = _even(curvature["t"].values.astype(np.float64), values)
    step = float(times[1] - times[0]) if len(times) > 1 else 1.0
    places = curvature["s"].values
    half = (places[-1] - places[0]) / max(len(places) - 1, 1) / 2
    bounds = (times[0] - step / 2, places[0] - half, times[-1] + step / 2, places[-1] + half)
    unit = curvature["t"].attrs.get("units", "frame")
    strength = "1/mm" if curvature.attrs.get("units") == "1/mm" else "times length"
    # hv.Image puts the first row on top; the axis is turned over, so that s = 0 is on top.
    image = hv.Image(
        values.T[::-1],
        kdims=[hv.Dimension("time", unit=unit), hv.Dimension("s", label="place along the body")],
        vdims=[hv.Dimension("curvature", unit=strength)],
        bounds=bounds,
    )
    return image.opts(
        cmap=palette_colours("difference"),
        clim=(-limit, limit),
        colorbar=True,
        clabel=f"curvature ({strength})",
        frame_width=width_px,
        frame_height=height_px,
        invert_yaxis=True,
        yticks=[(0.0, "head"), (0.5, "0.5"), (1.0, "tail")],
        xlabel=f"time ({unit})",
        ylabel="",
        title=f"red bends to the {positive}, blue to the {negative}" if title is None else title,
        fontsize=FONT_SIZES,
        tools=["hover"],
        backend="bokeh",
        **TOOLS,
    )


def _curvature_of(posture: xr.Dataset | xr.DataArray) -> xr.DataArray:
    if isinstance(posture, xr.Dataset):
        if "curvature" not in posture:
            raise NiddlError(f"expected a posture with curvature, got {[*posture.data_vars]}; see niddl_xr.centerline")
        posture = posture["curvature"]
    if not isinstance(posture, xr.DataArray) or set(posture.dims) != set(CURVATURE_DIMS):
        got = posture.dims if isinstance(posture, xr.DataArray) else type(posture).__name__
        raise NiddlError(f"expected curvature with dims {CURVATURE_DIMS}, got {got}")
    missing = [dim for dim in CURVATURE_DIMS if dim not in posture.coords]
    if missing:
        raise NiddlError(f"expected the coordinates {missing} of curvature; see assign_coords")
    return posture.transpose(*CURVATURE_DIMS)


def _even(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values (t, s) on even times, of each the nearest frame: an image has pixels of one width."""
    steps = np.diff(times)
    if not steps.size or np.all(np.abs(steps - np.median(steps)) <= 1e-3 * np.median(steps)):
        return times, values
    step = float(np.median(steps))
    even = times[0] + step * np.arange(round((times[-1] - times[0]) / step) + 1)
    nearest = np.clip(np.searchsorted(times, even - step / 2), 0, len(times) - 1)
    result = values[nearest].copy()
    result[np.abs(times[nearest] - even) > step / 2 * (1 + 1e-6)] = np.nan
    return even, result
