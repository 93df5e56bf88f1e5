"""Bringing one cloud of points onto another: arrays (n, 3) in µm, any order of the axes, the same in both.

Every function takes clouds of any size, also without points, on a line or in a plane: what the points do not
determine stays as it was (a rotation about the line they lie on, the displacement far from all of them).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

LEAST_VARIANCE_UM2 = 0.05  # positions of nuclei are no better than 0.2 µm; below, the mixture would fit noise
_SETTLED_UM = 1e-3  # a mean step below which nothing changes any more
_FEWEST_FOR_A_TURN = 6
_EARNED = 0.1  # by which a motion must bring clouds nearer, of its length
_SPACING_UM = 5.0  # of nuclei; a longer motion cannot be mistaken for one step along a row of them
_FIRM = 1e-9  # share of the spread by which a rotation that no point determines is held


def rigid_from_pairs(
    moving: np.ndarray, fixed: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation (3, 3) and the translation (3,) that bring paired points onto one another.

    ``moving @ rotation.T + translation`` is nearest to ``fixed`` in the sense of weighted least squares. ``weight``
    (n,) is not negative. Of the rotations that do equally well (points on a line, one point, none) the smallest.

    Notes
    -----
    Kabsch, Acta Crystallographica A32:922 (1976), with the determinant held at +1, so that nothing is mirrored.
    """
    weight = np.ones(len(moving)) if weight is None else np.asarray(weight, dtype=float)
    total = weight.sum()
    if total <= 0:
        return np.eye(3), np.zeros(3)
    moving_centre, fixed_centre = weight @ moving / total, weight @ fixed / total
    cross = ((fixed - fixed_centre) * weight[:, None]).T @ (moving - moving_centre)
    spread = np.linalg.norm(cross)
    left, _, right = np.linalg.svd(cross + (_FIRM * spread if spread > 0 else 1.0) * np.eye(3))
    handedness = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * handedness) @ right
    return rotation, fixed_centre - rotation @ moving_centre


