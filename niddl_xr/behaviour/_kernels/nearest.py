"""The point on a line that is nearest to another."""

from __future__ import annotations

import numpy as np


def nearest_on_line(points: np.ndarray, lines: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far along a line the point nearest to each of ``points`` lies, and its distance, both (t, point).

    ``points`` (t, point, space), ``lines`` (t, s, space) of straight pieces, ``along`` (s,) what to call their corners.
    NaN where a point is, and in frames whose line has gaps.
    """
    shape = points.shape[:2]
    place, distance = np.full(shape, np.nan), np.full(shape, np.nan)
    for frame, (here, line) in enumerate(zip(points, lines, strict=True)):
        if not np.isfinite(line).all():
            continue
        piece = np.diff(line, axis=0)
        from_corner = here[:, None] - line[None, :-1]
        squared = np.maximum((piece**2).sum(-1), 1e-12)
        part = np.clip((from_corner * piece).sum(-1) / squared, 0.0, 1.0)
        away = np.sqrt(((from_corner - part[..., None] * piece) ** 2).sum(-1))
        known = np.isfinite(away).all(axis=-1)
        best = away[known].argmin(axis=-1)
        rows = np.flatnonzero(known)
        place[frame, rows] = along[best] + part[rows, best] * (along[best + 1] - along[best])
        distance[frame, rows] = away[rows, best]
    return place, distance
