"""Behaviour as a calcium indicator would show it."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

MEMORY_TIMES = 6.0  # of the decay: what is older has faded to 0.25 %
LEAST_WEIGHT = 0.5  # of the kernel that must fall on known frames


def through_indicator(values: np.ndarray, interval_s: float, rise_s: float, decay_s: float) -> np.ndarray:
    """Return ``values`` (..., frame) convolved with ``(1 - exp(-t / rise_s)) exp(-t / decay_s)``, of sum 1.

    ``rise_s`` 0 is an instant rise. Each weight is the integral of the response over a frame around its delay, so that
    the delay is right at low rates too. NaN weighs nothing; the result is NaN where ``values`` are, and where known
    frames hold less than half of the weight.
    """
    count = min(int(np.ceil(MEMORY_TIMES * decay_s / interval_s)) + 1, values.shape[-1])
    edges = np.maximum(np.arange(count + 1) - 0.5, 0.0) * interval_s
    kernel = np.diff(_integral(edges, rise_s, decay_s))
    kernel = (kernel / kernel.sum()).reshape([1] * (values.ndim - 1) + [-1])
    known = np.isfinite(values)
    weight = fftconvolve(known.astype(float), kernel, axes=-1)[..., : values.shape[-1]]
    total = fftconvolve(np.where(known, values, 0.0), kernel, axes=-1)[..., : values.shape[-1]]
    usable = known & (weight >= LEAST_WEIGHT)
    return np.where(usable, total / np.where(usable, weight, 1.0), np.nan)


def _integral(time_s: np.ndarray, rise_s: float, decay_s: float) -> np.ndarray:
    """Return the integral of the response from 0 to ``time_s``."""
    slow = -decay_s * np.expm1(-time_s / decay_s)
    if rise_s == 0:
        return np.asarray(slow)
    fast_s = 1 / (1 / rise_s + 1 / decay_s)
    return np.asarray(slow + fast_s * np.expm1(-time_s / fast_s))
