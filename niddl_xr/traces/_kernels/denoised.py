"""How noisy brightness is that was measured in denoised pixels, told by the raw pixels beside them."""

from __future__ import annotations

import numpy as np

LEAST_PAIRS = 20  # of frames one, and two, apart
SLOW_LAGS = (1, 2, 3)


def variance_of_denoised(brightness: np.ndarray, raw_excess: np.ndarray, raw_variance: np.ndarray) -> np.ndarray:
    """Return the variance (t, n) of ``brightness`` (t, n) measured in denoised pixels.

    ``raw_excess`` is how much brighter the raw pixels are, ``raw_variance`` the variance of these; all (t, n). Errors
    that are new in each frame are what consecutive frames differ by, beyond the signal's own change, which frames two
    apart tell. Errors that last are in the excess, whose raw noise is new in each frame: they are its autocovariance.
    Errors that are the same in all frames are in neither. With too few frames the variance is that of the excess and
    the raw noise together, which is too large rather than too small.
    """
    result = np.full(brightness.shape, np.nan)
    for neuron in range(brightness.shape[1]):
        trace, excess, noise = brightness[:, neuron], raw_excess[:, neuron], raw_variance[:, neuron]
        known = np.isfinite(trace) & np.isfinite(excess) & np.isfinite(noise)
        if not known.any():
            continue
        level = float(noise[known].mean())
        fast = _fast(trace)
        of_error = float(np.var(excess[known])) + level if fast is None else fast + _lasting(excess)
        # Brighter frames are noisier, denoised or not.
        result[known, neuron] = of_error * (noise[known] / level if level else 1.0)
    return result


def _fast(trace: np.ndarray) -> float | None:
    """Return the variance of what is new in each frame of a trace (t,); None with too few frames."""
    variances = []
    for apart in (1, 2):
        steps = trace[apart:] - trace[:-apart]
        steps = steps[np.isfinite(steps)]
        if len(steps) < LEAST_PAIRS:
            return None
        variances.append(float(np.mean(np.square(steps))) / 2)
    one, two = variances
    # A signal that wanders changes twice as much in two frames as in one, so that one - (two - one) is without it.
    return max(2 * one - two, one / 2)


def _lasting(excess: np.ndarray) -> float:
    """Return the mean autocovariance of the excess (t,) of frames one to three apart, 0 or more."""
    deviation = excess - np.nanmean(excess)
    products = [deviation[lag:] * deviation[:-lag] for lag in SLOW_LAGS]
    values = np.concatenate(products)
    values = values[np.isfinite(values)]
    return max(float(values.mean()), 0.0) if len(values) else 0.0
