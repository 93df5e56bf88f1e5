"""Rates of change of noisy traces: by local parabolas, by a Gaussian, or with the least total variation."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d
from scipy.signal import savgol_filter

POLYNOMIAL = 2
FEWEST_FRAMES = 5  # of a window: a parabola through three points is the plain difference, which is noise
_ROUNDS = 100  # ten to thirty are made
_GAP = 1e-6  # between the primal and the dual value, at which they agree, relative to the squared second differences
_SHARPENED = 2.0  # how much nearer each step comes
_TRUNCATED = 4.0  # standard deviations, beyond which a Gaussian is 0
_LEAST_NOISE = 1e-3  # of a trace, relative to its standard deviation


def smoothed(values: np.ndarray, sigma_frames: float, order: int = 0) -> np.ndarray:
    """Return values (t, neuron), or their slope per frame (order 1), convolved over time with a Gaussian.

    Beyond its ends a trace goes on as its own image through the end point, which keeps its slope.
    """
    reach = min(int(_TRUNCATED * sigma_frames) + 1, len(values) - 1)
    longer = np.pad(values, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    result = gaussian_filter1d(longer, sigma_frames, axis=0, order=order, mode="nearest", truncate=_TRUNCATED)
    return np.asarray(result[reach : reach + len(values)])


def window_frames(window_s: float, dt_s: float) -> int:
    """Return the odd number of frames nearest to a window, which lies ``window_s`` around its middle."""
    return 2 * round(window_s / dt_s / 2 - 0.5) + 1 if window_s >= dt_s else 1


def by_parabolas(values: np.ndarray, window_s: float, dt_s: float) -> np.ndarray:
    """Return the slope per s of the least-squares parabola in a window (Savitzky & Golay 1964); at the ends of the
    first and last window's."""
    frames = window_frames(window_s, dt_s)
    return np.asarray(savgol_filter(values, frames, POLYNOMIAL, deriv=1, delta=dt_s, axis=0, mode="interp"))


def by_gaussian(values: np.ndarray, sigma_s: float, dt_s: float) -> np.ndarray:
    """Return the slope per s of values (t, neuron) convolved with a Gaussian of ``sigma_s``."""
    return smoothed(values, sigma_s / dt_s, order=1) / dt_s


def noise_sd(values: np.ndarray) -> np.ndarray:
    """Return the SD (neuron,) of noise that is independent from frame to frame, from second differences.

    1.4826 times their median size, over sqrt(6); not less than a thousandth of the SD of the trace.
    """
    bends = np.abs(np.diff(values, n=2, axis=0))
    return np.asarray(np.maximum(1.4826 * np.median(bends, axis=0) / np.sqrt(6), _LEAST_NOISE * values.std(axis=0)))


def by_total_variation(values: np.ndarray, window_s: float, dt_s: float) -> np.ndarray:
    """Return the rate of change per s (t, neuron), piecewise constant as far as the noise allows it.

    The rate u with the least  integral |u'| * alpha + integral (f - integral of u)² / 2  (Chartrand, ISRN Appl.
    Math. 164564, 2011, with the first value free). In the integral of u this is l1 trend filtering (Kim et al., SIAM
    Rev. 51:339, 2009). ``alpha`` is two standard deviations of what white noise of the trace's own SD does to the
    derivative of that sum within ``window_s``: the second integral of noise, held at both ends, has the variance
    sd² dt w³ / 192 in the middle of a window w.
    """
    rates = np.zeros_like(values)
    weight = 2 * noise_sd(values) * np.sqrt(dt_s * window_s**3 / 192) / dt_s**2  # alpha in units of frames
    for trace, rate, alpha in zip(values.T, rates.T, weight, strict=True):
        if alpha > 0:
            line = trend(trace, float(alpha))
            steps = np.diff(line) / dt_s
            # A rate belongs to the time between two frames; a frame has the mean of both sides.
            rate[0], rate[-1] = steps[0], steps[-1]
            rate[1:-1] = (steps[:-1] + steps[1:]) / 2
    return rates


def trend(trace: np.ndarray, alpha: float) -> np.ndarray:
    """Return g (t,) with the least  sum (g - trace)² / 2 + alpha * sum |second difference of g|.

    By the primal-dual interior-point method of Kim et al. (2009) on the dual, z within -alpha and alpha with
    g = trace - (second difference)^T z: a step solves one pentadiagonal system, in a time in proportion to the frames.
    """
    bends = np.diff(trace, n=2)
    size = len(bends)
    # Second differences times their transpose: 6, -4, 1 along the diagonals.
    banded = np.zeros((min(3, size), size))
    if size > 2:
        banded[-3, 2:] = 1.0
    if size > 1:
        banded[-2, 1:] = -4.0
    dual, upper, lower = np.zeros(size), np.ones(size), np.ones(size)  # lower and upper: the multipliers of the bounds
    sharpness, enough = 1e-10, _GAP * max(float(np.var(bends)) * size, 1e-300)
    for _ in range(_ROUNDS):
        above, below = alpha - dual, alpha + dual  # distances from the bounds, both positive
        gap = float(above @ upper + below @ lower)
        if gap <= enough:
            break
        sharpness = max(_SHARPENED * 2 * size / gap, 1.2 * sharpness)
        banded[-1] = 6.0 + upper / above + lower / below
        slope = np.diff(_second_difference_transposed(dual), n=2) - bends
        step = solveh_banded(banded, -(slope + (1 / above - 1 / below) / sharpness))
        upper_step = -upper + (1 / sharpness + upper * step) / above
        lower_step = -lower + (1 / sharpness - lower * step) / below
        length = min(
            1.0,
            *(
                0.99 * float(np.min(room[falling < 0] / -falling[falling < 0], initial=np.inf))
                for room, falling in ((upper, upper_step), (lower, lower_step), (above, -step), (below, step))
            ),
        )
        dual, upper, lower = dual + length * step, upper + length * upper_step, lower + length * lower_step
    return np.asarray(trace - _second_difference_transposed(dual))


def _second_difference_transposed(dual: np.ndarray) -> np.ndarray:
    result = np.zeros(len(dual) + 2)
    result[:-2] += dual
    result[1:-1] -= 2 * dual
    result[2:] += dual
    return result
