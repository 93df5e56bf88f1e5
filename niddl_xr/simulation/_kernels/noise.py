"""Noise of cameras: charge, its amplification, noise that runs along rows, patterns that stay."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.linalg import cholesky_banded, solve_discrete_lyapunov
from scipy.signal import lfilter

_FACTOR_LENGTH = 4096  # pixels; zeros of the filter as near to 1 as 0.998 are resolved


def amplified_charge(photons: np.ndarray, gain: float, excess_noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return float32 counts of the charge that ``photons`` (expected, any shape, float32) free in one exposure.

    The number of electrons is Poisson. An electron multiplication of ``excess_noise`` F turns n of them into a Gamma
    variable of mean ``gain n`` and variance ``gain² n (F - 1)``.
    """
    # Electrons arrive at unit rate until the time ``photons``: where the first comes too late there are none, and most
    # pixels of a faint image are done with one exponential number.
    first = rng.standard_exponential(photons.shape, dtype=np.float32)
    charged = np.flatnonzero(first < photons)
    electrons = rng.poisson(photons.ravel()[charged] - first.ravel()[charged]).astype(np.float32)
    electrons += 1
    spread = np.float32(excess_noise - 1)
    counts = np.zeros(photons.shape, np.float32)
    if spread == 0:
        counts.ravel()[charged] = np.float32(gain) * electrons
    else:
        electrons /= spread
        charge = rng.standard_gamma(electrons, dtype=np.float32)
        charge *= np.float32(gain) * spread
        counts.ravel()[charged] = charge
    return counts


@lru_cache(maxsize=16)
def row_filter(
    read_noise: float, row_noise: float, row_length_px: float, read_correlation: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the filter (numerator, denominator) that turns white noise into the noise along a row, and its start.

    The autocovariance of its result at distance d is ``row_noise² exp(-d / row_length_px)`` plus ``read_noise²`` times
    1, ``read_correlation[0]``, … at d = 0, 1, …: an ARMA(1, q) process, so that one normal number a pixel makes both.
    The third array (states, states) turns white noise into the state of the filter that has always run.
    """
    keep = np.exp(-1 / row_length_px) if row_noise else 0.0
    read = np.zeros(len(read_correlation) + 3)
    read[: len(read_correlation) + 1] = read_noise**2 * np.array([1.0, *read_correlation])
    before = np.concatenate([read[1:2], read[:-1]])
    after = np.concatenate([read[1:], [0.0]])
    # Autocovariance of the noise after the recursive part is taken off: it ends at lag q + 1.
    covariance = ((1 + keep**2) * read - keep * (before + after))[:-1]
    covariance[0] += row_noise**2 * (1 - keep**2)
    # Bauer's spectral factorisation: the last row of the Cholesky factor of the banded Toeplitz matrix.
    bands = np.repeat(covariance[:, None], _FACTOR_LENGTH, axis=1)
    bands[0] *= 1 + 1e-9  # a spectrum may touch 0
    factor = cholesky_banded(bands, lower=True)
    numerator = np.array([factor[lag, _FACTOR_LENGTH - 1 - lag] for lag in range(len(covariance))])
    denominator = np.zeros_like(numerator)
    denominator[:2] = 1.0, -keep
    shift = np.eye(len(numerator) - 1, k=1)
    shift[:, 0] -= denominator[1:]
    drive = (numerator[1:] - denominator[1:] * numerator[0])[:, None]
    values, vectors = np.linalg.eigh(solve_discrete_lyapunov(shift, drive @ drive.T))
    start = vectors * np.sqrt(np.maximum(values, 0))
    return numerator.astype(np.float32), denominator.astype(np.float32), start.astype(np.float32)


def noise_along_rows(
    shape: tuple[int, int],
    read_noise: float,
    row_noise: float,
    row_length_px: float,
    read_correlation: tuple[float, ...],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return float32 Gaussian noise (y, x), independent from row to row, as :func:`row_filter` describes it."""
    white = rng.standard_normal(shape, dtype=np.float32)
    if not row_noise and not any(read_correlation):
        white *= np.float32(read_noise)
        return white
    numerator, denominator, start = row_filter(read_noise, row_noise, row_length_px, read_correlation)
    state = rng.standard_normal((shape[0], len(start)), dtype=np.float32) @ start.T
    return np.asarray(lfilter(numerator, denominator, white, axis=1, zi=state)[0])


def standing_pattern(shape: tuple[int, int], rms: float, hot_pixels: float, hot_counts: float, seed: int) -> np.ndarray:
    """Return the float32 counts (y, x) that a camera adds to every exposure, made from ``seed`` alone.

    Gaussian of ``rms``; a fraction ``hot_pixels`` of the pixels is brighter, exponentially with mean ``hot_counts``.
    """
    rng = np.random.default_rng(seed)
    pattern = np.float32(rms) * rng.standard_normal(shape, dtype=np.float32)
    hot = rng.random(shape, dtype=np.float32) < hot_pixels
    pattern[hot] += np.float32(hot_counts) * rng.standard_exponential(int(hot.sum()), dtype=np.float32)
    return pattern
