"""Short gaps in time, bridged from the frames on both sides."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def bridged(values: np.ndarray, known: np.ndarray, times: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Fill gaps of ``values`` (t, ...) by straight lines in time, where both sides are known and not far apart.

    A gap is as long as the times of the known frames on its sides are apart, less one frame. Returns the values, and
    which frames (t,) were filled.
    """
    result, filled = values.copy(), np.zeros(len(values), bool)
    frames = np.flatnonzero(known)
    if len(frames) < 2:
        return result, filled
    step = float(np.median(np.diff(times)))
    for before, after in pairwise(frames):
        if after == before + 1 or times[after] - times[before] - step > longest * (1 + 1e-6):
            continue
        inside = np.arange(before + 1, after)
        weight = (times[inside] - times[before]) / (times[after] - times[before])
        weight = weight.reshape(-1, *([1] * (values.ndim - 1)))
        result[inside] = (1 - weight) * values[before] + weight * values[after]
        filled[inside] = True
    return result, filled
