"""Which frame of the tracks belongs to which of a recording, and where a position in µm lies among its voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError

SAME_TIME = 0.1  # of the time between frames: times are stored in float32 and float64
EVEN = 1e-3  # of the voxel size


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a recording are: ``place = (position - origin) / step``, each (3,) along z, y, x.

    Origin and step are in µm; the step is negative where an axis falls, and infinite where it has one voxel alone, in
    which every position then lies.
    """

    origin_um: np.ndarray
    step_um: np.ndarray

    def places(self, positions_um: np.ndarray) -> np.ndarray:
        """Return positions (..., 3) in voxels, float64."""
        return np.asarray((positions_um.astype(np.float64) - self.origin_um) / self.step_um)

    @property
    def voxel_um(self) -> np.ndarray:
        """Return the size of a voxel (3,), 1 along an axis of one voxel."""
        return np.where(np.isfinite(self.step_um), np.abs(self.step_um), 1.0)


def grid_of(recording: xr.DataArray) -> Grid:
    """Return the grid of a recording whose axes are in µm and even."""
    origin, step = np.zeros(3), np.ones(3)
    for axis, dim in enumerate(SPACE_DIMS):
        if recording.sizes[dim] == 1:
            step[axis] = np.inf
            continue
        if dim not in recording.coords or recording[dim].attrs.get("units") not in MICROMETRE:
            unit = recording[dim].attrs.get("units") if dim in recording.coords else None
            raise NiddlError(
                f"expected the axis {dim} of the recording in µm, as the positions of tracks are, got units {unit!r}: "
                "open it with voxel_um=(z, y, x)"
            )
        centres = recording[dim].values.astype(np.float64)
        origin[axis], step[axis] = centres[0], (centres[-1] - centres[0]) / (len(centres) - 1)
        if step[axis] == 0 or np.any(np.abs(np.diff(centres) - step[axis]) > EVEN * abs(step[axis])):
            raise NiddlError(
                f"expected evenly spaced voxels along {dim}, got steps of {np.diff(centres).min():.4g} to "
                f"{np.diff(centres).max():.4g} µm: select a contiguous part, or interpolate"
            )
    return Grid(origin, step)


def common_frames(recording: xr.DataArray, tracks: xr.Dataset) -> tuple[np.ndarray, np.ndarray, str]:
    """Return which frames of the recording and of the tracks are the same, and by what: "t" or "index"."""
    if "t" not in recording.coords or "t" not in tracks.coords:
        return _by_index(recording, tracks, "one of them has no coordinate t")
    units = [obj["t"].attrs.get("units") for obj in (recording, tracks)]
    if units[0] != units[1]:
        return _by_index(recording, tracks, f"their times are in {units[0]!r} and {units[1]!r}")
    times, tracked = (obj["t"].values.astype(np.float64) for obj in (recording, tracks))
    for name, values in (("the recording", times), ("the tracks", tracked)):
        if np.any(np.diff(values) <= 0) or not np.all(np.isfinite(values)):
            raise NiddlError(f"expected the times of {name} finite and rising; see sortby('t')")
    interval = min(float(np.median(np.diff(values))) if len(values) > 1 else np.inf for values in (times, tracked))
    nearest = _nearest(tracked, times)
    tolerance = SAME_TIME * interval if np.isfinite(interval) else 1e-6
    same = np.abs(tracked[nearest] - times) <= tolerance
    if not same.any():
        raise NiddlError(
            f"expected tracks of the times of the recording ({times[0]:g} to {times[-1]:g} {units[0]}), got tracks of "
            f"{tracked[0]:g} to {tracked[-1]:g} {units[1]}: are they of another recording?"
        )
    return np.flatnonzero(same), nearest[same], "t"


def _nearest(rising: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the index of the element of ``rising`` that is nearest to each of ``values``."""
    if len(rising) == 1:
        return np.zeros(len(values), dtype=int)
    after = np.clip(np.searchsorted(rising, values), 1, len(rising) - 1)
    return np.asarray(after - (values - rising[after - 1] < rising[after] - values))


def _by_index(recording: xr.DataArray, tracks: xr.Dataset, reason: str) -> tuple[np.ndarray, np.ndarray, str]:
    if recording.sizes["t"] != tracks.sizes["t"]:
        raise NiddlError(
            f"expected tracks of as many frames as the recording, because {reason}, got {tracks.sizes['t']} and "
            f"{recording.sizes['t']}: give both the same coordinate t, see assign_coords"
        )
    frames = np.arange(recording.sizes["t"])
    return frames, frames, "index"
