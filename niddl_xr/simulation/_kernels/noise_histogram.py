"""The distribution of a camera's dark pixels, and the parameters that make an observed one most likely.

A count is Gaussian noise plus amplified charge: n electrons, Poisson of mean ``rate``, become a Gamma of shape
n / (F - 1) and scale gain (F - 1), where F is the excess noise. Its characteristic function is known in closed form, so
that one FFT gives the probability of every count. The maximum of n independent exposures has the n-th power of the
cumulative probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

_FLOOR = 1e-8  # probability of a count that the model does not know: a cosmic ray, a neuron in a dark tile
_MOST_BINS = 2048


@dataclass(frozen=True)
class DarkFit:
    """Parameters of dark pixels: offsets and rates plane by plane, width and gain of the camera, all in counts."""

    offsets: np.ndarray  # (plane,)
    rates: np.ndarray  # (plane,) electrons
    sigma: float
    gain: float


def _amplification(frequency: np.ndarray, gain: float, excess_noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the characteristic function of one amplified electron and its derivative by the gain."""
    spread = excess_noise - 1
    if spread == 0:
        one = np.exp(1j * frequency * gain)
        return one, 1j * frequency * one
    base = 1 - 1j * frequency * gain * spread
    one = base ** (-1 / spread)
    return one, 1j * frequency * one / base


def probabilities(
    bins: int, offset: float, rate: float, sigma: float, gain: float, excess_noise: float, maximum_of: int = 1
) -> np.ndarray:
    """Return the probability (bins,) of the counts 0, 1, …, rounded to whole counts."""
    frequency = 2 * np.pi * np.fft.rfftfreq(bins)
    one, _ = _amplification(frequency, gain, excess_noise)
    transform = np.exp(1j * frequency * offset - 0.5 * (sigma * frequency) ** 2 + rate * (one - 1))
    transform *= np.sinc(frequency / (2 * np.pi))
    density = np.maximum(np.fft.irfft(transform.conj(), bins), 0)
    if maximum_of > 1:
        density = np.diff(np.clip(np.cumsum(density), 0, 1) ** maximum_of, prepend=0)
    return density


def mean_of_maximum(
    rates: np.ndarray, sigma: float, gain: float, excess_noise: float, maximum_of: int, bins: int = 8192
) -> np.ndarray:
    """Return the mean counts above the offset of the maximum of ``maximum_of`` exposures, for each of ``rates``."""
    means = np.empty(len(rates))
    for i, rate in enumerate(rates):
        spread = np.sqrt(sigma**2 + excess_noise * gain**2 * rate)
        low = 8 * sigma + 2.0
        span = low + gain * rate + 10 * spread + 25 * gain * excess_noise
        step = span / (0.9 * bins)
        density = probabilities(bins, low / step, rate, sigma / step, gain / step, excess_noise, maximum_of)
        means[i] = step * float(np.arange(bins) @ density) / float(density.sum()) - low
    return means


def _likelihood(
    histogram: np.ndarray, offset: float, rate: float, sigma: float, gain: float, excess_noise: float, maximum_of: int
) -> tuple[float, np.ndarray]:
    """Return minus the log likelihood of a histogram and its gradient by offset, rate, sigma and gain."""
    bins = len(histogram)
    frequency = 2 * np.pi * np.fft.fftfreq(bins)
    one, by_gain = _amplification(frequency, gain, excess_noise)
    transform = np.exp(1j * frequency * offset - 0.5 * (sigma * frequency) ** 2 + rate * (one - 1))
    transform *= np.sinc(frequency / (2 * np.pi))
    single = np.maximum(np.fft.fft(transform).real / bins, 0)
    if maximum_of == 1:
        density = single + _FLOOR
        slope = -histogram / density
    else:
        cumulative = np.clip(np.cumsum(single), 1e-12, 1)
        power = cumulative**maximum_of
        density = np.diff(power, prepend=0) + _FLOOR
        by_power = -histogram / density
        by_power[:-1] -= by_power[1:].copy()
        slope = np.cumsum((by_power * maximum_of * power / cumulative)[::-1])[::-1]
    value = -float(histogram @ np.log(density))
    # d density / d parameter is the FFT of (factor * transform); its product with ``slope`` needs no FFT of its own.
    weight = np.fft.fft(slope) / bins * transform
    factors = (1j * frequency, one - 1, -sigma * frequency**2, rate * by_gain)
    return value, np.array([float(np.sum(weight * factor).real) for factor in factors])


