"""Nuclei that a detector took for one: where the mixture leaves light over, a component is put and has to earn itself.

Arrays, units and ``d`` as in :mod:`niddl_xr.segmentation._kernels.mixture`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from niddl_xr.segmentation._kernels import mixture as gaussians
from niddl_xr.segmentation._kernels.mixture import Mixture

_ROUNDS = 4
_FIRST_ITERATIONS, _ITERATIONS, _TEST_ITERATIONS = 60, 20, 30
_SHRINKAGE = 0.3  # towards the frame's typical covariance, while what is left over is looked at
_FEWEST_FOR_TYPICAL = 5
_MATCHED_UM = 0.7  # sigma with which the light left over is smoothed
# Part of the model's light that counts as left over: where nuclei are drawn to the typical one, and where they are free
# to stretch over two. Less is taken for a nucleus that is no Gaussian.
_LEFT_OVER, _LEFT_OVER_FREE = 0.15, 0.07
_NOISE_SDS = 4.0
_NEIGHBOUR_UM = 6.0  # a component farther from all others is no split
_RETRY_UM = 1.0
_APART_UM = 3.0  # of components proposed together
_ZONE = 5.0  # squared Mahalanobis distance within which two components are judged
_MODEL_ERROR = 0.05  # of the light: nuclei are no Gaussians
_EXPLAINED = 0.02  # of a pair's energy that the second component has to explain
_PENALTY = 2.0  # on BIC's, because the noise of neighbouring pixels is not independent (stripes)


@dataclass(frozen=True)
class Frame:
    """A frame as the mixture sees it: light above the background, its noise, and which voxels are finite."""

    signal: np.ndarray
    noise: np.ndarray
    finite: np.ndarray
    voxel_um: np.ndarray
    window_um: float


def noise_of(frame: np.ndarray, voxel_um: np.ndarray) -> np.ndarray:
    """Return the SD of the noise of a finite frame, in counts, where it is: from the finest detail of each plane.

    (1, -2, 1) along y and x has gain 6 for white noise, and none for what varies slowly. Mean square over 1 µm.
    """
    detail = ndimage.convolve1d(ndimage.convolve1d(frame, [1, -2, 1], axis=-1), [1, -2, 1], axis=-2) / 6
    return np.asarray(np.sqrt(ndimage.gaussian_filter(np.square(detail), 1.0 / voxel_um)))


def fit(
    frame: Frame, points_um: np.ndarray, radius_um: np.ndarray, *, split: bool, min_separation_um: float
) -> Mixture:
    """Fit a mixture that has a component at each of ``points_um`` (n, d), in this order, and with ``split`` others.

    A component is added where the light that the mixture leaves over has a peak, and stays if it and the neighbour it
    overlaps most explain their light better than a single Gaussian does (:func:`_two_are_better`).
    """
    model = _fitted(frame, gaussians.start(points_um, radius_um), _FIRST_ITERATIONS)
    if split and len(model):
        model = _split(frame, model, float(np.median(radius_um)), min_separation_um)
    return _fitted(frame, model, _ITERATIONS)


def _split(frame: Frame, model: Mixture, radius_um: float, min_separation_um: float) -> Mixture:
    """Return the mixture with the components that earned themselves, last, in the order in which they were found."""
    detected = len(model)
    refused = np.zeros((0, model.means_um.shape[1]))
    for _ in range(_ROUNDS):
        typical = _typical(model)
        tight = _fitted(frame, model, _ITERATIONS, typical_um2=typical, shrinkage=_SHRINKAGE)
        proposed = _proposed(frame, tight, refused, radius_um)
        if not len(proposed):
            break
        wider = _fitted(frame, tight.joined(proposed), _ITERATIONS, typical_um2=typical, shrinkage=_SHRINKAGE)
        # Those added before are tried again: what a newer one explains better they need not explain.
        keep = _kept(frame, wider, detected, min_separation_um)
        refused = np.concatenate([refused, proposed.means_um[~keep[len(model) :]]])
        if keep[len(model) :].any():
            model = _fitted(frame, wider.select(keep), _ITERATIONS)
    return model


def _fitted(
    frame: Frame, start: Mixture, iterations: int, *, typical_um2: np.ndarray | None = None, shrinkage: float = 0.0
) -> Mixture:
    seen = gaussians.windows(start.means_um, frame.finite, frame.voxel_um, frame.window_um)
    return gaussians.fit(
        frame.signal,
        start,
        seen,
        frame.voxel_um,
        iterations=iterations,
        typical_um2=typical_um2,
        shrinkage=shrinkage,
    )


def _typical(model: Mixture) -> np.ndarray | None:
    """Return the covariance of a typical nucleus of this frame: medians along the axes; None for too few nuclei."""
    if len(model) < _FEWEST_FOR_TYPICAL:
        return None
    return np.diag(np.median(np.diagonal(model.covariances_um2, axis1=1, axis2=2), axis=0))


def _proposed(frame: Frame, model: Mixture, refused_um: np.ndarray, radius_um: float) -> Mixture:
    """Return new components at the peaks of the light that ``model`` leaves over, at most one beside each old one."""
    seen = gaussians.windows(model.means_um, frame.finite, frame.voxel_um, frame.window_um)
    spots, floors = gaussians.rendered(model, seen, frame.signal.shape)
    sigma = _MATCHED_UM / frame.voxel_um
    left = ndimage.gaussian_filter(frame.signal - spots - floors, sigma)
    # A Gaussian of sigma s takes the SD of white noise down by (2 sqrt(pi) s) to the power of a half, an axis.
    gain = np.sqrt(np.prod(np.maximum(2 * np.sqrt(np.pi) * sigma, 1)))
    typical = _typical(model)
    part = _LEFT_OVER_FREE if typical is None else _LEFT_OVER
    least = np.maximum(_NOISE_SDS * frame.noise / gain, part * ndimage.gaussian_filter(spots + floors, sigma))
    box = 2 * np.round(radius_um / frame.voxel_um).astype(int) + 1
    peak = (left == ndimage.maximum_filter(left, size=tuple(box))) & (left > least) & (spots + floors > 0)
    places = np.argwhere(peak & frame.finite) * frame.voxel_um
    height = left[peak & frame.finite]
    near, parent = KDTree(model.means_um).query(places) if len(places) else (np.zeros(0), np.zeros(0, int))
    usable = near < _NEIGHBOUR_UM
    if len(refused_um) and len(places):
        usable &= KDTree(refused_um).query(places)[0] > _RETRY_UM
    chosen: list[int] = []
    for index in np.argsort(-height, kind="stable"):
        # Two at once on both sides of one would keep it between them, where nothing is.
        alone = all(parent[index] != parent[other] for other in chosen)
        apart = all(np.linalg.norm(places[index] - places[other]) > _APART_UM for other in chosen)
        if usable[index] and alone and apart:
            chosen.append(int(index))
    balls = gaussians.start(places[chosen], np.full(len(chosen), radius_um))
    if typical is not None:
        balls = replace(balls, covariances_um2=np.repeat(typical[None], len(chosen), axis=0))
    return replace(balls, peaks=height[chosen], floors=np.full(len(chosen), 0.1 * np.median(model.floors)))


def _kept(frame: Frame, model: Mixture, first_added: int, min_separation_um: float) -> np.ndarray:
    """Return which components (n,) stay: all the first ones, of the added ones those that earn themselves."""
    keep = np.ones(len(model), bool)
    for added in first_added + np.argsort(model.peaks[first_added:], kind="stable"):
        others = np.flatnonzero(keep & (np.arange(len(model)) != added))
        partner = others[np.argmax(_overlap(model, added, others))]
        keep[added] = _two_are_better(
            frame, model.select(keep), model.select(np.array([added, partner])), min_separation_um
        )
    return keep


def _overlap(model: Mixture, one: int, others: np.ndarray) -> np.ndarray:
    """Return the light (m,) of ``others`` at component ``one``, both blurred by each other's extent."""
    apart = model.means_um[others] - model.means_um[one]
    precision = np.linalg.inv(model.covariances_um2[others] + model.covariances_um2[one])
    return np.asarray(model.peaks[others] * np.exp(-0.5 * np.einsum("ni,nij,nj->n", apart, precision, apart)))


