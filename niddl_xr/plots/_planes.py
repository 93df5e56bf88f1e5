"""From a recording to the one plane that is drawn: which pixels are loaded, and at which contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.schema import NiddlError, require_recording

MAXIMUM = "max"
PERCENTILES = (1.0, 99.8)
Window = tuple[float, float]


def require_index(recording: xr.DataArray, dim: str, index: int) -> int:
    """Return a frame or plane number from 0, or raise; negative numbers count from the end."""
    size = recording.sizes[dim]
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)) or not -size <= index < size:
        choice = " or 'max'" if dim == "z" else ""
        raise NiddlError(
            f"expected {dim} as a whole number from 0 to {size - 1}{choice}, got {index!r}; "
            f"for a position use recording.sel({dim}=..., method='nearest')"
        )
    return int(index) % size


def load_plane(recording: xr.DataArray, t: int, z: int | str) -> xr.DataArray:
    """Load one plane (y, x) of frame ``t``: plane ``z``, or the maximum over all planes. No other frame is read."""
    frame = require_recording(recording).isel(t=require_index(recording, "t", t))
    if isinstance(z, str) and z == MAXIMUM:
        plane = frame.isel(z=0) if recording.sizes["z"] == 1 else frame.max("z", keep_attrs=True)
    else:
        plane = frame.isel(z=require_index(recording, "z", z))  # type: ignore[arg-type]
    return plane.compute()


def require_percentiles(percentiles: Sequence[float]) -> tuple[float, float]:
    """Return two percentiles in order, or raise."""
    if np.ndim(percentiles) != 1 or len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise NiddlError(f"expected percentiles as (low, high) with 0 <= low < high <= 100, got {percentiles!r}")
    return float(percentiles[0]), float(percentiles[1])


def contrast(values: np.ndarray, percentiles: Sequence[float], *, symmetric: bool = False) -> tuple[float, float]:
    """Return the counts that are drawn darkest and brightest; NaN is left out.

    Where the percentiles coincide the maximum is brightest, and a constant image gets a range of 1. ``symmetric``
    puts 0 in the middle, for differences.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, require_percentiles(percentiles)))
    if symmetric:
        largest = max(abs(low), abs(high)) or 1.0
        return -largest, largest
    if not high > low:
        high = float(finite.max())
    return (low, high) if high > low else (low, low + 1.0)


def unit_of(recording: xr.DataArray, dim: str) -> str:
    """Return the unit of a coordinate; "frame" or "pixel" where it states none."""
    return str(recording[dim].attrs.get("units", "frame" if dim == "t" else "pixel"))


def number(value: float) -> str:
    """Write a coordinate to three decimals, without zeros that say nothing."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def time_stamp(recording: xr.DataArray, t: int) -> str:
    """Say when a frame was taken: "t = 12.5 s", or "frame 50" where the time is unknown."""
    unit = unit_of(recording, "t")
    value = recording["t"].values[t]
    if unit == "frame" and np.issubdtype(value.dtype, np.number):
        return f"frame {t % recording.sizes['t']}"
    if not np.issubdtype(value.dtype, np.number):
        return str(value)  # stacks of pairs have names, other files dates
    return f"t = {number(float(value))} {unit}"


def depth_stamp(recording: xr.DataArray, z: int | str) -> str:
    """Say which plane is drawn; empty for a plane movie."""
    planes = recording.sizes["z"]
    if planes == 1:
        return ""
    if isinstance(z, str):
        return f"maximum of {planes} planes"
    unit = unit_of(recording, "z")
    index = require_index(recording, "z", z)
    return f"plane {index}" if unit == "pixel" else f"z = {number(float(recording['z'].values[index]))} {unit}"


def stamp(recording: xr.DataArray, t: int, z: int | str) -> str:
    """Say when and where: "t = 12.5 s, maximum of 30 planes"."""
    return ", ".join(part for part in (time_stamp(recording, t), depth_stamp(recording, z)) if part)


@dataclass(frozen=True)
class Extent:
    """The outer edges of a plane in the units of its coordinates: half a pixel beyond the outermost centres."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @classmethod
    def of(cls, plane: xr.DataArray) -> Extent:
        """Return the extent of a plane (y, x) with increasing coordinates; a single pixel is taken for a square."""
        steps = {dim: _step(plane[dim].values) for dim in ("y", "x")}
        y_step = steps["y"] or steps["x"] or 1.0
        x_step = steps["x"] or y_step
        y, x = plane["y"].values, plane["x"].values
        return cls(
            left=float(x[0]) - x_step / 2,
            top=float(y[0]) - y_step / 2,
            right=float(x[-1]) + x_step / 2,
            bottom=float(y[-1]) + y_step / 2,
        )


def _step(values: np.ndarray) -> float | None:
    return float(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else None


def crop(recording: xr.DataArray, y: Window | None, x: Window | None) -> xr.DataArray:
    """Return the part of a recording, or of a plane, between two positions along y and x, both included."""
    for dim, window in (("y", y), ("x", x)):
        if window is None:
            continue
        unit = unit_of(recording, dim)
        if np.ndim(window) != 1 or len(window) != 2 or not window[0] < window[1]:
            raise NiddlError(f"expected {dim} as (start, stop) in {unit} with start < stop, got {window!r}")
        values = recording[dim].values
        inside = np.flatnonzero((values >= window[0]) & (values <= window[1]))
        if inside.size == 0:
            raise NiddlError(
                f"expected {dim} as (start, stop) inside {number(float(values.min()))} to "
                f"{number(float(values.max()))} {unit}, got {window!r}, which holds no pixel"
            )
        recording = recording.isel({dim: inside})
    return recording
