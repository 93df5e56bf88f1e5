"""Shapes as sums of a few: angles of bodies (t, s) and modes (mode, s), each of mean square 1 over the body."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Modes(NamedTuple):
    """Modes (mode, s), and which part of the variance each explains (mode,)."""

    shapes: np.ndarray
    explained: np.ndarray


def mean_removed(angles: np.ndarray) -> np.ndarray:
    """Return angles (t, s) less their mean over the body, so that the heading does not count."""
    return np.asarray(angles - angles.mean(axis=1, keepdims=True))


def principal_modes(angles: np.ndarray, count: int) -> Modes:
    """Return the modes along which angles (t, s) vary most about their mean in time; the head quarter is positive."""
    deviation = angles - angles.mean(axis=0)
    _, scale, shapes = np.linalg.svd(deviation, full_matrices=False)
    shapes = shapes[:count] * np.sqrt(angles.shape[1])
    head = shapes[:, : max(1, angles.shape[1] // 4)].mean(axis=1)
    shapes *= np.where(head < 0, -1.0, 1.0)[:, None]
    total = float((scale**2).sum())
    return Modes(shapes, scale[:count] ** 2 / total if total > 0 else np.full(len(shapes), np.nan))


def amplitudes(angles: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return how much of each mode (mode, s) is in angles (t, s): the least-squares sum, (t, mode) in rad."""
    return np.asarray(np.linalg.lstsq(shapes.T, angles.T, rcond=None)[0].T)


def explained_by(angles: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return by how much each mode (mode,), after those before it, lowers the variance of angles (t, s), as a part."""
    deviation = angles - angles.mean(axis=0)
    total = float((deviation**2).sum())
    if total == 0:
        return np.full(len(shapes), np.nan)
    orthogonal, _ = np.linalg.qr(shapes.T)
    return np.asarray(((deviation @ orthogonal) ** 2).sum(axis=0) / total)


def resampled_modes(shapes: np.ndarray, count: int) -> np.ndarray:
    """Return modes (mode, n) at ``count`` places, of mean square 1."""
    places, wanted = np.linspace(0, 1, shapes.shape[1]), np.linspace(0, 1, count)
    result = np.stack([np.interp(wanted, places, shape) for shape in shapes])
    return np.asarray(result / np.sqrt((result**2).mean(axis=1, keepdims=True)))