def _median_of_maximum(maximum_of: int, quantile: float = 0.5) -> float:
    """Return a quantile of the maximum of normal variables, in SD of one."""
    return float(norm.ppf(quantile ** (1 / maximum_of)))


def fit_dark(
    planes: Sequence[np.ndarray],
    excess_noise: float,
    maximum_of: int = 1,
    slope: tuple[float, float] | None = None,
) -> DarkFit:
    """Return the most likely parameters of the dark pixels of several planes, each (n,) counts.

    ``slope`` is gain times excess noise with its standard error, from photon transfer; it enters as a Gaussian term.
    A rate of electrons that the histogram cannot tell from an offset, as where the gain is well below the width, is
    taken as none (an exponential prior of mean 1 a plane); at excess noise 1 there is none.
    """
    low, high = min(float(p.min()) for p in planes), max(float(np.quantile(p, 0.9999)) for p in planes)
    pooled = np.concatenate([p - np.median(p) for p in planes])
    left = float(-np.quantile(pooled, 0.159))
    width = max(left / (_median_of_maximum(maximum_of) - _median_of_maximum(maximum_of, 0.159)), 0.3)
    step = max(1.0, np.ceil((high - low) / _MOST_BINS))
    pad = 8 * width
    bins = int(2 ** np.ceil(np.log2((high - low + 2 * pad) / step + 64)))
    origin = low - pad
    histograms = [
        np.bincount(np.clip(((p - origin) / step + 0.5).astype(int), 0, bins - 1), minlength=bins)[:bins].astype(float)
        for p in planes
    ]
    for histogram in histograms:
        histogram[int((high - origin) / step + 1.5) :] = 0  # the last 1e-4 is where dark pixels are not dark

    middle = np.array([float(np.median(p)) for p in planes])
    offsets = (middle - origin - width * _median_of_maximum(maximum_of)) / step
    tail = float(np.quantile(pooled, 0.999) - np.quantile(pooled, 0.99)) / np.log(10)  # of exponentials, their mean
    starts = [max(tail, 0.5 * width) / step] if slope is None else [max(slope[0] / excess_noise, 1e-3) / step]
    if slope is not None and excess_noise > 1:
        starts.append(max(tail, 0.5 * width) / step)
    count = len(planes)

    def cost(vector: np.ndarray) -> tuple[float, np.ndarray]:
        sigma, gain = np.exp(vector[:2])
        rates = np.exp(vector[2 + count :])
        total, gradient = 0.0, np.zeros_like(vector)
        for k, histogram in enumerate(histograms):
            value, slopes = _likelihood(histogram, vector[2 + k], rates[k], sigma, gain, excess_noise, maximum_of)
            total += value + rates[k]
            gradient[[2 + k, 2 + count + k, 0, 1]] += slopes * (1.0, rates[k], sigma, gain)
            gradient[2 + count + k] += rates[k]
        if slope is not None:
            miss = (excess_noise * gain * step - slope[0]) / slope[1]
            total += 0.5 * miss**2
            gradient[1] += miss * excess_noise * gain * step / slope[1]
        return total / scale, gradient / scale

    scale = float(sum(h.sum() for h in histograms)) ** 0.5
    bounds = [(np.log(0.05), np.log(bins)), (np.log(1e-3), np.log(bins))]
    bounds += [(-float(bins), 2.0 * bins)] * count
    # A camera that amplifies without noise shows no single electrons: what it has in the dark is its offset.
    most, first = (50.0, 0.1) if excess_noise > 1 else (2e-4, 1e-4)
    bounds += [(np.log(1e-4), np.log(most))] * count
    results = []
    for gain in starts:
        start = np.concatenate([np.log([width / step, gain]), offsets, np.full(count, np.log(first))])
        results.append(
            minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 400, "maxfun": 600})
        )
    best = min(results, key=lambda result: float(result.fun)).x
    return DarkFit(
        offsets=best[2 : 2 + count] * step + origin,
        rates=np.exp(best[2 + count :]),
        sigma=float(np.exp(best[0]) * step),
        gain=float(np.exp(best[1]) * step),
    )
