"""Where the voxels of a recording are: from µm to places in the frame and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError

_UNEVEN = 0.1  # of a step


@dataclass(frozen=True)
class Grid:
    """Coordinates (3,) of the first voxel, and the step to the next in µm, negative where a coordinate falls."""

    start_um: np.ndarray
    step_um: np.ndarray
    shape: tuple[int, int, int]

    @property
    def voxel_um(self) -> np.ndarray:
        """Return the size of a voxel along z, y, x."""
        return np.asarray(np.abs(self.step_um))

    def inward(self, points_um: np.ndarray) -> np.ndarray:
        """Return points (n, 3) as distances in µm from the first voxel, along the axes of the array."""
        return np.asarray((points_um - self.start_um) * np.sign(self.step_um))

    def outward(self, places: np.ndarray) -> np.ndarray:
        """Return places (n, 3) in voxels as coordinates in µm."""
        return np.asarray(self.start_um + places * self.step_um)


def grid_of(recording: xr.DataArray) -> Grid:
    """Return the grid of a recording whose coordinates are in µm and evenly spaced, or raise."""
    starts, steps = zip(*(_axis(recording, dim) for dim in SPACE_DIMS), strict=True)
    z, y, x = (recording.sizes[dim] for dim in SPACE_DIMS)
    return Grid(np.array(starts), np.array(steps), (z, y, x))


def _axis(recording: xr.DataArray, dim: str) -> tuple[float, float]:
    """Return the first coordinate and the step of an axis; of a single plane the step is 1."""
    values = recording[dim].values.astype(np.float64)
    unit = recording[dim].attrs.get("units")
    if len(values) == 1:
        return (float(values[0]) if unit in MICROMETRE else 0.0), 1.0
    if unit not in MICROMETRE:
        raise NiddlError(
            f"expected the coordinate {dim} in µm, got units {unit!r}: "
            "say voxel_um=(z, y, x) when the recording is opened"
        )
    steps = np.diff(values)
    middle = float(np.median(steps))
    if not (np.all(np.isfinite(steps)) and middle != 0 and np.all(np.abs(steps - middle) <= _UNEVEN * abs(middle))):
        raise NiddlError(
            f"expected voxels evenly spaced along {dim}, got steps of {steps.min():g} to {steps.max():g} µm: "
            f"resample with interp({dim}=...)"
        )
    return float(values[0]), middle
