"""The plain filters that every method has to beat: arrays (..., y, x) in, float32 out, every plane by itself.

The baselines of :func:`niddl_xr.compare` and the filters of :func:`niddl_xr.classical` are these functions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

TRUNCATE_SIGMAS = 4.0  # where scipy.ndimage.gaussian_filter ends its kernel by default


def median(images: np.ndarray, *, size_px: int = 3) -> np.ndarray:
    """Median of ``size_px`` x ``size_px`` pixels in every plane; edges are reflected, the edge pixel repeated.

    >>> median(np.array([[5, 0, 0], [0, 9, 0], [0, 0, 0]])).tolist()
    [[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    from scipy import ndimage

    result = np.empty(images.shape, np.float32)
    for index in np.ndindex(images.shape[:-2]):
        plane = images[index].astype(np.float32, copy=False)
        ndimage.median_filter(plane, size=size_px, mode="reflect", output=result[index])
    return result


def gaussian(images: np.ndarray, *, sigma_px: float = 1.0) -> np.ndarray:
    """Gaussian filter of every plane along y and x; edges are reflected, the edge pixel repeated.

    >>> gaussian(np.full((2, 3, 4), 7)).max().item()
    7.0
    """
    from scipy import ndimage

    values = images.astype(np.float32, copy=False)
    result: np.ndarray = ndimage.gaussian_filter(
        values, sigma_px, mode="reflect", truncate=TRUNCATE_SIGMAS, axes=(-2, -1)
    )
    return result


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"median 3x3": median, "gaussian sigma 1": gaussian}
