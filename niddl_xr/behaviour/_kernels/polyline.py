"""Lines as other tools store them: few points, not smoothed.

Points are (n, 2) as (y, x) in µm, in order, y pointing down as on the display.
"""

from __future__ import annotations

import numpy as np


def resampled(points_um: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` points (count, 2) at equal steps along the polygon of points."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_um, axis=0).T))])
    wanted = np.linspace(0, along[-1], count)
    return np.stack([np.interp(wanted, along, axis) for axis in points_um.T], axis=1)


def polyline_length(points_um: np.ndarray) -> np.ndarray:
    """Return the length (...) of polygons of points (..., n, 2)."""
    return np.asarray(np.linalg.norm(np.diff(points_um, axis=-2), axis=-1).sum(axis=-1))


def polyline_curvature(points_um: np.ndarray) -> np.ndarray:
    """Return the curvature (..., n) in 1/mm at points (..., n, 2), positive to the right; that of a circle by three.

    Menger's: 4 times the area of the triangle over the product of its sides. The ends have that of their neighbours,
    and lines of two points NaN.
    """
    before, after = np.diff(points_um, axis=-2)[..., :-1, :], np.diff(points_um, axis=-2)[..., 1:, :]
    result = np.full(points_um.shape[:-1], np.nan)
    if points_um.shape[-2] < 3:
        return result
    cross = before[..., 1] * after[..., 0] - before[..., 0] * after[..., 1]
    sides = (np.linalg.norm(side, axis=-1) for side in (before, after, before + after))
    with np.errstate(divide="ignore", invalid="ignore"):
        result[..., 1:-1] = 2000 * cross / np.prod(list(sides), axis=0)
    result[..., 0], result[..., -1] = result[..., 1], result[..., -2]
    return result
