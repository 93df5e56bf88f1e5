"""The brightness of all neurons of one frame, its variance and the background: arrays and numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from niddl_xr.traces._kernels import windows as boxes
from niddl_xr.traces._kernels.demixing import fit_weights, mixing, tied
from niddl_xr.traces._kernels.surroundings import Shell, light_around, occupied
from niddl_xr.traces._kernels.windows import Windows, windows_around

VOXELS_AT_ONCE = 2**19  # in the windows of the neurons that are in memory together: 4 MiB an array
LEAST_INSIDE = 0.25  # of the weights, on voxels that are there: with less a neuron has no brightness
GAUSSIAN = ("gaussian", "least_squares")  # the methods that know how brightness changes with the place
MEDIAN_VARIANCE = np.pi / 2  # of a median over that of a mean, for normal noise


class Noise(NamedTuple):
    """Variance of a pixel in counts², ``slope * counts + intercept``, and of what the pixels of a row share."""

    slope: float
    intercept: float
    row_variance: float


@dataclass(frozen=True)
class Recipe:
    """How brightness is measured.

    ``method`` is one of gaussian, least_squares, ball, box, topk, labels. ``sigma_um`` (n, 3) are the neurons' Gaussian
    widths, ``radius_um`` the ball's, ``half`` the half sizes of the window in voxels, ``top`` the number of voxels
    (below 1: the part of the ball) of topk. ``background`` is in counts, and not used where there is a ``shell``, of
    whose light above the camera's ``offset`` the part ``neuropil`` is subtracted. ``step_um`` (3,) is the voxel,
    ``position_error_um`` (3,) the standard deviations of the places. In the fits of the Gaussian methods voxels count
    by a Gaussian of ``local_sigmas``, a constant is fitted where ``fits_constant``, and a peak is ``scale`` bright.
    """

    method: str
    half: tuple[int, int, int]
    step_um: np.ndarray
    sigma_um: np.ndarray
    radius_um: float
    top: float
    offset: float
    background: float
    shell: Shell | None
    occupied_um: np.ndarray
    neuropil: float
    noise: Noise
    position_error_um: np.ndarray
    local_sigmas: float = np.inf
    fits_constant: bool = True
    scale: float = 1.0

    def of(self, chosen: np.ndarray) -> Recipe:
        """Return the recipe of some of the neurons."""
        return replace(self, sigma_um=self.sigma_um[chosen])

    @property
    def voxels(self) -> int:
        """Return how many voxels are looked at for a neuron."""
        window = int(np.prod([2 * half + 1 for half in self.half]))
        return window if self.shell is None else max(window, self.shell.offsets[..., 0].size)


class Measured(NamedTuple):
    """Of n neurons, float64, NaN where there is none.

    Brightness above the background, its variance by the noise of the pixels and by errors of the places, the
    background, and by how much the raw pixels are brighter than the denoised ones (0 where there are none).
    """

    brightness: np.ndarray
    variance: np.ndarray
    place_variance: np.ndarray
    background: np.ndarray
    raw_excess: np.ndarray


class Frame(NamedTuple):
    """Volumes (z, y, x) of one frame: the image, the image before denoising, labels, and where neurons' light is."""

    image: np.ndarray
    raw: np.ndarray | None = None
    labels: np.ndarray | None = None
    taken: np.ndarray | None = None


def measure_frame(frame: Frame, places: np.ndarray, recipe: Recipe) -> Measured:
    """Measure the neurons at ``places`` (n, 3) in voxels of a frame.

    Places that are NaN or outside the volume give NaN. Where there is a raw image, variances are of its pixels.
    """
    result = Measured(*(np.full(len(places), np.nan) for _ in Measured._fields))
    shape = np.asarray(frame.image.shape)
    inside = np.all((places >= -0.5) & (places <= shape - 0.5), axis=1)  # False for NaN
    chosen = np.flatnonzero(inside)
    if not len(chosen):
        return result
    if recipe.shell is not None:
        known = places[np.all(np.isfinite(places), axis=1)]
        frame = frame._replace(taken=occupied(known, recipe.occupied_um, recipe.step_um, frame.image.shape))
    places, recipe = places[chosen], recipe.of(chosen)
    background, background_variance = _background(frame, places, recipe)
    cuts = _cuts(len(places), recipe.voxels)
    measure = _fitted if recipe.method in GAUSSIAN else _weighted
    brightness, variance, place_variance, raw_excess = measure(frame, places, recipe, background, cuts)
    brightness, variance = _above(brightness, variance, background, background_variance, recipe)
    measured = Measured(brightness, variance, place_variance, background, raw_excess)
    for whole, part in zip(result, measured, strict=True):
        whole[chosen] = part
    return result


