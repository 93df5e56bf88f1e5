"""Gaussian smoothing that leaves out what is not known."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


def smooth_known(values: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    """Return a Gaussian mean of what is finite, of ``sigma`` steps along ``axis``; NaN stays, and ends do not fade."""
    known = np.isfinite(values)
    weights = gaussian_filter1d(known.astype(np.float64), sigma, axis=axis, mode="constant")
    total = gaussian_filter1d(np.where(known, values, 0.0), sigma, axis=axis, mode="constant")
    return np.where(known, total / np.maximum(weights, 1e-12), np.nan)