def rigid(
    moving: np.ndarray,
    fixed: np.ndarray,
    *,
    variance_um2: float = 25.0,
    outlier_fraction: float = 0.1,
    iterations: int = 50,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation (3, 3) and the translation (3,) that bring ``moving`` (m, 3) onto ``fixed`` (n, 3).

    Which point is which is not known: both clouds are centred on their medians, and every point of one is drawn to
    those of the other that are near, ``variance_um2`` being the square of how near at first. A turn beyond some 30
    degrees is not found. Use as ``moving @ rotation.T + translation``.

    Notes
    -----
    The rigid Coherent Point Drift of Myronenko and Song, IEEE Trans. Pattern Anal. Mach. Intell. 32:2262 (2010),
    figure 2, without scaling, from an expected variance rather than from the mean distance of all pairs.
    """
    if not len(moving) or not len(fixed):
        return np.eye(3), np.zeros(3)
    rotation, translation = np.eye(3), np.median(fixed, axis=0) - np.median(moving, axis=0)
    volume, variance = _volume_um3(fixed, variance_um2), variance_um2
    moved = moving + translation
    for _ in range(iterations):
        squared = cdist(moved, fixed, "sqeuclidean")
        probability = _probability(squared, variance, outlier_fraction, volume)
        certainty = probability.sum(axis=1)
        if certainty.sum() < 1e-6:  # no point is near any other
            break
        drawn = probability @ fixed / np.maximum(certainty, 1e-300)[:, None]
        rotation, translation = rigid_from_pairs(moving, drawn, certainty)
        before, moved = moved, moving @ rotation.T + translation
        variance = _next_variance(probability, moved, fixed)
        if np.abs(moved - before).mean() < _SETTLED_UM:
            break
    return rotation, translation


def brought_near(moving: np.ndarray, fixed: np.ndarray, *, farthest_um: float = 8.0) -> np.ndarray:
    """Return ``moving`` (m, 3) moved rigidly onto ``fixed`` (n, 3), or as it is where that is hardly nearer.

    Near is what :func:`misfit_um` says, less a tenth of the way: where a row of nuclei lost one end, a step of one
    nucleus along the row would bring it a little nearer. Clouds of less than six points stay: their rotation would say
    more about which points were missed than about the tissue.
    """
    if min(len(moving), len(fixed)) < _FEWEST_FOR_A_TURN:
        return moving
    rotation, translation = rigid(moving, fixed)
    moved = np.asarray(moving @ rotation.T + translation)
    way = _EARNED * min(float(np.linalg.norm(moved - moving, axis=1).mean()), _SPACING_UM)
    before, after = (misfit_um(cloud, fixed, farthest_um=farthest_um) for cloud in (moving, moved))
    return moved if after + way < before else moving


def misfit_um(moving: np.ndarray, fixed: np.ndarray, *, farthest_um: float = 8.0) -> float:
    """Return the mean distance from every point to the nearest of the other cloud, none counted beyond a limit."""
    there, back = KDTree(fixed).query(moving)[0], KDTree(moving).query(fixed)[0]
    return float(np.minimum(there, farthest_um).mean() + np.minimum(back, farthest_um).mean()) / 2


def coherent_point_drift(
    moving: np.ndarray,
    fixed: np.ndarray,
    *,
    stiffness_um: float = 25.0,
    regularisation: float = 1.0,
    variance_um2: float = 9.0,
    outlier_fraction: float = 0.1,
    iterations: int = 50,
    prior: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Deform ``moving`` (m, 3) smoothly until it lies on ``fixed`` (n, 3), without knowing which point is which.

    Parameters
    ----------
    moving, fixed
        Points in µm, brought near one another before, for instance by :func:`rigid`.
    stiffness_um
        Distance over which neighbours move alike (β); that of nuclei in a worm's head.
    regularisation
        How much smoothness counts beside nearness (λ).
    variance_um2
        Square of how far, along one axis, a point is expected from its partner at first; it shrinks from there.
    outlier_fraction
        Part of the fixed points that are no moving point, 0 to below 1.
    iterations
        At most so many; it ends when points move by less than a nanometre on average.
    prior
        (m, n) relative chance that a moving point is a fixed point, 1 where nothing is known, 0 for pairs ruled out.

    Returns
    -------
    numpy.ndarray
        The moving points (m, 3) where they came to lie.
    numpy.ndarray
        (m, n) probability that a moving point is the fixed point; the sum over moving points is at most 1.

    Notes
    -----
    Myronenko and Song, IEEE Trans. Pattern Anal. Mach. Intell. 32:2262 (2010), figure 4: T = Y + GW with
    G_ij = exp(-|y_i - y_j|² / 2β²) and (diag(P1) G + λσ² I) W = PX - diag(P1) Y. There the clouds are scaled to
    variance 1 and outliers lie with density 1/N; here they are in µm, and outliers lie evenly in the box of the fixed
    points. The variance starts from what is expected, not from the mean distance of all pairs.
    """
    moved = np.array(moving, dtype=float)
    if not len(moving) or not len(fixed):
        return moved, np.zeros((len(moving), len(fixed)))
    kernel = np.exp(-cdist(moving, moving, "sqeuclidean") / (2 * stiffness_um**2))
    volume, variance = _volume_um3(fixed, variance_um2), variance_um2
    for _ in range(iterations):
        probability = _probability(cdist(moved, fixed, "sqeuclidean"), variance, outlier_fraction, volume, prior)
        certainty = probability.sum(axis=1)
        if certainty.sum() < 1e-6:
            break
        pull = probability @ fixed - certainty[:, None] * moving
        before = moved
        moved = moving + kernel @ _weights(kernel, certainty, pull, regularisation * variance)
        variance = _next_variance(probability, moved, fixed)
        if np.abs(moved - before).mean() < _SETTLED_UM:
            break
    return moved, _probability(cdist(moved, fixed, "sqeuclidean"), variance, outlier_fraction, volume, prior)


def smooth_displacement(
    points: np.ndarray,
    displacement: np.ndarray,
    at: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    stiffness_um: float = 25.0,
    noise_share: float = 0.05,
    local: bool = False,
) -> np.ndarray:
    """Return at ``at`` (k, 3) the smooth displacement (k, 3) that is known at ``points`` (m, 3).

    ``weight`` (m,), positive, is how sure a displacement is beside the others. ``noise_share`` is the variance of a
    displacement of weight 1 over that of the field itself: near 0 the field passes through what is known. Far from
    all points it is their weighted mean, or 0 if ``local``; 0 without any.

    Notes
    -----
    Kriging about the mean, or about 0, with the kernel of Coherent Point Drift: its M-step for pairs that are known.
    """
    if not len(points):
        return np.zeros((len(at), 3))
    weight = np.ones(len(points)) if weight is None else weight
    mean = np.zeros(3) if local else weight @ displacement / weight.sum()
    kernel = np.exp(-cdist(points, points, "sqeuclidean") / (2 * stiffness_um**2))
    kernel[np.diag_indices(len(points))] += np.maximum(noise_share, 1e-9) / weight
    pull = solve(kernel, displacement - mean, assume_a="pos", check_finite=False)
    reach = np.exp(-cdist(at, points, "sqeuclidean") / (2 * stiffness_um**2))
    return np.asarray(mean + reach @ pull)


def _volume_um3(fixed: np.ndarray, variance_um2: float) -> float:
    """Return the volume of the box around points, made larger by two standard deviations a side."""
    return float(np.prod(np.ptp(fixed, axis=0) + 4 * np.sqrt(variance_um2)))


def _probability(
    squared: np.ndarray, variance: float, outlier_fraction: float, volume: float, prior: np.ndarray | None = None
) -> np.ndarray:
    """Return the posterior (m, n) that a fixed point was drawn from a moving one, from squared distances (m, n)."""
    likeness = np.exp(squared / (-2 * variance))
    if prior is not None:
        likeness *= prior
    odds = outlier_fraction / (1 - outlier_fraction)
    elsewhere = odds * len(squared) * (2 * np.pi * variance) ** 1.5 / volume
    return np.asarray(likeness / np.maximum(likeness.sum(axis=0) + elsewhere, 1e-300))


def _weights(kernel: np.ndarray, certainty: np.ndarray, pull: np.ndarray, penalty: float) -> np.ndarray:
    """Solve (diag(certainty) kernel + penalty) weights = pull, made symmetric, which halves the work."""
    root = np.sqrt(np.maximum(certainty, 1e-12))[:, None]
    matrix = root * kernel * root.T
    matrix[np.diag_indices(len(matrix))] += penalty
    return np.asarray(root * solve(matrix, pull / root, assume_a="pos", check_finite=False))


def _next_variance(probability: np.ndarray, moved: np.ndarray, fixed: np.ndarray) -> float:
    axes = max(1, np.count_nonzero(np.ptp(fixed, axis=0) > 0))  # points in a plane scatter along two axes only
    squared = (probability * cdist(moved, fixed, "sqeuclidean")).sum()
    return max(float(squared / (probability.sum() * axes)), LEAST_VARIANCE_UM2)
