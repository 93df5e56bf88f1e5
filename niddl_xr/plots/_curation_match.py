"""Whether tracks can be of a recording: what is asked before anything is drawn or written."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError

# A position may lie this far outside the outermost voxel centres: a nucleus at the edge of the field.
MARGIN_UM = 3.0
SAME_TIME_S = 1e-3


def require_match(recording: xr.DataArray, tracks: xr.Dataset) -> xr.Dataset:
    """Return ``tracks`` if they can be of this recording and hold a neuron, else raise one error that says why not."""
    pixels = [dim for dim in SPACE_DIMS if recording.sizes[dim] > 1 and not _in_um(recording, dim)]
    if pixels:
        raise NiddlError(
            f"expected a recording in µm, as tracks are, got {', '.join(pixels)} in pixels; "
            "set voxel_um=(z, y, x) where it is opened"
        )
    if not tracks.sizes["neuron"]:
        raise NiddlError("expected tracks with neurons, got none: there is nothing to curate; see niddl_xr.track")
    if tracks.sizes["t"] != recording.sizes["t"]:
        raise NiddlError(
            f"expected tracks of {recording.sizes['t']} frames, as the recording has, got {tracks.sizes['t']}; "
            "select the same frames of both with isel(t=...)"
        )
    times = [obj["t"].values for obj in (recording, tracks) if obj["t"].attrs.get("units") == "s"]
    apart = float(np.abs(times[0] - times[1]).max()) if len(times) == 2 else 0.0
    if apart > SAME_TIME_S:
        raise NiddlError(
            f"expected tracks at the times of the recording, got times up to {apart:g} s apart: "
            "are they of another part of it?"
        )
    position = tracks["position"].values.reshape(-1, 3)
    known = position[np.isfinite(position).all(axis=1)]
    if not len(known):
        raise NiddlError("expected tracks with positions, got NaN alone: there is nothing to curate")
    reach = {dim: reach_um(recording, dim) for dim in SPACE_DIMS}
    low, high = (np.array([reach[dim][end] for dim in SPACE_DIMS]) for end in (0, 1))
    outside = float(np.mean(((known < low) | (known > high)).any(axis=1)))
    if outside > 0.5:
        extents = [f"{dim} {known[:, n].min():.4g} to {known[:, n].max():.4g}" for n, dim in enumerate(SPACE_DIMS)]
        room = [f"{dim} {recording[dim].values.min():.4g} to {recording[dim].values.max():.4g}" for dim in SPACE_DIMS]
        raise NiddlError(
            f"expected positions inside the recording ({', '.join(room)} µm), got {outside:.0%} outside "
            f"({', '.join(extents)}): they are to be in µm, not pixels, in the order z, y, x"
        )
    return tracks


def _in_um(recording: xr.DataArray, dim: str) -> bool:
    return recording[dim].attrs.get("units") in MICROMETRE


def reach_um(recording: xr.DataArray, dim: str) -> tuple[float, float]:
    """Return where a position may lie along ``dim`` in µm; anywhere along a dim of one plane."""
    if recording.sizes[dim] == 1:
        return -np.inf, np.inf
    values = recording[dim].values
    return float(values.min()) - MARGIN_UM, float(values.max()) + MARGIN_UM
