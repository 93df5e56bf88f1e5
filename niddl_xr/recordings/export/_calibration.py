"""What the coordinates of a recording state, in the terms of image formats: steps, origins and frame times."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.schema import MICROMETRE, SPACE_DIMS

EVEN = 1e-6  # relative deviation up to which steps count as equal


@dataclass(frozen=True)
class Calibration:
    """Voxel size and origin in µm of the dims that state them, time step and frame times in s.

    ``dt_s`` is None where the times are uneven or not in s; ``t_s`` is None where they are not in s. A dim whose
    coordinate is uneven is in ``uneven`` and has no voxel size; one that falls evenly is in ``falling``, and has the
    origin 0, because image formats know rising coordinates only.
    """

    voxel_um: Mapping[str, float]
    origin_um: Mapping[str, float]
    dt_s: float | None
    t_s: np.ndarray | None
    uneven: tuple[str, ...]
    falling: tuple[str, ...] = ()

    @property
    def starts_at_zero(self) -> bool:
        """Whether ``dt_s`` alone says all about time."""
        return self.t_s is None or (float(self.t_s[0]) == 0 and (self.dt_s is not None or self.t_s.size == 1))

    def warn_of_space(self, what: str) -> None:
        """Warn of coordinates in µm that a format has no place for."""
        lost = [f"no pixel size is written along the uneven {dim}" for dim in self.uneven if dim in SPACE_DIMS]
        lost += [f"the pixel size is written along the falling {dim}, but not the place" for dim in self.falling]
        if lost:
            warnings.warn(f"{what} holds even, rising coordinates: {'; '.join(lost)}", stacklevel=5)


def calibration_of(recording: xr.DataArray) -> Calibration:
    """Return what the coordinates of a recording state; indices state nothing."""
    voxel, origin, uneven, falling = {}, {}, [], []
    for dim in SPACE_DIMS:
        if recording[dim].attrs.get("units") not in MICROMETRE:
            continue
        values = np.asarray(recording[dim].values, dtype=float)
        origin[dim] = float(values[0])
        if values.size > 1:
            step = even_step(values)
            if step is None and (step := even_step(values[::-1])) is not None:
                falling.append(dim)
                origin[dim] = 0.0
            if step is None:
                uneven.append(dim)
            else:
                voxel[dim] = step
    times = np.asarray(recording["t"].values, dtype=float) if recording["t"].attrs.get("units") == "s" else None
    interval = even_step(times) if times is not None and times.size > 1 else None
    if times is not None and times.size > 1 and interval is None:
        uneven.append("t")
    return Calibration(voxel, origin, interval, times, tuple(uneven), tuple(falling))


def even_step(values: np.ndarray) -> float | None:
    """Return the step of evenly increasing values, free of the rounding that neighbours have, else None."""
    step = float(values[-1] - values[0]) / (values.size - 1)
    if not np.isfinite(step) or step <= 0 or not np.allclose(np.diff(values), step, rtol=EVEN, atol=0):
        return None
    first = float(values[1] - values[0])
    # The step that the coordinate was made with, where it gives the same values.
    return first if np.array_equal(np.arange(values.size) * first + values[0], values) else step
