"""Centrelines of masks and images, streamed over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.behaviour._assembly import Found
from niddl_xr.behaviour._frame_shapes import Recipe, Shape, planes, shape_of
from niddl_xr.behaviour._kernels import coils, outline
from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError

SAMPLED = 5  # frames by which bright and dark are told apart
SMALL_PART = 0.35  # of the image, at most, is worm
LEAST_DISTINCT = 4.0  # SDs of the background: noise cut in two by its own threshold is 2.7 apart
BLUR_UM = {"bright": 5.0, "dark": 2.5}  # photons are few where the worm glows
LEAST_BLUR_PX = 1.0


def as_frames(source: xr.DataArray) -> xr.DataArray:
    """Return masks or images as (t, z, y, x), or raise."""
    missing = [dim for dim in ("t", "y", "x") if dim not in source.dims]
    extra = [str(dim) for dim in source.dims if dim not in ("t", *SPACE_DIMS)]
    if missing or extra:
        raise NiddlError(
            f"expected masks or images with dims (t, y, x) or (t, z, y, x), or points (t, s, space), got {source.dims}"
        )
    if source.size == 0:
        raise NiddlError(f"the source is empty: its sizes are {dict(source.sizes)}")
    if source.dtype.kind not in "buif":
        raise NiddlError(f"expected masks (bool) or counts, got dtype {source.dtype}")
    return (source if "z" in source.dims else source.expand_dims("z")).transpose("t", *SPACE_DIMS)


def grid_um(frames: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return step and origin (2,) of y and x in µm."""
    step, origin = np.ones(2), np.zeros(2)
    for axis, dim in enumerate(("y", "x")):
        if dim not in frames.coords or frames[dim].attrs.get("units") not in MICROMETRE:
            unit = frames[dim].attrs.get("units") if dim in frames.coords else None
            raise NiddlError(
                f"expected the axis {dim} in µm, got units {unit!r}: open the recording with voxel_um=(z, y, x), or "
                f"set {dim} with assign_coords and its attrs['units'] = 'µm'"
            )
        centres = frames[dim].values.astype(np.float64)
        if len(centres) < 8:
            raise NiddlError(f"expected frames of at least 8 pixels along {dim}, got {len(centres)}")
        step[axis], origin[axis] = (centres[-1] - centres[0]) / (len(centres) - 1), centres[0]
        if step[axis] <= 0 or np.any(np.abs(np.diff(centres) - step[axis]) > 1e-3 * step[axis]):
            raise NiddlError(f"expected pixels of {dim} evenly spaced and rising, as displayed; see sortby and interp")
    if not 0.9 < step[0] / step[1] < 1.1:
        raise NiddlError(f"expected square pixels, got {step[0]:g} x {step[1]:g} µm: make them so with interp")
    return step, origin


def is_bright(frames: xr.DataArray, contrast: str | None, pixel_um: float) -> bool | None:
    """Return whether the worm is brighter than the background, None for masks."""
    if frames.dtype.kind == "b":
        if contrast is not None:
            raise NiddlError(f"expected no contrast for masks, got {contrast!r}: True is worm; for images give counts")
        return None
    if contrast is not None:
        if contrast not in ("bright", "dark"):
            raise NiddlError(f'expected contrast="bright" or "dark", the worm against its background, got {contrast!r}')
        return contrast == "bright"
    chosen = np.unique(np.linspace(0, frames.sizes["t"] - 1, SAMPLED).round().astype(int))
    answers = set()
    for frame in chosen:
        volume = frames.isel(t=int(frame)).values
        known = volume[np.isfinite(volume)] if volume.dtype.kind == "f" else volume
        if not known.size:
            continue
        middle = volume.astype(np.float64).mean(axis=0)
        bright, part = outline.darker_or_brighter(middle, max(LEAST_BLUR_PX, BLUR_UM["dark"] / pixel_um))
        if part <= SMALL_PART:
            answers.add(bright)
    if len(answers) != 1:
        raise NiddlError(
            "expected images in which the worm is a small part, either brighter or darker than the rest; "
            f'these {len(chosen)} frames do not tell: give contrast="bright" or "dark"'
        )
    return bool(answers.pop())


def outlined(
    source: xr.DataArray, *, points: int, smooth_um: float | None, contrast: str | None, blur_um: float | None
) -> tuple[Found, dict[str, Any]]:
    """Return the centrelines of masks or images as they were found, and what to keep in attrs."""
    frames = as_frames(source)
    pixel_um, origin_um = grid_um(frames)
    scale = float(pixel_um.mean())
    bright = is_bright(frames, contrast, scale)
    if blur_um is None:
        blur_um = max(LEAST_BLUR_PX * scale, BLUR_UM["bright" if bright else "dark"])
    recipe = Recipe(pixel_um, origin_um, points, smooth_um, bright, blur_um, LEAST_DISTINCT)
    shapes = [shape_of(volume, recipe) for volume in planes(frames)]
    attrs = {} if bright is None else {"contrast": "bright" if bright else "dark"}
    z_um = float(np.mean(frames["z"].values)) if "z" in frames.coords else 0.0
    return _gathered(shapes, points, z_um, scale), attrs


def _gathered(shapes: list[Shape | None], points: int, z_um: float, pixel_um: float) -> Found:
    count = len(shapes)
    lines, curvature = np.full((count, points, 3), np.nan), np.full((count, points), np.nan)
    radius, brightness = np.full((count, points), np.nan), np.full((count, points), np.nan)
    numbers = {name: np.full(count, np.nan) for name in ("area", "length", "hole", "branch", "uncovered", "second")}
    at_edge = np.zeros(count, bool)
    for frame, shape in enumerate(shapes):
        if shape is None:
            continue
        numbers["area"][frame], numbers["hole"][frame] = shape.area_um2, shape.hole_um
        numbers["branch"][frame], numbers["uncovered"][frame] = shape.branch_um, shape.uncovered
        numbers["second"][frame], at_edge[frame] = shape.second, shape.at_edge
        radius[frame], brightness[frame] = shape.radius_um, shape.brightness
        if shape.line is not None:
            lines[frame, :, 0], lines[frame, :, 1:] = z_um, shape.line.points_um
            curvature[frame], numbers["length"][frame] = shape.line.curvature_per_mm, shape.line.length_um
    worm = np.array([shape is not None for shape in shapes])
    why = coils.reasons(
        coils.Measures(
            area_um2=numbers["area"],
            length_um=numbers["length"],
            radius_um=radius,
            hole_um=numbers["hole"],
            branch_um=numbers["branch"],
            uncovered=numbers["uncovered"],
            second=numbers["second"],
            at_edge=at_edge,
            worm=worm,
        ),
        pixel_um,
    )
    quality = np.where(why == "", 1 - np.nan_to_num(numbers["uncovered"]), 0.0)
    return Found(lines, curvature, numbers["length"], quality, why, radius, brightness)
