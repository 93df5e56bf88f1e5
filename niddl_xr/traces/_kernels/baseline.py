"""The level of a trace at rest: arrays (t, n), NaN where there is no value."""

from __future__ import annotations

import numpy as np

STEPS_PER_WINDOW = 10  # places at which a running quantile is taken; straight lines between them


def without_noise(brightness: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Draw traces towards their medians until only the variance is left that ``variance`` does not explain.

    Where the variance is not known, a trace stays as it is.
    """
    quiet = brightness.copy()
    for neuron in range(brightness.shape[1]):
        trace, noise = brightness[:, neuron], variance[:, neuron]
        known = np.isfinite(trace) & np.isfinite(noise)
        if known.sum() < 2:
            continue
        spread = float(np.var(trace[known]))
        if spread > 0:
            middle = float(np.median(trace[known]))
            left = np.sqrt(max(1 - float(noise[known].mean()) / spread, 0.0))
            quiet[:, neuron] = middle + left * (trace - middle)
    return quiet


def running_quantile(traces: np.ndarray, q: float, window: int) -> np.ndarray:
    """Return the quantile of a window of frames around each frame; of the whole trace where it is as long.

    Taken at ten places a window, with straight lines in between; NaN is left out, and a trace without values has none.
    """
    frames = len(traces)
    result = np.full(traces.shape, np.nan)
    step = max(1, window // STEPS_PER_WINDOW)
    centres = np.array([0]) if window >= frames else np.unique([*range(0, frames, step), frames - 1])
    for neuron, trace in enumerate(traces.T):
        values = []
        for centre in centres:
            part = trace if window >= frames else trace[max(0, centre - window // 2) : centre + window - window // 2]
            part = part[np.isfinite(part)]
            values.append(np.quantile(part, q) if len(part) else np.nan)
        found = np.isfinite(values)
        if found.any():
            result[:, neuron] = np.interp(np.arange(frames), centres[found], np.asarray(values)[found])
    return result