def _two_are_better(frame: Frame, model: Mixture, pair: Mixture, min_separation_um: float) -> bool:
    """Return whether a pair of components explains its light better than one Gaussian, the others held as they are.

    Both hypotheses are fitted anew. The second Gaussian has to lower the sum of squares, in units of noise and model
    error, by more than the Bayesian information criterion asks (Schwarz, Ann. Stat. 6:461, 1978), has to explain a
    part of the pair's energy, and has to end up ``min_separation_um`` from the first.
    """
    seen = gaussians.windows(pair.means_um, frame.finite, frame.voxel_um, frame.window_um)
    where = np.unique(seen.places[seen.valid])
    if not len(where):
        return False
    local = _Local(frame, where)
    own = local.light(pair)
    near = np.linalg.norm(model.means_um - pair.means_um[0], axis=1) < 4 * frame.window_um
    others = local.light(model.select(near)) - own
    counts = np.maximum(frame.signal.ravel()[where] - others, 0)
    two = local.fit(counts, pair)
    one = local.fit(counts, merged(pair))
    if np.linalg.norm(two.means_um[0] - two.means_um[1]) < min_separation_um:
        return False
    zone = local.distance2(two) < _ZONE
    explained = local.light(two)
    error = (frame.noise.ravel()[where]) ** 2 + (_MODEL_ERROR * (explained + others)) ** 2 + 1e-9
    squares_one = np.square(counts - local.light(one) - one.floors[0])[zone]
    squares_two = np.square(counts - explained - two.floors[0])[zone]
    gain = float(((squares_one - squares_two) / error[zone]).sum())
    dims = pair.means_um.shape[1]
    parameters = 1 + dims + dims * (dims + 1) / 2
    share = float((squares_one - squares_two).sum() / max(np.square(explained[zone]).sum(), 1e-9))
    return gain > _PENALTY * parameters * np.log(max(int(zone.sum()), 2)) and share > _EXPLAINED


