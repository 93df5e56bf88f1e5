"""How a body moves: its speed along itself, the phase of its undulation, and what it is doing.

Times are in s and rise; lines are (t, s, 2) as (y, x) in µm from head to tail, angles (t, s) in rad.
"""

from __future__ import annotations

import numpy as np

from niddl_xr.behaviour._kernels.smoothing import smooth_known

INNER = (0.15, 0.85)  # of the body: its ends swing


def speed_along(lines_um: np.ndarray, times_s: np.ndarray, smooth_s: float) -> np.ndarray:
    """Return the speed along the body (t,) in µm/s, positive towards the head; NaN beside what is not known.

    The mean over the inner body of each point's velocity along the tangent there. A body that glides along itself does
    not move its points' places on the plate, but moves along them.
    """
    first, last = (round(part * (lines_um.shape[1] - 1)) for part in INNER)
    tangent = np.gradient(lines_um, axis=1)
    tangent = tangent / np.maximum(np.linalg.norm(tangent, axis=2, keepdims=True), 1e-12)
    velocity = _derivative(lines_um, times_s)
    along = -(velocity * tangent).sum(axis=2)[:, first : last + 1].mean(axis=1)
    return _smoothed(along, times_s, smooth_s)


def _derivative(values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return the change over time of values (t, ...), centred; one-sided at the ends, NaN beside NaN."""
    return np.asarray(np.gradient(values, times_s, axis=0))


def _smoothed(values: np.ndarray, times_s: np.ndarray, smooth_s: float) -> np.ndarray:
    step = float(np.median(np.diff(times_s)))
    return smooth_known(values, smooth_s / step, axis=0) if smooth_s > 0 else values


def phase_of(amplitudes: np.ndarray) -> np.ndarray:
    """Return the phase (t,) in rad of the first two modes (t, 2), each divided by its RMS; NaN stays."""
    known = np.isfinite(amplitudes).all(axis=1)
    scale = np.sqrt((amplitudes[known] ** 2).mean(axis=0))
    return np.asarray(np.arctan2(amplitudes[:, 1] / scale[1], amplitudes[:, 0] / scale[0]))


def phase_velocity(phase: np.ndarray, times_s: np.ndarray, smooth_s: float) -> np.ndarray:
    """Return how fast a phase turns (t,) in rad/s: the angle to the next frame over time, smoothed; NaN beside NaN."""
    turned = np.angle(np.exp(1j * np.diff(phase)))
    rate = turned / np.diff(times_s)
    # Between frames, then onto them: the mean of both sides, of one at the ends and beside gaps.
    before, after = np.concatenate([[np.nan], rate]), np.concatenate([rate, [np.nan]])
    both = np.stack([before, after])
    known = np.isfinite(both)
    mean = np.where(known, both, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return _smoothed(np.where(known.any(axis=0), mean, np.nan), times_s, smooth_s)


def wave_direction(angles: np.ndarray, rate: np.ndarray, times_s: np.ndarray) -> float:
    """Return +1 where a phase that turns at ``rate`` (t,) rises while bends run from head to tail, else -1; 0 untold.

    The bending (t, s) is the slope of the angles; of a wave that runs to the tail, its changes in time and along the
    body have opposite signs.
    """
    bending = np.gradient(angles, axis=1)
    product = -(_derivative(bending, times_s) * np.gradient(bending, axis=1)).mean(axis=1)
    both = np.isfinite(product) & np.isfinite(rate)
    return float(np.sign((product[both] * rate[both]).sum())) if both.any() else 0.0
