"""What neurons do: states of the worm that they share, noise of their own, seen through an indicator."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve, lfilter

GROUPS = ("reversal", "forward", "dorsal turn", "ventral turn", "rise", "inactive")
GROUP_SHARES = (0.22, 0.20, 0.05, 0.05, 0.08)  # of the active groups, to one another
FORWARD_S, REVERSAL_S = 18.0, 6.0  # mean duration of a run and of a reversal; Gamma of shape 2
RISE_S, FALL_S = 1.5, 3.0  # time constants of the command state
INDICATOR_RISE_S, INDICATOR_DECAY_S = 0.2, 1.2  # GCaMP6s in worms
BASELINE_QUANTILE, LOWEST_DFF = 0.1, -0.5  # F0 is the fluorescence that is undercut a tenth of the time
TURN_S = 2.0  # of the pulse that ends a reversal
AROUSAL_S = (15.0, 40.0)  # time constants of the slow states that all share
PRIVATE_S, DRIFT_S = 1.5, 30.0  # time constants of a neuron's own flicker and of its own drift
# The shares of what is common and what is private are set on the variances of docs/decisions/0009.
PRIVATE_SD, INACTIVE_SD = 0.04, 0.032  # before the indicator, in dF/F
MIXING_SD = 0.45  # how much a neuron follows the other groups' drives, relative to its own
DRIFT_SD = 0.26  # of an active neuron
AROUSAL_SD = 0.26  # the same for each state of arousal
INACTIVE_SHARE = 0.08  # of the amplitude of an active neuron
PAIR_CORRELATION = (0.80, 0.97)  # of the left and right member of a class


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
    if len(time_s) == 1:
        return np.ones(1)  # a frame outlasts the response
    kernel = -np.expm1(-time_s / INDICATOR_RISE_S) * np.exp(-time_s / INDICATOR_DECAY_S)
    return np.asarray(kernel / kernel.sum())


def shared_drives(
    frames: int, interval_s: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what drives the groups (frames, group), each 0 to 1, the arousal (frames, 2) and the reversals (frames,).

    A reversal ends in a turn, to the dorsal or the ventral side at random.
    """
    states = command_states(frames, interval_s, rng)
    ramp = _command_ramp(states, interval_s)
    turns = np.zeros((frames, 2))
    pulse = max(1, round(TURN_S / interval_s))
    for end in np.flatnonzero(states[:-1] & ~states[1:]) + 1:
        turns[end : end + pulse, rng.integers(2)] = 1.0
    onset = np.maximum(np.gradient(ramp), 0) if frames > 1 else np.zeros(frames)
    onset /= max(float(onset.max()), 1e-12)
    drives = np.column_stack([ramp, 1 - ramp, turns, onset, np.zeros(frames)])
    arousal = [ornstein_uhlenbeck((frames,), time_constant_s, interval_s, rng) for time_constant_s in AROUSAL_S]
    return drives, np.column_stack(arousal), states


def neuron_activity(
    frames: int,
    interval_s: float,
    active_fraction: float,
    partners: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dF/F (frames, neuron), the group of each neuron (index into GROUPS) and the reversals (frames,).

    ``partners`` (neuron,) holds the index of a neuron's other half on the left or right, or -1; the two halves are of
    one group and, if active, correlate by PAIR_CORRELATION. An active neuron follows the drive of its group, a little
    of the other groups' and the arousal, with an amplitude of its own; every neuron drifts and flickers on its own; the
    whole passes the calcium indicator, and is 0 at its tenth percentile.
    """
    neurons = len(partners)
    warm_up = round(30.0 / interval_s)
    total = frames + warm_up
    drives, arousal, states = shared_drives(total, interval_s, rng)
    group = _groups(partners, active_fraction, rng)
    active = group < len(GROUPS) - 1
    mixing = MIXING_SD * rng.normal(size=(neurons, len(GROUPS)))
    mixing[group < 2, :2] = 0.0  # a neuron of the reversal or of the forward run is not turned round by the other
    weights = np.eye(len(GROUPS))[group] + mixing
    amplitude = rng.lognormal(-0.08, 0.4, neurons) * np.where(active, 1.0, INACTIVE_SHARE)  # mean 1
    weights = weights * amplitude[:, None]
    arousal_weights = AROUSAL_SD * amplitude * rng.normal(size=(len(AROUSAL_S), neurons))
    private = ornstein_uhlenbeck((total, neurons), PRIVATE_S, interval_s, rng)
    private *= np.where(active, PRIVATE_SD, INACTIVE_SD)
    drift = amplitude * DRIFT_SD * ornstein_uhlenbeck((total, neurons), DRIFT_S, interval_s, rng)

    def seen(drive: np.ndarray) -> np.ndarray:
        return np.asarray(fftconvolve(drive, indicator_kernel(interval_s)[:, None], axes=0)[warm_up:total])

    dff = seen(drives @ weights.T + arousal @ arousal_weights + drift + private)
    own = seen(private)
    for right in np.flatnonzero((partners >= 0) & (partners < np.arange(neurons)) & active):
        correlation = rng.uniform(*PAIR_CORRELATION)
        left = dff[:, partners[right]]
        spread = left.std() / max(float(own[:, right].std()), 1e-12)
        dff[:, right] = correlation * left + np.sqrt(1 - correlation**2) * spread * own[:, right]
    dff -= np.quantile(dff, BASELINE_QUANTILE, axis=0)
    return np.maximum(dff, LOWEST_DFF).astype(np.float32), group, states[warm_up:]


def _groups(partners: np.ndarray, active_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return the group of each neuron, in the shares asked for as far as pairs allow it."""
    neurons = len(partners)
    shares = active_fraction * np.asarray(GROUP_SHARES) / sum(GROUP_SHARES)
    bounds = np.round(np.cumsum(shares) * neurons).astype(int)
    places = np.searchsorted(bounds, np.arange(neurons), side="right")
    group = np.empty(neurons, int)
    first = 0  # pairs and singles take their places in random order, the two of a pair beside one another
    for neuron in rng.permutation(np.flatnonzero((partners < 0) | (partners > np.arange(neurons)))):
        group[neuron] = places[first]
        first += 1
        if partners[neuron] >= 0:
            group[partners[neuron]] = group[neuron]
            first += 1
    return group
