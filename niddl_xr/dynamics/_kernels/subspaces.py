"""How alike two sets of modes are."""

from __future__ import annotations

import numpy as np
from scipy.linalg import subspace_angles, svd


def principal_angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the angles (mode,) between the spaces that the columns of two (neuron, mode) span, smallest first."""
    return np.asarray(np.rad2deg(np.sort(subspace_angles(a, b))))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine, without sign, between columns (mode,) of two (neuron, mode); NaN for a column of zeros."""
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(np.einsum("nm,nm->m", a, b)) / np.where(lengths > 0, lengths, np.nan))


def procrustes_r2(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """Return how much of trajectory ``a`` (t, mode), by mode and in all, ``b`` explains once moved, turned and scaled.

    The turn (mirroring included) and the scale are those of least squares (Schönemann, Psychometrika 31:1, 1966).
    NaN where ``a`` does not move.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    left, stretch, right = svd(b.T @ a, full_matrices=False)
    power = float(np.sum(b**2))
    fitted = b @ (left @ right) * (stretch.sum() / power if power > 0 else 0.0)
    missed, there = np.sum((a - fitted) ** 2, axis=0), np.sum(a**2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        by_mode = np.where(there > 0, 1 - missed / there, np.nan)
        overall = float(1 - missed.sum() / there.sum()) if there.sum() > 0 else float("nan")
    return by_mode, overall