def _above(
    brightness: np.ndarray,
    variance: np.ndarray,
    background: np.ndarray,
    background_variance: np.ndarray,
    recipe: Recipe,
) -> tuple[np.ndarray, np.ndarray]:
    """Return brightness (n,) above the background, and its variance; what is fitted is above it already."""
    if recipe.method == "least_squares":
        return brightness, variance
    subtracted = 0.0 if recipe.method in GAUSSIAN else 1.0
    brightness = brightness - subtracted * background
    if recipe.shell is None:
        return brightness, variance
    kept = 1 - recipe.neuropil  # of the light around a neuron above the offset
    if kept:
        brightness = brightness + kept * (background - recipe.offset)
    return brightness, variance + (kept - subtracted) ** 2 * background_variance


def _cuts(count: int, voxels: int) -> list[np.ndarray]:
    """Cut the numbers of neurons, each looked at in so many voxels, into parts that are in memory together."""
    return np.array_split(np.arange(count), min(count, -(-count * voxels // VOXELS_AT_ONCE)))


def _background(frame: Frame, places: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return the background (n,) and its variance; where a shell is full of neurons, the median of all others."""
    if recipe.shell is None or frame.taken is None:
        return np.full(len(places), recipe.background), np.zeros(len(places))
    cuts = _cuts(len(places), recipe.voxels)
    parts = [light_around(frame.image, places[part], recipe.shell, frame.taken) for part in cuts]
    background, groups = (np.concatenate(column) for column in zip(*parts, strict=True))
    lacking = np.isnan(background)
    if lacking.any() and not lacking.all():
        background[lacking] = np.median(background[~lacking])
        groups[lacking] = np.median(groups[~lacking])
    noise, members = recipe.noise, recipe.shell.offsets.shape[1]
    of_a_group = np.maximum(noise.slope * background + noise.intercept, 0) / members + noise.row_variance
    return background, MEDIAN_VARIANCE * of_a_group / np.maximum(groups, 1)


def _weighted(
    frame: Frame, places: np.ndarray, recipe: Recipe, background: np.ndarray, cuts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the weighted means (n,) of windows, their variances by noise and place, and the raw means less those."""
    brightness, variance, place_variance, raw_excess = (np.full(len(places), np.nan) for _ in range(4))
    for part in cuts:
        windows, values, usable = _windows(frame, places[part], recipe)
        weights = _weights(frame, windows, values, usable, recipe.of(part))
        total = np.where(_enough(weights, usable), (weights * usable).sum(axis=(1, 2, 3)), np.nan)
        weights = weights * usable / total[:, None, None, None]
        mean = np.einsum("nzyx,nzyx->n", weights, values)
        raw = values if frame.raw is None else np.nan_to_num(windows.values(frame.raw))
        raw_excess[part] = np.einsum("nzyx,nzyx->n", weights, raw) - mean
        brightness[part] = mean
        variance[part] = _variance(weights, raw, background[part], recipe.noise)
        place_variance[part] = 0.0
    return brightness, variance, place_variance, raw_excess


def _fitted(
    frame: Frame, places: np.ndarray, recipe: Recipe, background: np.ndarray, cuts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the brightness (n,) of Gaussians, told apart from the neighbours', as :func:`_weighted` does."""
    count = len(places)
    sums, raw_sums, variances = (np.full(count, np.nan) for _ in range(3))
    tilt, tilt_variance = np.zeros((count, 3)), np.zeros((count, 3))
    system, slope = np.zeros((count, count)), np.zeros((count, count, 3))
    places_um = places * recipe.step_um
    for part in cuts:
        windows, values, usable = _windows(frame, places[part], recipe)
        sigma_um = recipe.sigma_um[part]
        fit = fit_weights(windows, usable, sigma_um, recipe.local_sigmas, constant=recipe.fits_constant)
        light = values if recipe.fits_constant else values - recipe.background * usable
        raw = values if frame.raw is None else np.nan_to_num(windows.values(frame.raw))
        enough = _enough(fit.gaussian, usable)
        sums[part] = np.where(enough, np.einsum("nzyx,nzyx->n", fit.weights, light), np.nan)
        raw_sums[part] = sums[part] + np.einsum("nzyx,nzyx->n", fit.weights, raw - values)
        variances[part] = _variance(fit.weights, raw, background[part], recipe.noise)
        for axis in range(3):
            moved = fit.moved(axis)
            tilt[part, axis] = np.einsum("nzyx,nzyx->n", moved, light)
            tilt_variance[part, axis] = _variance(moved, raw, background[part], recipe.noise)
        system[part], slope[part] = mixing(fit.weights, windows, places_um, recipe.sigma_um, part)
    kept = np.isfinite(sums)
    within = np.ix_(kept, kept)
    unmixing = np.linalg.inv(tied(system[within], places_um[kept], recipe.position_error_um)) * recipe.scale
    results = [np.full(count, np.nan) for _ in range(4)]
    results[0][kept] = bright = unmixing @ sums[kept]
    results[1][kept] = np.square(unmixing) @ variances[kept]
    place_variance = np.zeros(int(kept.sum()))
    # A wrong place moves a neuron's window over what the model does not explain, and its light in all windows.
    peaks = bright / recipe.scale
    unexplained = tilt[kept] + np.einsum("ija,j->ia", slope[within], peaks)
    for axis, error_um in enumerate(recipe.position_error_um):
        change = unmixing * unexplained[:, axis] - (unmixing @ slope[within][:, :, axis]) * peaks
        # The noise of the pixels makes a slope of its own, which is none.
        accident = np.square(unmixing) @ tilt_variance[kept, axis]
        place_variance += error_um**2 * np.maximum(np.square(change).sum(axis=1) - accident, 0.0)
    results[2][kept] = _without_bend(place_variance, bright, recipe.of(kept))
    results[3][kept] = unmixing @ (raw_sums - sums)[kept]
    return results[0], results[1], results[2], results[3]


def _windows(frame: Frame, places: np.ndarray, recipe: Recipe) -> tuple[Windows, np.ndarray, np.ndarray]:
    """Return windows around places, their values with 0 for what is missing, and where they are usable."""
    shape = (frame.image.shape[0], frame.image.shape[1], frame.image.shape[2])
    windows = windows_around(places, recipe.half, shape, recipe.step_um)
    values, usable = windows.values(frame.image), windows.inside
    for image in (frame.image, frame.raw):
        if image is not None and image.dtype.kind == "f":
            usable = usable & np.isfinite(windows.values(image))
    return windows, np.where(usable, values, 0.0), usable


def _weights(frame: Frame, windows: Windows, values: np.ndarray, usable: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return the weights (n, z, y, x) of the voxels of windows, those outside the volume included."""
    if recipe.method == "box":
        return np.ones(values.shape)
    if recipe.method == "labels" and frame.labels is not None:
        middle = tuple(size // 2 for size in values.shape[1:])
        labels = np.take(frame.labels.reshape(-1), windows.flat)
        own = labels[(slice(None), *middle)]
        same: np.ndarray = (labels == own[:, None, None, None]) & (own > 0)[:, None, None, None] & windows.inside
        return same.astype(np.float64)
    weights = boxes.ball(windows, recipe.radius_um)
    if recipe.method == "topk":
        return _brightest(weights, values, usable, recipe.top)
    return weights


def _brightest(weights: np.ndarray, values: np.ndarray, usable: np.ndarray, top: float) -> np.ndarray:
    """Keep the weights of the ``top`` brightest usable voxels of each window, or of the part ``top`` of them."""
    candidates = np.where((weights > 0) & usable, values, -np.inf).reshape(len(values), -1)
    count = np.isfinite(candidates).sum(axis=1)
    kept = np.ceil(top * count).astype(int) if top < 1 else np.minimum(int(top), count)
    # Places in the order of brightness, ties in the order of the voxels.
    rank = np.argsort(np.argsort(-candidates, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray((rank < kept[:, None]).reshape(values.shape), dtype=np.float64)


def _enough(weights: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return whether (n,) a quarter of the weights or more lies on voxels that are there."""
    whole = weights.sum(axis=(1, 2, 3))
    there = (weights * usable).sum(axis=(1, 2, 3))
    return np.asarray((whole > 0) & (there >= LEAST_INSIDE * whole))


def _variance(weights: np.ndarray, raw: np.ndarray, background: np.ndarray, noise: Noise) -> np.ndarray:
    """Return the variance (n,) of sums of raw pixels (n, z, y, x) with ``weights``, in counts²."""
    squares = np.square(weights)
    power = squares.sum(axis=(1, 2, 3))
    pixels = noise.slope * np.einsum("nzyx,nzyx->n", squares, raw) + noise.intercept * power
    # A few dark pixels may lie below the level of which the variance is 0; the light is never below the background's.
    least = np.maximum(noise.slope * np.nan_to_num(background) + noise.intercept, 0) * power
    rows = noise.row_variance * np.square(weights.sum(axis=3)).sum(axis=(1, 2))
    return np.asarray(np.maximum(pixels, least) + rows)


def _without_bend(variance: np.ndarray, brightness: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return the ``variance`` (n,) by errors of the places, which is error² slope², without what the errors add to it.

    A Gaussian mean of a Gaussian as wide falls as exp(-d² / 4 sigma²) with the error d: to second order that has the
    variance h² error⁴ / 2 with h = F / 2 sigma². But the slope is that at a place that is wrong already, so that its
    square is larger by h² error², and the product by twice as much. Half of the variance is left at least.
    """
    narrower = 2 / (1 + 1 / (1 + recipe.local_sigmas**-2))
    bend = 0.5 * np.square(narrower * np.square(recipe.position_error_um / recipe.sigma_um) / 2).sum(axis=1)
    return np.asarray(np.maximum(variance - bend * np.square(brightness), variance / 2))
