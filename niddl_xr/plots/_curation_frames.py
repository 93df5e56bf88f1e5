"""The pixels that a curator sees: projections and cuts of the frames at hand, kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.schema import SPACE_DIMS

KEPT_BYTES = 512 * 2**20  # of frames that were looked at, so that going back and forth reads nothing
SLAB_UM = 3.0  # half the thickness of a cut: a nucleus and its nearest neighbours
COLUMN_UM = 1.0  # half the width of the column in which the brightest voxel is sought: less than a nucleus


@dataclass(frozen=True)
class Picture:
    """Pixels (rows, columns) in counts and their edges in µm: left, top, right, bottom; rows go downwards."""

    values: np.ndarray
    edges: tuple[float, float, float, float]


def upright(recording: xr.DataArray) -> xr.DataArray:
    """Return a recording whose z, y and x increase."""
    for dim in SPACE_DIMS:
        values = recording[dim].values
        if len(values) > 1 and values[-1] < values[0]:
            recording = recording.isel({dim: slice(None, None, -1)})
    return recording


class Frames:
    """Frames of a recording, loaded when they are looked at; the last ones are kept, up to 512 MB."""

    def __init__(self, recording: xr.DataArray) -> None:
        self.recording = recording = upright(recording)
        self.places_um = {dim: np.asarray(recording[dim].values, dtype=float) for dim in SPACE_DIMS}
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._xy: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return int(self.recording.sizes["t"])

    def volume(self, t: int) -> np.ndarray:
        """Return the voxels (z, y, x) of a frame."""
        if t not in self._kept:
            volume = self.recording.isel(t=t).values
            while self._kept and volume.nbytes * (len(self._kept) + 1) > KEPT_BYTES:
                self._kept.popitem(last=False)
            self._kept[t] = volume
        self._kept.move_to_end(t)
        return self._kept[t]

    def step_um(self, dim: str) -> float:
        """Return the distance of two voxels; that along x (or y) for a dim of one voxel."""
        for name in (dim, "x", "y"):
            places = self.places_um[name]
            if len(places) > 1:
                return float(places[-1] - places[0]) / (len(places) - 1)
        return 1.0

    def edges(self, dim: str) -> tuple[float, float]:
        """Return the outer edges of a dim in µm, half a voxel beyond the centres."""
        places, half = self.places_um[dim], self.step_um(dim) / 2
        return float(places[0]) - half, float(places[-1]) + half

    def xy(self, t: int, plane: int | None = None) -> Picture:
        """Return one plane (y, x), or the maximum over z."""
        if plane is not None:
            values = self.volume(t)[plane]
        else:
            if self._xy is None or self._xy[0] != t:
                self._xy = t, np.fmax.reduce(self.volume(t), axis=0)
            values = self._xy[1]
        return Picture(values, self._corners("y", "x"))

    def xz(self, t: int, y_um: float | None = None) -> Picture:
        """Return the maximum (z, x) over y, within 3 µm of ``y_um`` where it is given."""
        rows = slice(None) if y_um is None else self._within("y", y_um, SLAB_UM)
        return Picture(np.fmax.reduce(self.volume(t)[:, rows], axis=1), self._corners("z", "x"))

    def around(self, t: int, place_um: np.ndarray, half_um: float) -> Picture:
        """Return the maximum (y, x) over z within 3 µm, in a square about a place; 0 outside of the recording."""
        volume = self.volume(t)
        planes = self._within("z", place_um[0], SLAB_UM) if volume.shape[0] > 1 else slice(None)
        cut = np.fmax.reduce(volume[planes], axis=0)
        picture, edges = cut, []
        for axis, dim in enumerate(("y", "x")):
            step, first = self.step_um(dim), self.places_um[dim][0]
            reach = max(1, round(half_um / step))
            middle = round((place_um[axis + 1] - first) / step)
            wanted = np.arange(middle - reach, middle + reach + 1)
            picture = picture.take(np.clip(wanted, 0, picture.shape[axis] - 1), axis=axis)
            absent = (wanted < 0) | (wanted >= cut.shape[axis])
            picture[absent if axis == 0 else (slice(None), absent)] = 0
            edges.append((first + (wanted[0] - 0.5) * step, first + (wanted[-1] + 0.5) * step))
        (top, bottom), (left, right) = edges
        return Picture(picture, (left, top, right, bottom))

    def brightest_um(self, t: int, y_um: float, x_um: float) -> float:
        """Return the depth z at which a column of 2 × 2 µm about y, x is brightest; NaN where it holds no number."""
        column = self.volume(t)[:, self._within("y", y_um, COLUMN_UM), self._within("x", x_um, COLUMN_UM)]
        finite = np.isfinite(column)
        count = finite.sum(axis=(1, 2))
        if not count.any():
            return float("nan")
        light = np.where(finite, column, 0).sum(axis=(1, 2), dtype=float)
        return float(self.places_um["z"][int(np.argmax(np.where(count, light / np.maximum(count, 1), -np.inf)))])

    def _within(self, dim: str, place_um: float, half_um: float) -> slice:
        """Return the voxels within a distance of a place, at least the nearest one."""
        apart = np.abs(self.places_um[dim] - place_um)
        inside = np.flatnonzero(apart <= half_um)
        nearest = int(np.argmin(apart))
        return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(nearest, nearest + 1)

    def _corners(self, rows: str, columns: str) -> tuple[float, float, float, float]:
        (top, bottom), (left, right) = self.edges(rows), self.edges(columns)
        return left, top, right, bottom