def merged(pair: Mixture) -> Mixture:
    """Return the one Gaussian that has the light, the mean and the covariance of all components together."""
    mass = pair.peaks * np.sqrt(np.linalg.det(pair.covariances_um2))
    weight = mass / mass.sum()
    mean = weight @ pair.means_um
    apart = pair.means_um - mean
    covariance = np.einsum("n,nij->ij", weight, pair.covariances_um2) + np.einsum("n,ni,nj->ij", weight, apart, apart)
    peak = mass.sum() / np.sqrt(np.linalg.det(covariance))
    return Mixture(mean[None], covariance[None], np.array([peak]), pair.floors[:1], mean[None])


class _Local:
    """The voxels of a few components, seen by all of them: what :func:`mixture.fit` needs, without a frame around."""

    def __init__(self, frame: Frame, where: np.ndarray) -> None:
        self.voxel_um = frame.voxel_um
        index = np.stack(np.unravel_index(where, frame.signal.shape), axis=1)
        self.positions_um = (index * frame.voxel_um).astype(np.float32)

    def _seen(self, count: int) -> gaussians.Windows:
        size = len(self.positions_um)
        return gaussians.Windows(
            np.broadcast_to(np.arange(size), (count, size)),
            np.ones((count, size), bool),
            np.broadcast_to(self.positions_um, (count, *self.positions_um.shape)),
        )

    def light(self, model: Mixture) -> np.ndarray:
        return np.asarray(gaussians.shapes(model, self._seen(len(model)))[2].sum(axis=0))

    def distance2(self, model: Mixture) -> np.ndarray:
        return np.asarray(gaussians.shapes(model, self._seen(len(model)))[1].min(axis=0))

    def fit(self, counts: np.ndarray, start: Mixture) -> Mixture:
        # One floor under all: it is counted once a component, so each has its part.
        floors = np.full(len(start), max(float(np.median(start.floors)), 1e-6) / len(start))
        fitted = gaussians.fit(
            counts, replace(start, floors=floors), self._seen(len(start)), self.voxel_um, iterations=_TEST_ITERATIONS
        )
        return replace(fitted, floors=np.full(len(start), fitted.floors.sum()))
