"""A second look at the blobs of a frame: those that overlap are taken apart.

Two nuclei that nearly touch give one peak. Every blob is therefore described as a Gaussian, as the filter sees it; what
the sum of all leaves over is searched for peaks again, and the found ones are fitted along with the others. The sizes
of the Gaussians are close to one another, so that a pair cannot pass as one long blob.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from niddl_xr.segmentation._kernels.blobs import WIDER, apart, between_voxels, local_maxima, noise_sd

SIGMA_PER_RADIUS = 0.6  # a nucleus, seen through a microscope, as a Gaussian
_DEPTH_PER_WIDTH = 1.3  # of a nucleus' image at first: a microscope blurs more along z
_BOX_RADII = 1.5  # around a centre, along each axis, within which a blob is fitted
_ROUNDS = 3  # of looking at what is left over
_STEPS = 6  # of the fit, a round
_STEP = 0.7  # of a Gauss-Newton step: blobs that overlap are changed at the same time
_DAMPING = 0.01
_LONGEST_MOVE = 0.25  # of a step, in radii
_LOG_VARIANCE_STEP = 0.3
_FREE, _ALIKE = 1.0, 0.35  # how far the logarithm of a variance may lie from the first guess, and from the common one
_SHADOW = 1.5  # how far the uneven shape of a blob reaches, in distances of two nuclei
_NEAREST = 0.92  # of the distance of two nuclei, for blobs of the same brightness: 1.7 radii
_SURE = 15.0  # times the noise of the place
_LONELIEST = 0.4  # of the blobs, which tell the common size


@dataclass(frozen=True)
class Blobs:
    """Gaussians: ``centre_um`` (n, 3), ``peak`` (n,) in counts, ``log_variance`` (n, 2) along z and in the plane."""

    centre_um: np.ndarray
    peak: np.ndarray
    log_variance: np.ndarray

    def __len__(self) -> int:
        return len(self.peak)

    def where(self, chosen: np.ndarray) -> Blobs:
        """Return the blobs that ``chosen`` (mask or indices) names."""
        return Blobs(self.centre_um[chosen], self.peak[chosen], self.log_variance[chosen])

    def and_also(self, others: Blobs) -> Blobs:
        """Return these and the others."""
        return Blobs(
            np.concatenate([self.centre_um, others.centre_um]),
            np.concatenate([self.peak, others.peak]),
            np.concatenate([self.log_variance, others.log_variance]),
        )


@dataclass(frozen=True)
class _Profile:
    """One of the two blurred copies of the blobs, along each axis: values (n, box) and what they come from."""

    sign: float
    variance: list[np.ndarray]  # of the blob, (n, 1) an axis
    total: list[np.ndarray]  # blurred, (n, 1) an axis
    distance_um: list[np.ndarray]
    value: list[np.ndarray]

    def product(self, axis: int | None = None, factor: np.ndarray | None = None) -> np.ndarray:
        """Return the product along the axes (n, z, y, x), that along ``axis`` times ``factor`` first."""
        along = [self.value[a] * factor if a == axis and factor is not None else self.value[a] for a in range(3)]
        planes = along[1][:, :, None] * along[2][:, None, :]
        planes *= self.sign
        return np.asarray(along[0][:, :, None, None] * planes[:, None])


class BlobFit:
    """Gaussians fitted to a response, the difference of two Gaussian blurs, of one frame.

    Holds what the blobs leave of the response; it is brought up to date in the boxes of the blobs alone.
    """

    def __init__(self, response: np.ndarray, sigma_um: np.ndarray, voxel_um: np.ndarray, radius_um: float) -> None:
        self.voxel_um, self.sigma_um, self.radius_um = voxel_um, sigma_um, radius_um
        deep = np.asarray(response.shape) > 1
        half = np.where(deep, np.maximum(1, np.floor(_BOX_RADII * radius_um / voxel_um)), 0).astype(int)
        self.half, self.shape = half, np.asarray(response.shape)
        # A margin of NaN, so that boxes at the edge are as large as the others.
        self._left = np.full(self.shape + 2 * half, np.nan, np.float32)
        self.left_over[...] = response
        self._windows = np.lib.stride_tricks.sliding_window_view(self._left, tuple(2 * half + 1))
        self.offsets_um = [np.arange(-h, h + 1) * v for h, v in zip(half, voxel_um, strict=True)]

    @property
    def left_over(self) -> np.ndarray:
        """The response (z, y, x) less the blobs that were subtracted; a view."""
        return self._left[tuple(slice(h, h + size) for h, size in zip(self.half, self.shape, strict=True))]

    def peak_response(self, log_variance: np.ndarray) -> np.ndarray:
        """Return the response (n,) in the centre of Gaussians of peak 1."""
        variance = self._variances(log_variance)
        return np.asarray(
            sum(
                sign * np.prod(np.sqrt(variance / (variance + (scale * self.sigma_um) ** 2)), axis=1)
                for sign, scale in ((1.0, 1.0), (-1.0, WIDER))
            )
        )

    def strength(self, blobs: Blobs) -> np.ndarray:
        """Return the response (n,) that each blob by itself gives in its centre."""
        return np.asarray(self.peak_response(blobs.log_variance) * blobs.peak)

    def subtract(self, blobs: Blobs) -> None:
        """Take the blobs from what is left over."""
        self._add(self._corners(blobs), self._images(self._profiles(blobs), -blobs.peak))

    def refined(self, blobs: Blobs, common: np.ndarray, freedom: float, steps: int) -> Blobs:
        """Return the blobs, which are subtracted, after some damped Gauss-Newton steps; they stay subtracted.

        ``common`` (2,) is the log variance from which none may differ by more than ``freedom``.
        """
        for _ in range(steps):
            corners, profiles = self._corners(blobs), self._profiles(blobs)
            slopes = self._slopes(blobs, profiles)
            left = self._windows[tuple(corners.T)].astype(np.float64)
            known = np.isfinite(left)
            left = np.where(known, left, 0).reshape(len(blobs), -1)
            slopes = np.where(known.reshape(len(blobs), 1, -1), slopes, 0)
            normal = slopes @ slopes.transpose(0, 2, 1)
            diagonal = np.einsum("npp->np", normal)
            diagonal *= 1 + _DAMPING
            diagonal += 1e-12  # along a flat axis nothing is known, and nothing moves
            change = _STEP * np.linalg.solve(normal, (slopes @ left[:, :, None]))[:, :, 0]
            self._add(corners, self._images(profiles, blobs.peak))
            blobs = self._moved(blobs, change, common, freedom)
            self.subtract(blobs)
        return blobs

    def _moved(self, blobs: Blobs, change: np.ndarray, common: np.ndarray, freedom: float) -> Blobs:
        length = np.linalg.norm(change[:, 1:4], axis=1, keepdims=True)
        longest = _LONGEST_MOVE * self.radius_um
        move = change[:, 1:4] * np.minimum(1, longest / np.maximum(length, longest))
        edge = self.voxel_um / 2
        centre = np.clip(blobs.centre_um + move, -edge, (self.shape - 1) * self.voxel_um + edge)
        wider = np.clip(change[:, 4:], -_LOG_VARIANCE_STEP, _LOG_VARIANCE_STEP)
        return Blobs(
            centre,
            np.maximum(blobs.peak + change[:, 0], 1e-6 * np.abs(blobs.peak)),
            np.clip(blobs.log_variance + wider, common - freedom, common + freedom),
        )

    def _corners(self, blobs: Blobs) -> np.ndarray:
        nearest = np.clip(np.round(blobs.centre_um / self.voxel_um).astype(int), 0, self.shape - 1)
        return np.asarray(nearest)  # the margin is half a box wide, so this is the first voxel of the box

    def _variances(self, log_variance: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(log_variance[:, [0, 1, 1]]))

    def _profiles(self, blobs: Blobs) -> list[_Profile]:
        corners = self._corners(blobs)
        variances = self._variances(blobs.log_variance)
        distance = [
            self.offsets_um[axis] - (blobs.centre_um[:, axis] - corners[:, axis] * self.voxel_um[axis])[:, None]
            for axis in range(3)
        ]
        variance = [variances[:, axis, None] for axis in range(3)]
        profiles = []
        for sign, scale in ((1.0, 1.0), (-1.0, WIDER)):
            total = [variance[axis] + (scale * self.sigma_um[axis]) ** 2 for axis in range(3)]
            value = [
                np.sqrt(variance[axis] / total[axis]) * np.exp(-0.5 * distance[axis] ** 2 / total[axis])
                for axis in range(3)
            ]
            profiles.append(_Profile(sign, variance, total, distance, value))
        return profiles

    @staticmethod
    def _images(profiles: Sequence[_Profile], peak: np.ndarray) -> np.ndarray:
        return np.asarray((profiles[0].product() + profiles[1].product()) * peak[:, None, None, None])

    def _slopes(self, blobs: Blobs, profiles: Sequence[_Profile]) -> np.ndarray:
        """Return the derivatives (n, 6, box) by the peak, the centre, the log variance along z and in the plane."""
        slopes = np.zeros((len(blobs), 6, *(2 * self.half + 1)))
        for profile in profiles:
            slopes[:, 0] += profile.product()
            for axis in range(3):
                distance, total = profile.distance_um[axis], profile.total[axis]
                share = profile.variance[axis] / total
                slopes[:, 1 + axis] += profile.product(axis, distance / total)
                wider = 0.5 * (1 - share) + 0.5 * distance**2 * share / total
                slopes[:, 4 if axis == 0 else 5] += profile.product(axis, wider)
        slopes[:, 1:] *= blobs.peak[:, None, None, None, None]
        return slopes.reshape(len(blobs), 6, -1)

    def _add(self, corners: np.ndarray, images: np.ndarray) -> None:
        size = 2 * self.half + 1
        for (z, y, x), image in zip(corners, images.astype(np.float32), strict=True):
            self._left[z : z + size[0], y : y + size[1], x : x + size[2]] += image


def taken_apart(
    response: np.ndarray,
    index: np.ndarray,
    *,
    sigma_um: np.ndarray,
    voxel_um: np.ndarray,
    radius_um: float,
    snr: float,
    rounding: float,
    distance_um: float,
    dimmest: float,
    noise_at: Callable[[np.ndarray], np.ndarray],
    inside: np.ndarray | None = None,
) -> tuple[Blobs, np.ndarray]:
    """Return the blobs of a frame, those that overlap taken apart, and the response over its noise (n,) of each.

    Parameters
    ----------
    response
        Difference of Gaussians (z, y, x) of ``sigma_um``.
    index
        Its peaks (n, 3), one at least, the strongest first.
    sigma_um, voxel_um, radius_um
        Of the filter, (3,); of a voxel, (3,); of the blobs that are looked for.
    snr
        A blob that gives a response of less than this times the noise is none. The noise is that of what the blobs
        leave over: where neurons are dense, they make up most of the response's own deviation.
    rounding
        The noise is never less than this.
    distance_um
        A blob that was not among the peaks has to be this far from any brighter one: nuclei do not overlap. Less, to
        0.92 of it, is enough for one that is no work of noise (15 times that at the place), the more so the more it is
        as bright as the other.
    dimmest
        Such a blob that gives less than this part of the response of a brighter one within 1.5 times that distance is
        taken for the brighter one's uneven shape.
    noise_at
        Gives the SD of the response to the noise of the pixels around places (m, 3) in µm.
    inside
        Voxels (z, y, x) where blobs may lie.
    """
    fit = BlobFit(response, sigma_um, voxel_um, radius_um)
    first_guess = 2 * np.log(SIGMA_PER_RADIUS * radius_um * np.array([_DEPTH_PER_WIDTH, 1.0]))
    blobs = _blobs_at(fit, index, first_guess)
    fit.subtract(blobs)
    blobs = fit.refined(blobs, first_guess, _FREE, _STEPS)
    common = _common_size(blobs)
    blobs = fit.refined(blobs, common, _ALIKE, _STEPS // 2)
    added = np.zeros(len(blobs), bool)
    for _ in range(_ROUNDS):
        threshold = snr * noise_sd(fit.left_over, inside, rounding)
        found = _blobs_at(fit, local_maxima(fit.left_over, threshold, inside), common)
        found = found.where(_worth_a_look(fit, found, blobs, distance_um, dimmest))
        if not len(found):
            break
        fit.subtract(found)
        blobs = fit.refined(blobs.and_also(found), common, _ALIKE, _STEPS)
        added = np.concatenate([added, np.ones(len(found), bool)])
        strength = fit.strength(blobs)
        kept = _likely(blobs.centre_um, strength, added, threshold, distance_um, dimmest, noise_at)
        gone = blobs.where(~kept)
        fit.subtract(replace(gone, peak=-gone.peak))
        blobs, added = fit.refined(blobs.where(kept), common, _ALIKE, _STEPS // 2), added[kept]
        if not len(blobs):
            break
    times_noise = fit.strength(blobs) / noise_sd(fit.left_over, inside, rounding)
    sure = times_noise > snr
    return blobs.where(sure), times_noise[sure]


def _blobs_at(fit: BlobFit, index: np.ndarray, log_variance: np.ndarray) -> Blobs:
    sizes = np.tile(log_variance, (len(index), 1))
    strength = fit.left_over[tuple(index.T)].astype(np.float64)
    return Blobs(between_voxels(fit.left_over, index) * fit.voxel_um, strength / fit.peak_response(sizes), sizes)


def _worth_a_look(fit: BlobFit, found: Blobs, blobs: Blobs, distance_um: float, dimmest: float) -> np.ndarray:
    """Return which of ``found`` are no left-overs of the shape of one of ``blobs``, nor of one another."""
    strength = fit.strength(found)
    nearest_um, nearest = KDTree(blobs.centre_um).query(found.centre_um)
    lonely = nearest_um > _SHADOW * distance_um
    bright = strength > dimmest * fit.strength(blobs)[nearest]
    new = np.flatnonzero((nearest_um > distance_um / 2) & (lonely | bright))
    chosen = np.zeros(len(found), bool)
    chosen[new[apart(found.centre_um[new], distance_um)]] = True
    return chosen


def _common_size(blobs: Blobs) -> np.ndarray:
    """Return the median log variance (2,) of the blobs farthest from their neighbours, whose size is their own."""
    if len(blobs) < 2:
        return np.asarray(np.median(blobs.log_variance, axis=0))
    nearest_um = KDTree(blobs.centre_um).query(blobs.centre_um, k=2)[0][:, 1]
    lonely = nearest_um >= np.quantile(nearest_um, 1 - _LONELIEST)
    return np.asarray(np.median(blobs.log_variance[lonely], axis=0))


def _likely(
    centre_um: np.ndarray,
    strength: np.ndarray,
    added: np.ndarray,
    threshold: float,
    distance_um: float,
    dimmest: float,
    noise_at: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return which blobs stay: no weak one, and none in the shadow of a brighter one if either was added."""
    kept = strength > threshold
    pairs = KDTree(centre_um).query_pairs(_SHADOW * distance_um, output_type="ndarray")
    pairs = pairs[added[pairs].any(axis=1)]
    gap_um = np.linalg.norm(centre_um[pairs[:, 0]] - centre_um[pairs[:, 1]], axis=1)
    brighter_first = strength[pairs[:, 0]] >= strength[pairs[:, 1]]
    bright, dim = np.where(brighter_first[:, None], pairs, pairs[:, ::-1]).T
    # Nearer than nuclei can lie, a blob that is as bright as its neighbour may still be one.
    needed = np.interp(gap_um, [_NEAREST * distance_um, distance_um], [1.0, dimmest])
    needed[gap_um < _NEAREST * distance_um] = np.inf
    close = np.flatnonzero(gap_um < distance_um)
    between_um = (centre_um[bright[close]] + centre_um[dim[close]]) / 2
    needed[close[strength[dim[close]] <= _SURE * noise_at(between_um)]] = np.inf
    shadowed = strength[dim] < needed * strength[bright]
    for row in np.argsort(-strength[bright], kind="stable"):
        if shadowed[row] and kept[bright[row]]:
            kept[dim[row]] = False
    return kept
