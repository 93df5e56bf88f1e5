"""Noise of cameras."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter


def row_stripes(shape: tuple[int, int], length_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return float32 noise (y, x) of SD 1 whose autocorrelation along x falls as exp(-distance / length)."""
    keep = np.float32(np.exp(-1 / length_px))
    kicks = rng.standard_normal(shape, dtype=np.float32)
    kicks[:, 1:] *= np.sqrt(1 - keep**2)
    one = np.float32(1)
    return np.asarray(lfilter([one], [one, -keep], kicks, axis=1), dtype=np.float32)
