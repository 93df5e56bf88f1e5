"""Motion and activity told apart by two colours, of which one does not follow activity.

All traces are relative to their own mean: 1 where nothing happens. Motion moves both colours alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.fft import dct, idct
from scipy.optimize import least_squares, minimize

MAD_TO_SD = 1.4826
LEAST_VARIANCE = 1e-6
SHORTEST_FRAMES = 0.5  # of time scales
LONGEST_PART = 0.5  # of the length of the recording


class Parts(NamedTuple):
    """The two factors of a trace (t,): ``motion``, common to both colours, and ``activity``; both 1 on average."""

    motion: np.ndarray
    activity: np.ndarray


class Spectra(NamedTuple):
    """Variances and time scales in frames of motion and activity, and the noise variances of the two colours."""

    motion: float
    motion_frames: float
    activity: float
    activity_frames: float
    reference_noise: float
    signal_noise: float


def regressed(signal: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the line signal ~ reference, both (t,), robustly (soft L1)."""
    middle = float(np.median(reference))
    spread = MAD_TO_SD * float(np.median(np.abs(signal - np.median(signal))))
    if np.ptp(reference) == 0 or spread == 0:
        return 0.0, float(np.median(signal))
    fit = least_squares(
        lambda line: line[0] * (reference - middle) + line[1] - signal,
        [0.0, float(np.median(signal))],
        loss="soft_l1",
        f_scale=spread,
    )
    return float(fit.x[0]), float(fit.x[1] - fit.x[0] * middle)


def separated(signal: np.ndarray, reference: np.ndarray) -> tuple[Parts, Spectra]:
    """Tell motion and activity apart in two traces (t,), each 1 on average and without gaps.

    reference = motion + noise, signal = activity * motion + noise, where motion and activity are stationary Gaussian
    processes around 1 with squared-exponential covariances. To first order signal = activity + motion - 1 + noise: in
    that form variances, time scales and noise have the greatest (Whittle) likelihood, and motion its mean given both
    traces. Activity is the mean given signal / motion.
    """
    frames = len(signal)
    # The cosine transform makes stationary noise independent, and has no jump where the end meets the beginning.
    first, second = (dct(trace - 1, norm="ortho") for trace in (reference, signal))
    frequency = np.arange(frames) / (2 * frames)
    spectra = _fitted(first, second, frequency)
    common = _power(frequency, spectra.motion, spectra.motion_frames)
    active = _power(frequency, spectra.activity, spectra.activity_frames)
    of_reference, of_signal = common + spectra.reference_noise, common + active + spectra.signal_noise
    determinant = of_reference * of_signal - common**2
    given_both = common * ((of_signal - common) * first + (of_reference - common) * second) / determinant
    motion = np.maximum(1 + idct(given_both, norm="ortho"), 0.1)
    noise = spectra.signal_noise * float(np.mean(1 / motion**2))
    quotient = dct(signal / motion - 1, norm="ortho")
    activity = 1 + idct(quotient * active / (active + noise), norm="ortho")
    return Parts(motion, activity), spectra


def _power(frequency: np.ndarray, variance: float, scale_frames: float) -> np.ndarray:
    """Return the power (frequency,) of a process with covariance ``variance exp(-lag² / 2 scale²)``."""
    return np.asarray(
        variance * scale_frames * np.sqrt(2 * np.pi) * np.exp(-2 * np.square(np.pi * frequency * scale_frames))
    )


def _fitted(first: np.ndarray, second: np.ndarray, frequency: np.ndarray) -> Spectra:
    """Return the most likely spectra of the cosine transforms of the reference and the signal (frequency,)."""
    frames = len(first)
    powers = first**2, second**2, first * second
    noises = [float(np.median(power[frames // 2 :])) / 0.455 for power in powers[:2]]  # median of chi² of 1 degree
    variances = [float(np.mean(power)) for power in powers[:2]]

    def cost(logs: np.ndarray) -> float:
        spectra = Spectra(*np.exp(logs))
        common = _power(frequency, spectra.motion, spectra.motion_frames)
        active = _power(frequency, spectra.activity, spectra.activity_frames)
        of_reference = common + spectra.reference_noise
        of_signal = common + active + spectra.signal_noise
        determinant = of_reference * of_signal - common**2
        misfit = (of_signal * powers[0] + of_reference * powers[1] - 2 * common * powers[2]) / determinant
        # The mean itself says nothing: traces are relative to it.
        return float(np.sum((np.log(determinant) + misfit)[1:]))

    floor = max(LEAST_VARIANCE * max(variances), np.finfo(float).tiny)
    shared = max(float(np.mean(powers[2])), 0.1 * variances[0], floor)
    bounds = [
        *[
            (np.log(floor), np.log(100 * max(variances) + floor)),
            (np.log(SHORTEST_FRAMES), np.log(LONGEST_PART * frames + 1)),
        ]
        * 2,
        *[(np.log(floor), np.log(100 * max(variances) + floor))] * 2,
    ]
    fits = []
    for motion_frames, activity_frames in ((2.0, 10.0), (10.0, 10.0), (2.0, 40.0)):
        start = [shared, motion_frames, max(variances[1] - shared, floor), activity_frames]
        start += [max(noise, 10 * floor) for noise in noises]
        logs = np.clip(np.log(start), *np.transpose(bounds))
        fits.append(minimize(cost, logs, method="L-BFGS-B", bounds=bounds))
    return Spectra(*np.exp(min(fits, key=lambda fit: float(fit.fun)).x))
