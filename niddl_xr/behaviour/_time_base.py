"""Traces and behaviour on one even grid of times."""

from __future__ import annotations

from dataclasses import dataclass
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels.averaging import bin_means, interval_means
from niddl_xr.schema import NiddlError

ONE_STEP = 1.5  # median steps: what is longer lacks a frame
EVEN = 0.05  # of an interval: frames may lie so far beside an even grid
MOST_BINS_PER_FRAME = 10  # a grid with more places than that for a frame is a time coordinate gone wrong
LEAST_COVERED = 0.95  # of the traces, below which the caller is told that behaviour is shorter


@dataclass(frozen=True)
class Grid:
    """Even times (frame,) in s and their interval; ``times_s`` are those of the traces, ``even`` whether they fit."""

    centres_s: np.ndarray
    interval_s: float
    times_s: np.ndarray
    even: bool

    def of_traces(self, values: np.ndarray) -> np.ndarray:
        """Return ``values`` (..., t) of the traces on the grid; several frames of one place are averaged."""
        if self.even:
            return values
        return bin_means(self.times_s, values, float(self.centres_s[0]), self.interval_s, self.centres_s.size)

    def of_behaviour(self, values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Return ``values`` (..., t) sampled at ``times_s`` as averages over each interval of the grid."""
        place = (times_s - self.centres_s[0]) / self.interval_s
        if np.all(np.abs(place - np.rint(place)) <= EVEN) and np.diff(place).min() > 0.5:
            # Samples at the very times of the frames stay as they are.
            index = np.rint(place).astype(int)
            inside = (index >= 0) & (index < self.centres_s.size)
            found = np.full((*values.shape[:-1], self.centres_s.size), np.nan)
            found[..., index[inside]] = values[..., inside]
            return found
        return interval_means(times_s, values, self.centres_s, self.interval_s)


def times_of(obj: xr.DataArray | xr.Dataset, what: str) -> np.ndarray:
    """Return the rising times in s of ``obj``, which errors call ``what``."""
    if "t" not in obj.dims or "t" not in obj.coords:
        raise NiddlError(f"expected {what} with a coordinate t in s, got dims {tuple(obj.dims)}; see assign_coords")
    if obj["t"].attrs.get("units") != "s":
        raise NiddlError(
            f"expected t of {what} in s, got units {obj['t'].attrs.get('units')!r}: give seconds and set "
            't.attrs["units"] = "s"'
        )
    times = obj["t"].values.astype(float)
    if times.size < 2 or not np.all(np.isfinite(times)):
        raise NiddlError(f"expected two or more finite times t of {what}, got {times.size}")
    if np.any(np.diff(times) <= 0):
        raise NiddlError(f"expected times t of {what} that increase, got some that repeat or go back; see sortby('t')")
    return times


def grid_of(traces: xr.Dataset) -> Grid:
    """Return the even grid that the times of ``traces`` lie on, or near."""
    times = times_of(traces, "traces")
    steps = np.diff(times)
    # The median alone is off where times are rounded, the mean where frames are missing.
    interval = float(steps[steps < ONE_STEP * np.median(steps)].mean())
    bins = round((times[-1] - times[0]) / interval) + 1
    if bins > MOST_BINS_PER_FRAME * times.size:
        raise NiddlError(
            f"expected traces in nearly even steps, got {times.size} frames over {bins} steps of {interval:g} s "
            "between most of them: cut the recording at its gaps and correlate the parts"
        )
    interval = float((times[-1] - times[0]) / (bins - 1))
    centres = times[0] + np.arange(bins) * interval
    even = bins == times.size and bool(np.all(np.abs(times - centres) <= EVEN * interval))
    return Grid(centres, interval, times, even)


def require_overlap(grid: Grid, times_s: np.ndarray, what: str) -> None:
    """Raise where ``times_s`` of ``what`` and the grid have no common part; warn where it is not nearly all of it."""
    start, end = grid.centres_s[0], grid.centres_s[-1]
    common = min(end, times_s[-1]) - max(start, times_s[0])
    if common <= 0:
        raise NiddlError(
            f"expected traces and {what} of one time, got traces from {start:g} to {end:g} s and {what} from "
            f"{times_s[0]:g} to {times_s[-1]:g} s: give both the same clock"
        )
    if common < LEAST_COVERED * (end - start):
        warn(
            f"{what} covers {common:.4g} of the {end - start:.4g} s of the traces; only the common part is used",
            stacklevel=5,
        )
