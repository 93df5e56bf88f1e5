"""Where the offset of a camera is not the same all over a plane: shading, and drift while a plane is read.

Light comes with electrons, an offset without: the histogram of dark pixels tells them apart where single electrons are
seen (excess noise above 1). Planes are (plane, y, x) float32 counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares
from scipy.signal import lfilter

from niddl_xr.simulation._kernels.noise_histogram import fit_dark

BANDS = 8
_MOST_LIGHT = 3.0  # times the median band
_ROWS_APART = (2, 4, 6, 8, 12, 16, 24, 32, 48)
_FEWEST_ROWS = 100
_DARKER = 0.4  # fraction of a band's pixels that is looked at


@dataclass(frozen=True)
class Drift:
    """A baseline that wanders: RMS in counts, and the rows over which it forgets where it was."""

    rms: float
    length_px: float


def band_offsets(
    planes: np.ndarray, excess_noise: float, maximum_of: int, slope: tuple[float, float] | None, *, of_columns: bool
) -> np.ndarray:
    """Return the offsets of 8 bands: of rows (plane, 8), or of columns, which are the same in all planes (1, 8).

    Of each band the darker 40 % are taken; the surroundings in the odd rows choose the pixels of the even rows and the
    other way round, so that noise, which is independent from row to row, does not choose itself. A band
    with much more light than most, where an offset is badly told, takes that of its neighbours in the same plane.
    """
    size = planes.shape[2 if of_columns else 1] // BANDS
    around = np.stack([_surroundings(plane, max(size / 8, 1.0)) for plane in planes])
    groups = [range(len(planes))] if of_columns else [[index] for index in range(len(planes))]
    offsets, rates = np.empty((len(groups), BANDS)), np.empty((len(groups), BANDS))
    for band in range(BANDS):
        part = slice(band * size, (band + 1) * size)
        window = (slice(None), part) if of_columns else (part, slice(None))
        for place, group in enumerate(groups):
            pixels = []
            for index in group:
                near = around[index][window]
                pixels.append(planes[index][window][near <= np.quantile(near, _DARKER)])
            found = fit_dark([np.concatenate(pixels)], excess_noise, maximum_of, slope)
            offsets[place, band], rates[place, band] = found.offsets[0], found.rates[0]
    bands = np.arange(BANDS)
    for values, dark in zip(offsets, rates <= _MOST_LIGHT * np.median(rates), strict=True):
        if dark.any():
            values[:] = np.interp(bands, bands[dark], values[dark])
    return offsets


def _surroundings(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Return the Gaussian average (y, x) around each pixel: of odd rows around even ones, of even around odd."""
    pairs = plane.shape[0] // 2 * 2
    result = np.empty_like(plane)
    for parity in (0, 1):
        other = gaussian_filter(plane[parity:pairs:2], (sigma / 2, sigma))
        result[1 - parity : pairs : 2] = other
    result[pairs:] = result[pairs - 1]
    return result


def points_from_bands(levels: np.ndarray) -> np.ndarray:
    """Return levels (..., 9) at the edges of 8 bands, first and last row included, from those of the bands (..., 8)."""
    inner = (levels[..., 1:] + levels[..., :-1]) / 2
    first = 1.5 * levels[..., :1] - 0.5 * levels[..., 1:2]
    last = 1.5 * levels[..., -1:] - 0.5 * levels[..., -2:-1]
    return np.concatenate([first, inner, last], axis=-1)


def spread_evenly(points: np.ndarray, size: int) -> np.ndarray:
    """Return ``points``, evenly spread from the first to the last of ``size`` pixels, joined by lines; 0 if none."""
    if len(points) == 0:
        return np.zeros(size, np.float32)
    return np.asarray(np.interp(np.arange(size), np.linspace(0, size - 1, len(points)), points), np.float32)


def fit_drift(planes: np.ndarray, mask: np.ndarray, width: int) -> Drift:
    """Return the wandering of the baseline from row to row, of planes whose dark pixels ``mask`` (plane, y, x) tells.

    An Ornstein-Uhlenbeck process along y. Of stretches of rows that are dark over ``width`` columns, the mean squared
    difference of two row means is ``2 own + 2 rms² (1 - exp(-distance / length))``, where ``own`` is the noise that
    each row has for itself. Below 4 standard errors there is none.
    """
    columns = planes.shape[2] // width
    shape = (*planes.shape[:2], columns, width)
    dark: np.ndarray = np.all(mask[:, :, : columns * width].reshape(shape), axis=3)
    rows = planes[:, :, : columns * width].reshape(shape).mean(3, dtype=np.float64)
    distances, squares, errors = [], [], []
    for distance in _ROWS_APART:
        both = dark[:, distance:] & dark[:, :-distance]
        if both.sum() >= _FEWEST_ROWS:
            square = ((rows[:, distance:] - rows[:, :-distance])[both]) ** 2
            distances.append(distance)
            squares.append(square.mean())
            errors.append(square.mean() * np.sqrt(2 / both.sum()))
    if len(distances) < 4:
        return Drift(0.0, 1.0)
    apart, seen, error = np.array(distances, float), np.array(squares), np.array(errors)

    def miss(values: np.ndarray) -> np.ndarray:
        own, power, length = values
        return np.asarray((2 * own + 2 * power * -np.expm1(-apart / length) - seen) / error)

    longest = 2.0 * apart[-1]
    start = [seen[0] / 2, max((seen[-1] - seen[0]) / 2, 0.01 * seen[0]), longest / 4]
    found = least_squares(
        miss, start, bounds=([0, 0, 3.0], [np.inf, np.inf, longest]), x_scale=[1 + seen[0], 1.0, 10.0]
    )
    _, power, length = (float(value) for value in found.x)
    # What still grows over the longest distance is a slope, of light or of shading.
    growth = 2 * power * np.exp(-apart[0] / length)
    if growth < 4 * error.mean() or length > 0.9 * longest:
        return Drift(0.0, 1.0)
    return Drift(float(np.sqrt(power)), length)


def variance_of_means(length: float, rows: float) -> float:
    """Return the variance of the mean of ``rows`` rows of an Ornstein-Uhlenbeck process of variance 1."""
    ratio = length / rows
    return float(2 * ratio * (1 + ratio * np.expm1(-1 / ratio)))


def drift_along_rows(rows: int, rms: float, length_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random baseline (rows, 1), float32, of an Ornstein-Uhlenbeck process."""
    keep = np.exp(-1 / length_px)
    kicks = rms * rng.standard_normal((rows, 1))
    kicks[1:] *= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], kicks, axis=0), np.float32)
