"""What is slow is taken out of signals with gaps."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

FWHM_PER_SIGMA = float(2 * np.sqrt(2 * np.log(2)))
TRUNCATE_SIGMAS = 4.0
LEAST_WEIGHT = 1e-3  # of the kernel, under which a gap is too wide to tell what is slow


def highpass(values: np.ndarray, sigma_frames: float) -> np.ndarray:
    """Return ``values`` (..., frame) less a straight line fitted around each frame with Gaussian weights.

    NaN weighs nothing and stays NaN. A straight trend vanishes exactly, at the ends too.
    """
    shape = values.shape
    values = values.reshape(-1, shape[-1])
    known = np.isfinite(values)
    weight = known.astype(float)
    filled = np.where(known, values, 0.0)
    reach = max(1, int(np.ceil(TRUNCATE_SIGMAS * sigma_frames)))
    reach = min(reach, shape[-1])
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offset / sigma_frames) ** 2)

    def around(signal: np.ndarray, order: int) -> np.ndarray:
        # Sum over frames u of K(u - t) (u - t)^order signal(u); a convolution runs over t - u.
        moment = kernel * (-offset.astype(float)) ** order
        return np.asarray(fftconvolve(signal, moment[None], mode="same", axes=-1))

    s0, s1, s2 = (around(weight, order) for order in range(3))
    y0, y1 = (around(filled, order) for order in range(2))
    spread = s0 * s2 - s1**2
    # Where all weight lies on one frame there is no slope to fit.
    sloped = spread > 1e-9 * np.maximum(s0, 1e-300) ** 2 * sigma_frames**2
    with np.errstate(divide="ignore", invalid="ignore"):
        slow = np.where(sloped, (s2 * y0 - s1 * y1) / spread, y0 / s0)
    slow[s0 < LEAST_WEIGHT] = np.nan
    return np.asarray(np.where(known, values - slow, np.nan).reshape(shape))
