"""Two images of the same scene with different light: how many counts of one are a count of the other."""

from __future__ import annotations

import numpy as np

from niddl_xr.simulation._kernels.noise_estimation import tile_means

TILE_PX = 8
LEAST_SIGNIFICANCE = 5.0  # of the structure that tells a gain


def gain_between(noisy: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """Return the slope of ``clean`` over ``noisy`` (plane, y, x) and its standard error; NaN without structure.

    Each tile's neighbour in the clean image is the instrument, so that noise in neither image biases the slope.
    Outliers, beyond 4 robust SD of the residual, lose their weight.
    """
    rows = []
    for dim, bright in zip(noisy, clean, strict=True):
        x, y = tile_means(dim, TILE_PX), tile_means(bright, TILE_PX)
        pairs = x.shape[1] // 2 * 2
        left, right = np.s_[:, 0:pairs:2], np.s_[:, 1:pairs:2]
        for here, beside in ((left, right), (right, left)):
            rows.append(np.stack([y[beside].ravel(), x[here].ravel(), y[here].ravel()]))
    instrument, x, y = np.concatenate(rows, axis=1)
    weight = np.ones(len(x))
    for _ in range(5):
        share = weight / weight.sum()
        offset = instrument - share @ instrument
        lever = float(share @ (offset * x))
        noise = float(np.sqrt(((share * offset * (x - share @ x)) ** 2).sum()))
        if lever <= LEAST_SIGNIFICANCE * noise / np.sqrt(2):
            return np.nan, np.nan
        slope = float(share @ (offset * y)) / lever
        rest = y - share @ y - slope * (x - share @ x)
        error = float(np.sqrt(((share * offset * rest) ** 2).sum())) / lever
        # Noise grows with light: residuals are compared among tiles of about the same brightness.
        order = np.argsort(instrument)
        scale = np.empty_like(rest)
        for part in np.array_split(order, max(1, min(10, len(order) // 30))):
            scale[part] = 1.4826 * np.median(np.abs(rest[part] - np.median(rest[part]))) + 1e-12
        weight = np.clip(1 - (rest / (8 * scale)) ** 2, 0, 1) ** 2
    return slope, error
