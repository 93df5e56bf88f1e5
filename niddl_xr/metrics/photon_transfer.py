"""How noisy a pixel is at each level of light, measured in the recording itself: arrays in, two numbers out.

The noise of a camera has a variance that is a line of the level, ``slope * level + intercept``: shot noise with slope
gain times excess noise, and read noise. It is read off the finest detail of an image, what is left of 3 x 3 pixels
when (1, -2, 1) is taken along both sides (Immerkær, Comput. Vis. Image Underst. 64:300, 1996): that has the noise's
variance, and of a nucleus or a stripe along a row or column hardly anything. It is held against the mean of the same
pixels, in groups of pixels whose surroundings are alike: sorted by their own noise, that would pass for light.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from niddl_xr.metrics._measures import MAD_TO_SD

DETAIL = np.array([1, -2, 1]) / np.sqrt(6)
SORTING_SIGMA_PX = 2.0  # of the surroundings
SORTING_RADIUS_PX = 8
BINS = 24  # of equal steps of the level: most pixels are dark, but most of the line is bright
BRIGHTEST_PERCENTILE = 99.9  # where the steps end: a speck of dust must not stretch them
UNEVEN = 0.1  # standard deviation of a bin beside its noise: offsets that differ over a sensor pass for light
LEAST_PER_GROUP = 100
GROUPS = 9  # of neighbouring pixels within a bin: what moves, flashes, or is hot is in few of them
MOST_PER_PLANE = 250_000
FIT_ROUNDS = 8
OUTLYING = 6.0  # robust standard deviations from the line, from which on a group does not count
SIGNIFICANT = 3.0  # standard errors of a slope that is no accident
# Of the mean of n squared details of normal noise, in variance²: 2 / n if they were independent. Details one and two
# pixels apart share pixels, and have the correlations -4/6 and 1/6 along each side.
SQUARES_VARIANCE = 2 * (1 + 2 * (4 / 6) ** 2 + 2 * (1 / 6) ** 2) ** 2


class NoiseModel(NamedTuple):
    """The variance of a pixel, ``slope * level + intercept``: slope in counts, intercept in counts²; NaN if unknown."""

    slope: float
    intercept: float

    def variance(self, level: np.ndarray) -> np.ndarray:
        """Return the variance in counts² at levels in counts, of any shape."""
        return np.asarray(self.slope * level + self.intercept)


UNKNOWN = NoiseModel(float("nan"), float("nan"))


def noise_of_planes(planes: Iterable[np.ndarray], saturation: float = float("inf")) -> NoiseModel:
    """Measure the noise of single planes (y, x): sharp structure and a camera's fixed pattern count as noise.

    Pixels from ``saturation`` counts on, and those that are not finite, are left out. Where no 3 x 3 pixels are left,
    both numbers are NaN.
    """
    return _fit([_details(plane, plane, saturation) for plane in planes])


def noise_between(pairs: Iterable[tuple[np.ndarray, np.ndarray]], saturation: float = float("inf")) -> NoiseModel:
    """Measure the noise as the difference of consecutive images (y, x): structure that stays cancels.

    Of what moves or lights up, only the finest detail of the change is left.
    """
    return _fit([_details(first, second, saturation) for first, second in pairs])


class _Details(NamedTuple):
    """Places of 3 x 3 pixels, each (n,), in the order of the image: their surroundings, level and squared detail."""

    surroundings: np.ndarray
    level: np.ndarray
    square: np.ndarray


def _details(first: np.ndarray, second: np.ndarray, saturation: float) -> _Details:
    from scipy.ndimage import minimum_filter

    if min(first.shape) < 3:
        return _Details(*[np.empty(0)] * 3)
    single = second is first
    one = first.astype(np.float64)
    other = one if single else second.astype(np.float64)
    usable = np.isfinite(one) & np.isfinite(other) & (np.maximum(one, other) < saturation)
    one, other = np.where(usable, one, 0.0), np.where(usable, other, 0.0)
    mean = (one + other) / 2
    noise = one if single else (one - other) / np.sqrt(2)
    surroundings = _surroundings(mean)
    if not usable.all():  # what is left out has no say in the level around it
        weight = _surroundings(usable.astype(np.float64))
        surroundings = np.divide(surroundings, weight, out=np.zeros_like(mean), where=weight > 0)
    # A detail's variance is the mean of its pixels' variances with the squares of its weights; so is its level.
    square, level = np.square(_along_both(noise, DETAIL)), _along_both(mean, DETAIL**2)
    inside = (slice(1, -1), slice(1, -1))
    whole = minimum_filter(usable, 3)[inside]
    step = max(1, -(-int(whole.sum()) // MOST_PER_PLANE))
    return _Details(*(image[inside][whole][::step] for image in (surroundings, level, square)))


def _along_both(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    return np.asarray(correlate1d(correlate1d(image, weights, axis=0), weights, axis=1))


def _surroundings(image: np.ndarray) -> np.ndarray:
    """Return the Gaussian mean of a neighbourhood without the rows of a place itself, which share its stripes."""
    from scipy.ndimage import correlate1d, gaussian_filter1d

    distance = np.arange(-SORTING_RADIUS_PX, SORTING_RADIUS_PX + 1)
    weights = np.where(np.abs(distance) > 1, np.exp(-(distance**2) / (2 * SORTING_SIGMA_PX**2)), 0)
    return np.asarray(gaussian_filter1d(correlate1d(image, weights / weights.sum(), axis=0), SORTING_SIGMA_PX, axis=1))


def _fit(details: list[_Details]) -> NoiseModel:
    """Sort the places into bins of like light, cut these into groups of neighbours, and fit a line to their means.

    In the means of a group level and variance keep their line, however different its pixels are.
    """
    if not details:
        return UNKNOWN
    everything = _Details(*(np.concatenate(parts) for parts in zip(*details, strict=True)))
    if everything.level.size == 0:
        return UNKNOWN
    order = np.argsort(everything.surroundings, kind="stable")
    groups: list[np.ndarray] = []
    number_of_bin: list[int] = []
    for number, (start, stop) in enumerate(_bins(everything.surroundings[order])):
        parts = max(1, min(GROUPS, (stop - start) // LEAST_PER_GROUP))
        groups += np.array_split(np.sort(order[start:stop]), parts)
        number_of_bin += [number] * parts
    level = np.array([everything.level[members].mean() for members in groups])
    variance = np.array([everything.square[members].mean() for members in groups])
    counts = np.array([len(members) for members in groups], dtype=np.float64)
    return _line(level, variance, counts, np.array(number_of_bin))


def _bins(rising: np.ndarray) -> list[tuple[int, int]]:
    """Cut levels in rising order into bins of equal steps; where there are too few places, of several."""
    steps = np.linspace(rising[0], np.percentile(rising, BRIGHTEST_PERCENTILE), BINS)
    edges = [0]
    for edge in np.searchsorted(rising, steps[1:]).tolist():
        if edge - edges[-1] >= LEAST_PER_GROUP and rising.size - edge >= LEAST_PER_GROUP:
            edges.append(edge)
    return list(zip(edges, [*edges[1:], rising.size], strict=True))


def _line(level: np.ndarray, variance: np.ndarray, counts: np.ndarray, bins: np.ndarray) -> NoiseModel:
    """Fit the line, each group weighted by the inverse of its own variance; flat where no rise is seen.

    The first guess is the median of each bin's groups; then Tukey's biweight (Beaton & Tukey, Technometrics 16:147,
    1974), in units of the groups' spread about the line, takes out those that are no noise alone.
    """
    expected = np.array([np.median(variance[bins == number]) for number in bins])
    middle, mean = float(np.median(level)), float(np.average(expected, weights=counts))
    if mean == 0 or not np.isfinite(mean):  # no noise, or squares of the counts beyond floating point
        return NoiseModel(0.0, float(np.average(variance, weights=counts)))
    groups_of_bin = np.bincount(bins)[bins]
    # Relative to the variance; what is common to a bin's groups does not average out among them.
    relative = np.sqrt(SQUARES_VARIANCE / counts + groups_of_bin * UNEVEN**2)
    design = np.stack([level - middle, np.ones_like(level)])
    slope, height, error = 0.0, mean, np.inf
    # Below the line's zero there are levels too: a twentieth of the mean keeps their weights finite.
    line, least = expected, mean / 20
    trust = np.ones_like(level)
    for _ in range(FIT_ROUNDS):
        sd = relative * np.maximum(line, least)
        away = np.abs(variance - line) / sd
        spread = max(1.0, MAD_TO_SD * float(np.median(away)))
        trust = np.square(np.maximum(0, 1 - np.square(away / (OUTLYING * spread))))
        covariance = np.linalg.pinv((design * trust / sd**2) @ design.T)
        slope, height = (covariance @ (design * trust / sd**2) @ variance).tolist()
        error = spread * float(np.sqrt(covariance[0, 0]))
        line = slope * (level - middle) + height
    if slope > SIGNIFICANT * error > 0:
        return NoiseModel(slope, height - slope * middle)
    return NoiseModel(0.0, float(np.average(variance, weights=trust * counts)))
