"""What an image of noise looks like, in numbers."""

from __future__ import annotations

import numpy as np

from niddl_xr.simulation._kernels.noise_estimation import tile_means

LAGS = (1, 2, 3)
PERCENTILES = (99.0, 99.9, 99.99)
STATISTICS = (
    "dark_mean",
    "dark_sd",
    "row_mean_sd",
    *(f"correlation_x_{lag}" for lag in LAGS),
    *(f"correlation_y_{lag}" for lag in LAGS),
    "skewness",
    *(f"percentile_{percent:g}" for percent in PERCENTILES),
)


def plane_statistics(plane: np.ndarray, size: int) -> np.ndarray:
    """Return the STATISTICS of a plane (y, x), the dark ones from its darkest square tile of ``size`` px."""
    means = tile_means(plane, size)
    row, column = np.unravel_index(np.argmin(means), means.shape)
    tile = plane[row * size : (row + 1) * size, column * size : (column + 1) * size].astype(np.float64)
    rest = tile - tile.mean()
    variance = (rest**2).mean()
    if variance == 0:
        dark = np.full(len(STATISTICS) - len(PERCENTILES) - 1, np.nan)
        return np.concatenate([[tile.mean()], dark, np.percentile(plane, PERCENTILES)])
    along_x = [(rest[:, lag:] * rest[:, :-lag]).mean() / variance for lag in LAGS]
    along_y = [(rest[lag:] * rest[:-lag]).mean() / variance for lag in LAGS]
    shape = [tile.mean(), np.sqrt(variance), rest.mean(1).std(), *along_x, *along_y, (rest**3).mean() / variance**1.5]
    return np.concatenate([shape, np.percentile(plane, PERCENTILES)])
