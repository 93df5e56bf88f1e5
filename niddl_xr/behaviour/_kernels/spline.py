"""Smooth lines cut into equal steps, and how they bend.

Points are (n, 2) as (y, x) in µm, y pointing down as on the display, in order from head to tail.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import splev

FINE_STEPS = 10  # of the measuring of arcs, for each step of the result


class Line(NamedTuple):
    """A centreline: points (s, 2) in µm, equally far apart along it, its curvature (s,) in 1/mm, its length in µm.

    The curvature is positive where the line bends to the right of one who walks along it on the display.
    """

    points_um: np.ndarray
    curvature_per_mm: np.ndarray
    length_um: float


def equal_arcs(spline: Any, count: int, middle: np.ndarray) -> Line:
    """Cut a spline, as (knots, coefficients of y and x, degree), into points at equal arcs and add ``middle``."""
    start, stop = spline[0][0], spline[0][-1]
    fine = np.linspace(start, stop, FINE_STEPS * count + 1)
    speed = np.hypot(*splev(fine, spline, der=1))
    arc = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(fine))])
    where = np.interp(np.linspace(0, arc[-1], count), arc, fine)
    (y1, x1), (y2, x2) = splev(where, spline, der=1), splev(where, spline, der=2)
    bend = (x1 * y2 - y1 * x2) / np.maximum(np.hypot(x1, y1), 1e-12) ** 3
    return Line(np.stack(splev(where, spline), axis=1) + middle, 1000 * bend, float(arc[-1]))


def moved_line(points_um: np.ndarray, curvature_per_mm: np.ndarray, length_um: float, distance_um: float) -> Line:
    """Move a line by ``distance_um`` to its right, as seen on the display, and cut it into equal steps again.

    Towards the centre of a circle of curvature k, by d, it becomes k / (1 - k d), and shorter by 1 - k d. NaN stays.
    """
    known = np.isfinite(curvature_per_mm)
    bend = curvature_per_mm[known] / 1000
    y1, x1 = np.gradient(points_um[known], axis=0).T
    moved = points_um[known] + distance_um * np.stack([x1, -y1], axis=1) / np.hypot(y1, x1)[:, None]
    shrink = np.maximum(1 - bend * distance_um, 1e-3)
    share = np.linspace(0, 1, len(points_um))
    arc = np.concatenate([[0.0], np.cumsum((shrink[1:] + shrink[:-1]) / 2)])
    scale = arc[-1] / max(len(bend) - 1, 1)
    first, last = share[known][0], share[known][-1]
    place = first + (last - first) * arc / arc[-1]
    lines, bends = np.full(points_um.shape, np.nan), np.full(len(points_um), np.nan)
    for axis in (0, 1):
        lines[known, axis] = np.interp(share[known], place, moved[:, axis])
    bends[known] = np.interp(share[known], place, 1000 * bend / shrink)
    return Line(lines, bends, length_um * scale)


def tangent_angles(points_um: np.ndarray) -> np.ndarray:
    """Return the direction from head to tail (..., s) in rad at points (..., s, 2), from x towards y, unwrapped.

    NaN where a point or a neighbour is NaN.
    """
    step = np.gradient(points_um, axis=-2)
    return np.asarray(np.unwrap(np.arctan2(step[..., 0], step[..., 1]), axis=-1))
