"""What neurons do: states of the worm that they share, noise of their own, seen through an indicator."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve, lfilter

GROUPS = ("reversal", "forward", "turn", "rise", "inactive")
GROUP_SHARES = (0.22, 0.20, 0.10, 0.08)  # of the active groups, to one another
FORWARD_S, REVERSAL_S = 18.0, 6.0  # mean duration of a run and of a reversal; Gamma of shape 2
RISE_S, FALL_S = 1.5, 3.0  # time constants of the command state
INDICATOR_RISE_S, INDICATOR_DECAY_S = 0.2, 1.2  # GCaMP6s in worms
LOWEST_DFF = -0.5


def ornstein_uhlenbeck(
    shape: tuple[int, ...], time_constant_s: float, interval_s: float, rng: np.random.Generator
) -> np.ndarray:
    """Return stationary noise of SD 1 along axis 0 whose autocorrelation falls as exp(-t / time constant)."""
    keep = np.exp(-interval_s / time_constant_s)
    kicks = rng.normal(size=shape)
    kicks[1:] *= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], kicks, axis=0))


def command_states(frames: int, interval_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return (frames,) booleans, True in a reversal: a semi-Markov chain of Gamma durations (shape 2)."""
    states = np.empty(frames, bool)
    reversing = bool(rng.random() < REVERSAL_S / (FORWARD_S + REVERSAL_S))
    time_left_s = rng.gamma(2.0, (REVERSAL_S if reversing else FORWARD_S) / 2) * rng.random()
    for frame in range(frames):
        while time_left_s <= 0:
            reversing = not reversing
            time_left_s += rng.gamma(2.0, (REVERSAL_S if reversing else FORWARD_S) / 2)
        states[frame] = reversing
        time_left_s -= interval_s
    return states


def _command_ramp(states: np.ndarray, interval_s: float) -> np.ndarray:
    ramp = np.empty(states.size)
    value = float(states[0])
    for frame, state in enumerate(states):
        value += (float(state) - value) * -np.expm1(-interval_s / (RISE_S if state else FALL_S))
        ramp[frame] = value
    return ramp


def indicator_kernel(interval_s: float) -> np.ndarray:
    """Return the causal response (n,), sum 1, of the calcium indicator: a rise and a decay, each exponential."""
    time_s = (np.arange(max(1, round(6 * INDICATOR_DECAY_S / interval_s))) + 0.5) * interval_s
    kernel = -np.expm1(-time_s / INDICATOR_RISE_S) * np.exp(-time_s / INDICATOR_DECAY_S)
    return np.asarray(kernel / kernel.sum())


def neuron_activity(
    frames: int, neurons: int, interval_s: float, active_fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dF/F (frames, neurons), the group of each neuron (index into GROUPS) and the reversals (frames,).

    The active neurons follow a command state that all share (ramp, its onset, pulses at the end of reversals) with
    an amplitude of their own, and every neuron has slow private noise; the whole passes the calcium indicator.
    """
    warm_up = round(30.0 / interval_s)
    total = frames + warm_up
    states = command_states(total, interval_s, rng)
    ramp = _command_ramp(states, interval_s)
    ends = np.flatnonzero(states[:-1] & ~states[1:]) + 1
    turns = np.zeros(total)
    for end in ends:
        turns[end : end + max(1, round(2.0 / interval_s))] = 1.0
    onset = np.maximum(np.gradient(ramp), 0) if total > 1 else np.zeros(total)
    drives = np.stack([ramp, 1 - ramp, turns, onset / max(float(onset.max()), 1e-12), np.zeros(total)], axis=1)

    shares = active_fraction * np.asarray(GROUP_SHARES) / sum(GROUP_SHARES)
    bounds = np.round(np.cumsum(shares) * neurons).astype(int)
    group = rng.permutation(np.searchsorted(bounds, np.arange(neurons), side="right"))
    amplitude = rng.lognormal(-0.08, 0.4, neurons)  # mean 1
    slow = ornstein_uhlenbeck((total, 1), 15.0, interval_s, rng)
    private = ornstein_uhlenbeck((total, neurons), 1.5, interval_s, rng)
    active = group < len(GROUPS) - 1
    drive = amplitude * (drives[:, group] + 0.1 * active * slow) + np.where(active, 0.2, 0.05) * private
    dff = fftconvolve(drive, indicator_kernel(interval_s)[:, None], axes=0)[:total]
    return np.maximum(dff[warm_up:], LOWEST_DFF).astype(np.float32), group, states[warm_up:]
