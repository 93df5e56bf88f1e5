"""One offset and one scale per recording, so that no block has a baseline of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    values = planes.ravel()
    if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
        count = int(np.size(values) - np.isfinite(values).sum())
        raise NiddlError(
            f"expected finite counts, got {count} NaN or infinite pixels in {len(planes)} sampled planes; "
            "replace them first, for instance with recording.fillna(...)"
        )
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
