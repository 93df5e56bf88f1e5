"""Bright lines in a plane: how strongly each pixel lies on one, in units of what is no line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

_NOISE_UM = 4.0  # over which the noise of pixels is averaged
_SURROUNDINGS_UM = 3.0  # over which the light around a line is averaged
_DARK_PERCENTILE = 5.0  # of the light in the plane, taken for no light at all
_UNEVENNESS = 0.01  # curvature times sigma², over the light, of tissue without lines
_BRIGHT_PERCENTILE, _FAINT = 99.5, 0.02  # of the curvature in the plane; the part of it that counts as no line
_KERNEL_SIGMAS = 5.0
_TINY = 1e-12


def ridge_strengths(plane: np.ndarray, sigma_um: Sequence[float], pixel_um: np.ndarray) -> np.ndarray:
    """Return how strongly the pixels of a finite plane (y, x) lie on a bright line: (sigma, y, x), float32, no unit.

    The curvature across a line, minus the smallest eigenvalue of the Hessian at scale sigma, is divided by the SD that
    it has where there is no line. The SD is that of the noise, the larger of 1.4826 times the median absolute deviation
    of the curvature over the plane and of the local noise of the pixels passed through the filter; that of uneven
    tissue, a part of the local light; and a part of the brightest lines of the plane, which is what holds where a
    denoiser left no noise. None of them depends on gain or offset. 0 where the plane is uniform.
    """
    plane = plane.astype(np.float32, copy=False)
    detail = ndimage.convolve1d(ndimage.convolve1d(plane, [1, -2, 1], axis=0), [1, -2, 1], axis=1) / 6
    noise = np.sqrt(ndimage.gaussian_filter(np.square(detail), _NOISE_UM / pixel_um))
    light = ndimage.gaussian_filter(plane, _SURROUNDINGS_UM / pixel_um)
    light = np.maximum(light - np.percentile(light, _DARK_PERCENTILE), 0)
    strengths = np.zeros((len(sigma_um), *plane.shape), np.float32)
    for strength, sigma in zip(strengths, sigma_um, strict=True):
        across = curvature(plane, sigma, pixel_um)
        middle = np.median(across)
        everywhere = 1.4826 * np.median(np.abs(across - middle))
        here = np.maximum(everywhere, noise * _gain(sigma, pixel_um))
        faint = _FAINT * max(float(np.percentile(across, _BRIGHT_PERCENTILE) - middle), 0.0)
        expected = np.sqrt(np.square(here) + np.square(_UNEVENNESS * light / sigma**2) + faint**2)
        # Rounding of float32 is no line.
        answer = (across - middle) / np.maximum(expected, 1e-6 * max(float(np.abs(plane).max()), _TINY) / sigma**2)
        np.maximum(answer, 0, out=strength)
    return strengths


def curvature(plane: np.ndarray, sigma_um: float, pixel_um: np.ndarray) -> np.ndarray:
    """Return minus the smallest eigenvalue of the Hessian, in counts per µm²: positive on bright lines and spots."""
    yy, yx, xx = (_derivative(plane, sigma_um, pixel_um, order) for order in ((2, 0), (1, 1), (0, 2)))
    return np.asarray(np.sqrt(np.square((yy - xx) / 2) + np.square(yx)) - (yy + xx) / 2)


def _derivative(plane: np.ndarray, sigma_um: float, pixel_um: np.ndarray, order: tuple[int, int]) -> np.ndarray:
    blurred = ndimage.gaussian_filter(plane, sigma_um / pixel_um, order=order, mode="nearest")
    return np.asarray(blurred / np.prod(np.power(pixel_um, order)), dtype=np.float32)


def _gain(sigma_um: float, pixel_um: np.ndarray) -> float:
    """Return the SD of the curvature along x in white noise of SD 1: the norm of the filter."""
    half = np.ceil(_KERNEL_SIGMAS * sigma_um / pixel_um).astype(int)
    point = np.zeros(tuple(2 * half + 1), np.float32)
    point[tuple(half)] = 1
    return float(np.linalg.norm(_derivative(point, sigma_um, pixel_um, (0, 2))))
