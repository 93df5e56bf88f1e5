"""What counts are turned into before the work, once per recording, so that no block has a baseline of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niddl_xr.metrics.photon_transfer import DETAIL, noise_of_planes
from niddl_xr.schema import NiddlError

# Of a normal distribution, this many standard deviations lie between the percentiles 0.5 and 99.5.
_PERCENTILES = (0.5, 99.5)
_STANDARD_DEVIATIONS = 5.1517


@dataclass(frozen=True)
class Normalisation:
    """Counts are mapped to ``(counts - offset) / scale``; both in the units of the recording."""

    offset: float
    scale: float

    def apply(self, counts: np.ndarray) -> np.ndarray:
        """Return normalised values, float32, of an array of any shape."""
        # Subtracted before the cast: float32 tells integers apart only up to 2**24.
        exact = np.float32 if counts.dtype.itemsize <= 2 or counts.dtype == np.float32 else np.float64
        normalised = counts.astype(exact)
        np.subtract(normalised, self.offset, out=normalised)
        np.divide(normalised, self.scale, out=normalised)
        return normalised.astype(np.float32, copy=False)

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Return counts, float32, from normalised values; works in place."""
        values *= np.float32(self.scale)
        values += np.float32(self.offset)
        return values


@dataclass(frozen=True)
class VarianceStabilisation:
    """Counts whose noise has the variance ``slope * counts + intercept`` are mapped to values whose noise has SD 1.

    Both in counts; ``slope`` above 0, ``intercept`` in counts², below 0 where the camera has an offset.

    Notes
    -----
    Generalised Anscombe transform (Starck, Murtagh & Bijaoui, *Image Processing and Data Analysis*, 1998) and, back,
    the closed form of its exact unbiased inverse (Mäkitalo & Foi, IEEE Trans. Image Process. 22:91, 2013), both
    written with the line of the variance in the place of gain, offset and read noise. Without the second, faint light
    would come back too dark by up to a quarter of the slope.
    """

    slope: float
    intercept: float

    def apply(self, counts: np.ndarray) -> np.ndarray:
        """Return stabilised values, float64, of an array of any shape."""
        electrons = (self.slope * counts.astype(np.float64) + self.intercept) / self.slope**2
        return np.asarray(2 * np.sqrt(np.maximum(electrons + 3 / 8, 0)))

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Return the mean counts, float32, whose stabilised values have these means."""
        root = np.maximum(values, 2 * np.sqrt(3 / 8))  # where the closed form begins, at no light and no read noise
        electrons = np.square(root) / 4 - 1 / 8
        electrons += np.sqrt(3 / 2) * (1 / 4 / root + 5 / 8 / root**3) - 11 / 8 / root**2
        return np.asarray(self.slope * electrons - self.intercept / self.slope, np.float32)


Units = Normalisation | VarianceStabilisation
IDENTITY = Normalisation(offset=0.0, scale=1.0)


def estimate(planes: np.ndarray) -> Normalisation:
    """Estimate offset and scale from sampled planes (n, y, x).

    The offset is the median, the scale the distance between the percentiles 0.5 and 99.5 in units of a normal
    standard deviation (5.15): a hot pixel does not move it, and a dark recording with few bright cells does not
    make it vanish, as the median absolute deviation of 8-bit images does.

    Raises
    ------
    NiddlError
        If the planes hold NaN or infinity, or are constant.
    """
    _require_finite(planes)
    values = planes.ravel()
    low, median, high = np.percentile(values, [_PERCENTILES[0], 50, _PERCENTILES[1]])
    scale = float(high - low) / _STANDARD_DEVIATIONS
    if scale == 0:  # almost all pixels alike, as in a binary mask: fall back to the standard deviation
        scale = float(values.std(dtype=np.float64))
    if scale == 0:
        raise NiddlError(
            f"expected images, got constant planes: every sampled pixel is {float(median):g}; "
            "check that the recording holds the channel and frames that you meant"
        )
    return Normalisation(offset=float(median), scale=scale)


def estimate_noise(planes: np.ndarray, noise_sd_counts: float | None = None) -> Units:
    """Estimate what gives the noise of sampled planes (n, y, x) the SD 1, at every level of light.

    Parameters
    ----------
    planes
        Counts, sampled over the recording.
    noise_sd_counts
        SD of the noise in counts, the same at every level. None: measured in the planes, as a line of variance against
        level, see :mod:`niddl_xr.metrics.photon_transfer`.

    Returns
    -------
    VarianceStabilisation
        Or a :class:`Normalisation`, with the median as offset and the SD as scale, where the noise does not rise with
        the light, or its SD is given.

    Raises
    ------
    NiddlError
        For NaN, where there is no noise, and for planes of less than 3 x 3 px, in which it cannot be measured.
    """
    _require_finite(planes)
    offset = float(np.median(planes))
    if noise_sd_counts is not None:
        return Normalisation(offset=offset, scale=noise_sd_counts)
    if min(planes.shape[1:]) < DETAIL.size:
        raise NiddlError(
            f"expected planes of at least {DETAIL.size} x {DETAIL.size} px to measure the noise in, got "
            f"{planes.shape[1]} x {planes.shape[2]} px; say noise_sd_counts="
        )
    noise = noise_of_planes(planes)
    if noise.slope > 0:
        return VarianceStabilisation(noise.slope, noise.intercept)
    if not noise.intercept > 0:
        raise NiddlError(
            f"expected images with noise, got none in {len(planes)} sampled planes of {planes.shape[1]} x "
            f"{planes.shape[2]} px; denoise the raw recording, or say noise_sd_counts="
        )
    return Normalisation(offset=offset, scale=float(np.sqrt(noise.intercept)))


def _require_finite(planes: np.ndarray) -> None:
    if planes.dtype.kind == "f" and not np.all(np.isfinite(planes)):
        count = int(planes.size - np.isfinite(planes).sum())
        raise NiddlError(
            f"expected finite counts, got {count} NaN or infinite pixels in {len(planes)} sampled planes; "
            "replace them first, for instance with recording.fillna(...)"
        )
