"""How strong the correlation of unrelated signals is, and how seldom it is as strong as the observed one."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import maximum_filter1d
from scipy.stats import f as f_distribution

LEAST_INDEPENDENT = 5.0  # draws below which no p is told
LEAST_SHARE = 1 / 3  # of the observed pairs of frames that a shift must leave
ALIKE = 1e-9  # variance of draws over their squared mean, below which there is no spread to judge by
LEAST_SHAPE = 0.25  # of the gamma distribution: half that of the square of one normal number
DECORRELATED = 0.05  # autocorrelation at which draws count as independent


def strongest(statistic: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return for every shift the largest of ``|statistic|`` (..., shift) from ``low`` to ``high`` frames beside it.

    NaN is passed over; where all is NaN, the result is.
    """
    size = high - low + 1
    filled = np.where(np.isfinite(statistic), np.abs(statistic), -1.0)
    # An even window of scipy reaches one element farther back than ahead.
    origin = -(low + size // 2)
    if abs(origin) > (size - 1) // 2:  # the window lies beside its own middle
        filled, origin = _moved(filled, low + size // 2), 0
    largest = maximum_filter1d(filled, size, axis=-1, mode="constant", cval=-1.0, origin=origin)
    return np.where(largest < 0, np.nan, largest)


def _moved(values: np.ndarray, by: int) -> np.ndarray:
    moved = np.full_like(values, -1.0)
    frames = values.shape[-1]
    if abs(by) < frames:
        kept = values[..., max(by, 0) : frames + min(by, 0)]
        moved[..., max(-by, 0) : max(-by, 0) + kept.shape[-1]] = kept
    return moved


def independent_draws(draws: np.ndarray) -> float:
    """Return how many independent values a series (shift,) of draws is worth; NaN is a gap.

    The number of draws over the integral of their autocorrelation, which is taken as far as it first falls below
    DECORRELATED.
    """
    known = np.isfinite(draws)
    count = int(known.sum())
    if count < 2:
        return float(count)
    centred = np.where(known, draws - draws[known].mean(), 0.0)
    size = next_fast_len(2 * draws.size, real=True)
    sums, pairs = (irfft(np.abs(rfft(part, size)) ** 2, size)[: draws.size] for part in (centred, known.astype(float)))
    if sums[0] <= 0:
        return 1.0
    correlation = (sums / np.maximum(pairs, 1.0)) / (sums[0] / count)
    fallen = np.flatnonzero(correlation <= DECORRELATED)
    end = int(fallen[0]) if fallen.size else draws.size
    return float(count / (1 + 2 * correlation[1:end].sum()))


def tail(observed: float, draws: np.ndarray, independent: float) -> float:
    """Return the probability that chance is as strong as ``observed``, from ``draws`` (draw,) of chance; NaN is none.

    Squares of the draws are taken to be gamma distributed. Its shape is that of their mean and variance, less the bias
    of 3 (shape + 1) / n that this has for n independent values; that the mean is itself estimated from n values makes
    the ratio to it an F distribution. NaN where too few values are independent, or all are alike.
    """
    squares = draws[np.isfinite(draws)] ** 2
    if not np.isfinite(observed) or squares.size < 2 or independent < LEAST_INDEPENDENT:
        return float("nan")
    mean = float(squares.mean())
    variance = float(squares.var()) * independent / (independent - 1)
    if variance <= ALIKE * mean**2:
        return float("nan")
    shape = max((mean**2 / variance - 3 / independent) / (1 + 3 / independent), LEAST_SHAPE)
    return float(f_distribution.sf(observed**2 / mean, 2 * shape, 2 * shape * independent))


def shift_draws(
    maxima: np.ndarray, pairs: np.ndarray, centre: int, least: int, most: int, count: int
) -> tuple[np.ndarray, float]:
    """Return draws of chance from ``maxima`` (shift,), and how many independent ones they are worth.

    Shifts are counted from ``centre``: those of ``least`` to ``most`` frames to both sides are allowed, where they
    leave LEAST_SHARE of the ``pairs`` (shift,) at the centre. ``count`` of them, evenly spread, are taken.
    """
    far = np.abs(np.arange(maxima.size) - centre)
    allowed = (far >= least) & (far <= most) & (pairs >= LEAST_SHARE * pairs[centre] - 0.5)
    series = np.where(allowed, maxima, np.nan)
    known = series[np.isfinite(series)]
    taken = known[np.unique(np.linspace(0, known.size - 1, count).round().astype(int))] if known.size else known
    return taken, min(independent_draws(series), float(taken.size))


def phase_surrogates(signal: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return signals (count, frame) with the spectrum of ``signal`` (frame,) and random phases.

    Gaps (NaN) are bridged by straight lines before, and are gaps after.
    """
    known = np.isfinite(signal)
    frames = np.arange(signal.size)
    spectrum = rfft(np.interp(frames, frames[known], signal[known]))
    phases = np.exp(2j * np.pi * rng.random((count, spectrum.size)))
    phases[:, 0] = 1.0
    if signal.size % 2 == 0:
        phases[:, -1] = 1.0
    return np.where(known, irfft(spectrum * phases, signal.size, axis=-1), np.nan)
