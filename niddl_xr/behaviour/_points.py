"""Centrelines from points that another tool has found."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.behaviour._assembly import Found
from niddl_xr.behaviour._kernels import penalised
from niddl_xr.posture import CENTERLINE_DIMS
from niddl_xr.schema import MICROMETRE, NiddlError

LENGTHS_UM = {"mm": 1e3, "millimetre": 1e3, "millimeter": 1e3, "m": 1e6, "nm": 1e-3}
MOST_MISSING = 0.2  # of the points of a frame, none of them an end
NOT_GIVEN, INCOMPLETE = "no centreline given", "centreline incomplete"


def from_points(source: xr.DataArray | xr.Dataset, *, points: int, smooth_um: float | None) -> Found:
    """Return smooth centrelines through points (t, s, space), in the direction in which they are given."""
    line = source["centerline"] if isinstance(source, xr.Dataset) else source
    given = _in_um(line)
    frames = len(given)
    lines, curvature = np.full((frames, points, 3), np.nan), np.full((frames, points), np.nan)
    length, reason = np.full(frames, np.nan), np.full(frames, NOT_GIVEN, dtype=object)
    for frame, place in enumerate(given):
        known = np.isfinite(place[:, 1:]).all(axis=1)
        if not known.any():
            continue
        reason[frame] = INCOMPLETE
        if not (known[0] and known[-1]) or known.mean() < 1 - MOST_MISSING:
            continue
        found = penalised.smooth_line(place[known, 1:], smooth_um, points)
        if found is None:
            continue
        lines[frame, :, 1:] = found.points_um
        lines[frame, :, 0] = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, known.sum()), place[known, 0])
        curvature[frame], length[frame], reason[frame] = found.curvature_per_mm, found.length_um, ""
    quality = np.where(reason == "", 1.0, 0.0)
    if isinstance(source, xr.Dataset):
        quality = np.where(reason == "", _of_frames(source, "quality", quality), 0.0)
        why = _of_frames(source, "reason", np.full(frames, ""))
        keep = (reason == NOT_GIVEN) & (why != "")
        reason[keep] = why[keep]
    unknown = np.full((frames, points), np.nan)
    return Found(lines, curvature, length, quality, reason, unknown, unknown)


def _of_frames(source: xr.Dataset, name: str, otherwise: np.ndarray) -> np.ndarray:
    return np.asarray(source[name].values) if name in source and source[name].dims == ("t",) else otherwise


def _in_um(line: xr.DataArray) -> np.ndarray:
    """Return points (t, s, 3) as z, y, x in µm; z is 0 where there is none."""
    if set(line.dims) != set(CENTERLINE_DIMS):
        raise NiddlError(f"expected points with dims {CENTERLINE_DIMS}, got {line.dims}; see DataArray.rename")
    if "space" not in line.coords or not {"y", "x"} <= set(line["space"].values.tolist()):
        raise NiddlError("expected the coordinate space to name the axes y and x (and z); see assign_coords")
    unit = line.attrs.get("units")
    if unit not in MICROMETRE and unit not in LENGTHS_UM:
        raise NiddlError(
            f"expected points in µm, got units {unit!r}: multiply pixels by the size of a pixel, and set "
            "attrs['units'] = 'µm'"
        )
    axes = line["space"].values.tolist()
    line = line.transpose(*CENTERLINE_DIMS)
    values = line.sel(space=["y", "x"]).values.astype(np.float64)
    depth = line.sel(space=["z"]).values.astype(np.float64) if "z" in axes else np.zeros((*values.shape[:2], 1))
    scale = 1.0 if unit in MICROMETRE else LENGTHS_UM[str(unit)]
    return np.concatenate([depth, values], axis=-1) * scale
