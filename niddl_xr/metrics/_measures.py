"""Image quality of single planes: arrays (y, x) in, numbers out; sums in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
PEAK_PERCENTILES = (0.1, 99.9)
MAD_TO_SD = 1.4826  # of a normal distribution


class SignalAndNoise(NamedTuple):
    """Signal to noise of one image; see :func:`niddl_xr.metrics.snr`."""

    snr_dB: float
    foreground: float
    background: float
    noise_sd: float
    saturated: float


def affine_coefficients(image: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return slope ≥ 0 and intercept that bring ``slope image + intercept`` nearest to ``truth`` in least squares.

    Where the best slope were negative, or the image is constant, the slope is 0 and the intercept the truth's mean.
    """
    image_mean, truth_mean = image.mean(dtype=np.float64), truth.mean(dtype=np.float64)
    centred = image - image_mean
    variance = float(np.vdot(centred, centred))
    slope = max(0.0, float(np.vdot(centred, truth - truth_mean)) / variance) if variance > 0 else 0.0
    return slope, float(truth_mean - slope * image_mean)


def matched(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the image (y, x), float64, on the scale of the truth."""
    slope, intercept = affine_coefficients(image, truth)
    return np.asarray(slope * image.astype(np.float64) + intercept)


def peak_of(truth: np.ndarray) -> float:
    """Return the range of the finite values of a truth of any shape: its 99.9th minus its 0.1th percentile, or 0."""
    values = truth[np.isfinite(truth)]
    if values.size == 0:
        return 0.0
    low, high = np.percentile(values, PEAK_PERCENTILES)
    return float(high - low)


def root_mean_square_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the RMSE of two planes (y, x)."""
    return float(np.sqrt(np.mean(np.square(image - truth.astype(np.float64)))))


def mean_absolute_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the MAE of two planes (y, x)."""
    return float(np.mean(np.abs(image - truth.astype(np.float64))))


def peak_signal_to_noise_db(image: np.ndarray, truth: np.ndarray, peak: float) -> float:
    """Return 20 log10(peak / RMSE) of two planes (y, x): inf where they are equal, NaN for a peak of 0."""
    if peak <= 0:
        return float("nan")
    error = root_mean_square_error(image, truth)
    return float("inf") if error == 0 else float(20 * np.log10(peak / error))


def structural_similarity(image: np.ndarray, truth: np.ndarray, peak: float) -> float:
    """Return the mean SSIM of two planes (y, x) with an 11 x 11 Gaussian window: NaN for a peak of 0."""
    from skimage import metrics

    ssim: Callable[..., float] = metrics.structural_similarity
    if peak <= 0:
        return float("nan")
    return float(
        ssim(
            image.astype(np.float64),
            truth.astype(np.float64),
            data_range=peak,
            gaussian_weights=True,
            sigma=SSIM_SIGMA_PX,  # scikit-image cuts the window at 3.5 sigma: 5 px on each side
            use_sample_covariance=False,
            K1=SSIM_K1,
            K2=SSIM_K2,
        )
    )


def signal_and_noise(image: np.ndarray, foreground_fraction: float, saturation: float) -> SignalAndNoise:
    """Return the signal to noise of an image of any shape; values that are not finite are left out."""
    values = image.reshape(-1)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        return SignalAndNoise(*[float("nan")] * 5)
    count = max(1, round(foreground_fraction * values.size))
    foreground = float(np.partition(values, values.size - count)[values.size - count :].mean(dtype=np.float64))
    background = float(np.median(values))
    noise_sd = MAD_TO_SD * float(np.median(np.abs(values.astype(np.float32) - np.float32(background))))
    saturated = float(np.mean(values >= saturation))
    contrast = foreground - background
    ratio_db = float(20 * np.log10(contrast / noise_sd)) if noise_sd > 0 and contrast > 0 else float("nan")
    return SignalAndNoise(ratio_db, foreground, background, noise_sd, saturated)
