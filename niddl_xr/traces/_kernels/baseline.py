"""The level of a trace at rest: arrays (t, n), NaN where there is no value."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

STEPS_PER_WINDOW = 10  # places at which a running quantile is taken; straight lines between them


def without_noise(brightness: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Draw traces towards their medians until only the variance is left that ``variance`` does not explain.

    Where the variance is not known, a trace stays as it is.
    """
    quiet = brightness.copy()
    for neuron in range(brightness.shape[1]):
        trace = brightness[:, neuron]
        drawn = _drawn(trace, variance[:, neuron])
        if drawn is not None:
            quiet[:, neuron] = drawn.middle + drawn.left * (trace - drawn.middle)
    return quiet


def variance_of_drawing(brightness: np.ndarray, variance: np.ndarray, q: float) -> np.ndarray:
    """Return the variance (n,) of the quantile of :func:`without_noise`'s traces, by how far they had to be drawn.

    The spread of a trace of t frames with normal noise is known to sqrt(2 / t): of a neuron without activity it is by
    accident, if it is larger than the noise.
    """
    result = np.zeros(brightness.shape[1])
    for neuron in range(brightness.shape[1]):
        trace = brightness[:, neuron]
        drawn = _drawn(trace, variance[:, neuron])
        if drawn is not None:
            low = float(np.quantile(trace[np.isfinite(trace)], q)) - drawn.middle
            accident = np.sqrt(2 / drawn.frames) * drawn.explained
            result[neuron] = np.square(low * (np.sqrt(drawn.left**2 + accident) - drawn.left))
    return result


class _Drawn(NamedTuple):
    """Towards which level, how much of the deviation is left, which part of the variance is noise, of how many."""

    middle: float
    left: float
    explained: float
    frames: int


def _drawn(trace: np.ndarray, noise: np.ndarray) -> _Drawn | None:
    known = np.isfinite(trace) & np.isfinite(noise)
    spread = float(np.var(trace[known])) if known.sum() > 1 else 0.0
    if spread == 0:
        return None
    explained = min(float(noise[known].mean()) / spread, 1.0)
    return _Drawn(float(np.median(trace[known])), float(np.sqrt(1 - explained)), explained, int(known.sum()))


def running_quantile(traces: np.ndarray, variance: np.ndarray, q: float, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantile of a window of frames around each frame, and its variance; of the trace where it is as long.

    Taken at ten places a window, with straight lines in between; NaN is left out, and a trace without values has none.
    ``variance`` is that of the noise, (t, n) as the traces; where it is not known, neither is the quantile's.
    """
    frames = len(traces)
    level, level_variance = np.full(traces.shape, np.nan), np.full(traces.shape, np.nan)
    step = max(1, window // STEPS_PER_WINDOW)
    centres = np.array([0]) if window >= frames else np.unique([*range(0, frames, step), frames - 1])
    for neuron in range(traces.shape[1]):
        found = np.full((2, len(centres)), np.nan)
        for index, centre in enumerate(centres):
            within = (
                slice(0, None)
                if window >= frames
                else slice(max(0, centre - window // 2), centre + window - window // 2)
            )
            found[:, index] = _quantile(traces[within, neuron], variance[within, neuron], q)
        for result, values in zip((level, level_variance), found, strict=True):
            known = np.isfinite(values)
            if known.any():
                result[:, neuron] = np.interp(np.arange(frames), centres[known], values[known])
    return level, level_variance


def _quantile(values: np.ndarray, variance: np.ndarray, q: float) -> tuple[float, float]:
    """Return the quantile of values (t,), and its variance by their noise, each of which has its own.

    A frame lies below the quantile with the probability p, and at it with the density f: the sum of p (1 - p) over the
    square of the sum of f (the order statistics of values that are independent and not alike). The level itself is
    where the noise-free frames have it, so that only noise moves it.
    """
    known = np.isfinite(values)
    values, variance = values[known], variance[known]
    if not len(values):
        return float("nan"), float("nan")
    level = float(np.quantile(values, q))
    if not np.all(np.isfinite(variance)):
        return level, float("nan")
    noisy = variance > 0
    if not noisy.any():
        return level, 0.0
    sd = np.sqrt(variance[noisy])
    away = (level - values[noisy]) / sd
    below = ndtr(away)
    density = float(np.sum(np.exp(-0.5 * np.square(away)) / (np.sqrt(2 * np.pi) * sd)))
    least = float(np.median(variance)) / len(values)
    moved = float(np.sum(below * (1 - below))) / max(density, np.finfo(float).tiny) ** 2
    return level, float(np.clip(moved, least, float(np.median(variance))))
