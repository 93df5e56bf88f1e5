"""Correlation of two signals with gaps, at every shift between them."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

LEAST_PAIRS = 10  # a correlation of fewer frames is not worth its name
LEAST_VARIANCE = 1e-6  # of the whole signal, below which what is seen of it counts as constant


def standardised(values: np.ndarray) -> np.ndarray:
    """Return ``values`` (..., frame) with mean 0 and SD 1 over the frames that are known; constant ones are NaN."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(-1, keepdims=True), 1)
    mean = np.where(known, values, 0.0).sum(-1, keepdims=True) / count
    centred = np.where(known, values - mean, 0.0)
    sd = np.sqrt((centred**2).sum(-1, keepdims=True) / count)
    # What is left of a constant after subtracting its mean is rounding.
    constant = sd <= 1e-7 * np.maximum(np.abs(mean), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(known & ~constant, centred / sd, np.nan))


def shifted_correlation(
    first: np.ndarray, second: np.ndarray, most: int, *, circular: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Correlate ``first(t)`` with ``second(t + shift)`` over the frames where both are known.

    Parameters
    ----------
    first, second
        (..., frame), standardised, NaN where unknown; leading dims broadcast.
    most
        Shifts run from ``-most`` to ``most``.
    circular
        The end of ``second`` is joined to its beginning.

    Returns
    -------
    tuple of numpy.ndarray
        Pearson's r and the number of pairs, both (..., 2 most + 1); r is NaN for fewer than LEAST_PAIRS, and where
        one of both is constant.

    Notes
    -----
    Six correlations by FFT give the sums that r is made of (Padfield, IEEE Trans. Image Process. 21:2706, 2012).
    """
    frames = first.shape[-1]
    size = frames if circular else next_fast_len(frames + min(most, frames), real=True)
    one, two = (_spectra(values, size) for values in (first, second))
    shifts = np.arange(-most, most + 1)

    def summed(of_first: int, of_second: int) -> np.ndarray:
        product = irfft(np.conj(one[of_first]) * two[of_second], size, axis=-1)
        return np.asarray(product[..., shifts % size])

    pairs = np.rint(summed(0, 0))
    if not circular:
        pairs = np.where(np.abs(shifts) < frames, pairs, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_one, mean_two = summed(1, 0) / pairs, summed(0, 1) / pairs
        var_one, var_two = summed(2, 0) / pairs - mean_one**2, summed(0, 2) / pairs - mean_two**2
        r = (summed(1, 1) / pairs - mean_one * mean_two) / np.sqrt(var_one * var_two)
    usable = (pairs >= LEAST_PAIRS) & (var_one > LEAST_VARIANCE) & (var_two > LEAST_VARIANCE)
    return np.where(usable, np.clip(r, -1.0, 1.0), np.nan), pairs


def _spectra(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    return tuple(np.asarray(rfft(part, size, axis=-1)) for part in (known.astype(float), filled, filled**2))  # type: ignore[return-value]


def studentised(r: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return Fisher's z of correlations times the root of the number of pairs: alike for all numbers of pairs."""
    return np.asarray(np.arctanh(np.clip(r, -0.999999, 0.999999)) * np.sqrt(pairs))


def peak(r: np.ndarray, lags_s: np.ndarray) -> tuple[float, float]:
    """Return the correlation that is farthest from 0, and its lag in s, between lags by a parabola.

    ``r`` (lag,) with NaN where unknown; both NaN where all is.
    """
    if not np.isfinite(r).any():
        return float("nan"), float("nan")
    best = int(np.nanargmax(np.abs(r)))
    lag = float(lags_s[best])
    if 0 < best < len(r) - 1:
        before, here, after = np.abs(r[best - 1 : best + 2])
        bend = before - 2 * here + after
        if np.isfinite(bend) and bend < 0:
            lag += 0.5 * (before - after) / bend * float(lags_s[1] - lags_s[0])
    return float(r[best]), lag
