"""The worm of every frame of masks or images, each frame by itself: outline, skeleton, smooth centreline, widths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree

from niddl_xr.behaviour._kernels import outline, penalised, skeleton
from niddl_xr.behaviour._kernels.spline import Line
from niddl_xr.chunking import CHUNK_BYTES, frames_within

COVERED_PX = 4000  # pixels of the outline, at most, that are looked for along the centreline
BESIDE = 1.3  # local radii from the centreline, and a pixel more


@dataclass(frozen=True)
class Recipe:
    """How frames become centrelines. ``bright`` is None for masks; ``pixel_um`` and ``origin_um`` (2,) are y, x."""

    pixel_um: np.ndarray
    origin_um: np.ndarray
    points: int
    smooth_um: float | None
    bright: bool | None
    blur_um: float
    least_distinct: float


@dataclass(frozen=True)
class Shape:
    """The worm of one frame; ``line`` is None where its skeleton has no length. Brightness and radius are (s,)."""

    line: Line | None
    radius_um: np.ndarray
    brightness: np.ndarray
    area_um2: float
    hole_um: float
    branch_um: float
    uncovered: float
    second: float
    at_edge: bool


def planes(source: xr.DataArray) -> Iterator[np.ndarray]:
    """Yield the frames (z, y, x) of (t, z, y, x) one after the other, reading a few at a time."""
    length = frames_within(source.shape[1:], source.dtype.itemsize, CHUNK_BYTES)
    start = 0
    for stop in _stops(source, length):
        yield from source.isel(t=slice(start, stop)).values
        start = stop


def _stops(source: xr.DataArray, length: int) -> list[int]:
    """Return where blocks of reading end: at the ends of dask's chunks, so that none is computed twice."""
    if source.chunks is None:
        return [*range(length, source.sizes["t"], length), source.sizes["t"]]
    chunks = np.asarray(source.chunks[0])
    ends = np.cumsum(chunks)
    stops, start = [], 0
    for end, following in zip(ends, [*chunks[1:], 0], strict=True):
        if end - start + following > length or following == 0:
            stops.append(int(end))
            start = int(end)
    return stops


def shape_of(volume: np.ndarray, recipe: Recipe) -> Shape | None:
    """Return the worm of a frame (z, y, x), None where there is none."""
    if recipe.bright is None:
        image, mask = None, np.asarray(volume.any(axis=0))
    else:
        image = volume[0] if len(volume) == 1 else (volume.max(axis=0) if recipe.bright else volume.min(axis=0))
        cut = outline.cut_image(image, recipe.bright, recipe.blur_um / float(recipe.pixel_um.mean()))
        if cut.distinct < recipe.least_distinct:
            return None
        mask = cut.mask
    piece = outline.largest_piece(mask)
    return None if piece is None else _measured(piece, image, recipe)


def _measured(piece: outline.Piece, image: np.ndarray | None, recipe: Recipe) -> Shape:
    from skimage.morphology import skeletonize

    pixel_um = piece.block * recipe.pixel_um
    scale = float(pixel_um.mean())
    depth = distance_transform_edt(piece.filled)
    thin = skeletonize(piece.filled)  # type: ignore[no-untyped-call]
    path = skeleton.longest_path(thin)
    line = None
    if path is not None:
        pixels = skeleton.extend_to_outline(path.pixels, depth)
        line = penalised.smooth_line(pixels * pixel_um, recipe.smooth_um, recipe.points)
    empty = np.full(recipe.points, np.nan)
    radius, brightness, uncovered = empty, empty, np.nan
    if line is not None:
        radius = map_coordinates(depth, (line.points_um / pixel_um).T, order=1) * scale
        uncovered = _uncovered(piece.filled, line.points_um / pixel_um, radius / scale)
        in_image = line.points_um + piece.corner * recipe.pixel_um
        if image is not None:
            brightness = map_coordinates(image, (in_image / recipe.pixel_um).T, order=1, mode="nearest", output=float)
        line = line._replace(points_um=in_image + recipe.origin_um)
    return Shape(
        line=line,
        radius_um=radius,
        brightness=brightness,
        area_um2=piece.area_px * float(np.prod(recipe.pixel_um)),
        hole_um=float(depth[piece.holes].max()) * scale if piece.holes.any() else 0.0,
        branch_um=np.nan if path is None else path.branch_px * scale,
        uncovered=uncovered,
        second=piece.second,
        at_edge=piece.at_edge,
    )


def _uncovered(mask: np.ndarray, line_px: np.ndarray, radius_px: np.ndarray) -> float:
    """Return the part of the pixels of a mask (y, x) that are farther from the line (s, 2) than it is deep there."""
    pixels = np.argwhere(mask)
    pixels = pixels[:: max(1, len(pixels) // COVERED_PX)]
    distance, nearest = cKDTree(line_px).query(pixels)
    return float((distance > BESIDE * radius_px[nearest] + 1).mean())
