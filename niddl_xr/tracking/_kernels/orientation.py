"""How clouds of points are turned against one another: arrays (n, 3) of z, y, x in µm, z the direction of view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist

from niddl_xr.tracking._kernels.registration import rigid_from_pairs

_TURNS = 36  # of a full turn; 10 degrees are 4 µm at the edge of a head, less than its neurons are apart
_TRIED = 4
_COARSE_UM = 6.0
_NARROWING_UM = (8.0, 6.0, 4.5, 3.5)  # how near points must be to draw one another; neurons lie some 5 µm apart
_STEPS = 5
_JUDGED_UM = 3.0
_ENOUGH_POINTS = 200  # of a cloud: a rotation has three parameters
_LEAST_LIKENESS = 0.5  # of the likeliest pose: others are no candidates
_HALF_TURN = 10.0  # frames; worms take longer to turn round than the time between two
_ROUNDS = 5
_LEAST_POINTS = 5  # fewer can be turned onto nearly anything


def poses_onto(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Find the rotations and translations that may bring one cloud onto another, however far it is turned.

    Which point is which is not known. All turns about the direction of view, in which worms crawl, are tried; the
    best few are refined, about all axes. Clouds of fewer than five points are not turned.

    Returns
    -------
    numpy.ndarray
        (poses, 12), up to four, the likeliest first: nine numbers of the rotation, row by row, three of the
        translation; see :func:`posed`. A head is nearly symmetric, so that the likeliest may be the one turned
        end to end; :func:`smoothest` decides.

    Notes
    -----
    Kernel correlation (Tsin and Kanade, ECCV 2004) over a grid of turns; its maxima are refined by pairs of points,
    weighted by their nearness, in a sequence of narrowing kernels.
    """
    moving_centre, fixed_centre = moving.mean(axis=0), fixed.mean(axis=0)
    here, there = _thinned(moving - moving_centre), _thinned(fixed - fixed_centre)
    if min(len(here), len(there)) < _LEAST_POINTS:
        return np.concatenate([np.eye(3).ravel(), fixed_centre - moving_centre])[None]
    found = []
    for turn in _promising_turns(here, there):
        rotation, translation = drawn_onto(here, there, turn, _NARROWING_UM, _STEPS)
        likeness = _likeness(here @ rotation.T + translation, there, _JUDGED_UM)
        found.append((likeness, rotation, translation + fixed_centre - rotation @ moving_centre))
    found.sort(key=lambda pose: -pose[0])
    likely = [pose for pose in found if pose[0] >= _LEAST_LIKENESS * found[0][0]]
    return np.stack([np.concatenate([rotation.ravel(), translation]) for _, rotation, translation in likely])


def posed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return points (n, 3) as one of :func:`poses_onto` (12,) moves them."""
    return np.asarray(points @ pose[:9].reshape(3, 3).T + pose[9:])


def smoothest(poses: Sequence[np.ndarray], descriptors: Sequence[np.ndarray], target: np.ndarray) -> list[int]:
    """Choose one pose a frame, so that all frames are alike and none is turned end to end from the frame before.

    ``poses`` holds for each frame, in the order of time, those of :func:`poses_onto` (poses, 12), ``descriptors``
    those of the clouds so moved (poses, k), ``target`` (k,) that of the frame they were turned onto. Returned is the
    choice with the least sum of squared distances of descriptors, from one frame to the next and from each to the
    target, whose place is then taken by the mean of all frames. On top of it half a turn between two frames costs as
    much as ten frames that are typically far from the target.

    Notes
    -----
    Viterbi, IEEE Trans. Information Theory 13:260 (1967).
    """
    nearest = [((rows - target) ** 2).sum(axis=1).min() for rows in descriptors]
    half_turn = _HALF_TURN * float(np.median(nearest))
    chosen: list[int] = []
    for _ in range(_ROUNDS):
        before, chosen = chosen, _smoothest_onto(poses, descriptors, target, half_turn)
        if chosen == before:
            break
        target = np.mean([rows[number] for rows, number in zip(descriptors, chosen, strict=True)], axis=0)
    return chosen


def _smoothest_onto(
    poses: Sequence[np.ndarray], descriptors: Sequence[np.ndarray], target: np.ndarray, half_turn: float
) -> list[int]:
    far = [((rows - target) ** 2).sum(axis=1) for rows in descriptors]
    cost, came_from = far[0], []
    for frame in range(1, len(poses)):
        before, now = descriptors[frame - 1], descriptors[frame]
        cosine = (np.einsum("ik,jk->ij", poses[frame - 1][:, :9], poses[frame][:, :9]) - 1) / 2
        step = cost[:, None] + ((before[:, None] - now) ** 2).sum(axis=-1) + half_turn * (1 - cosine) / 2
        came_from.append(step.argmin(axis=0))
        cost = step.min(axis=0) + far[frame]
    chosen = [int(cost.argmin())]
    for source in reversed(came_from):
        chosen.append(int(source[chosen[-1]]))
    return chosen[::-1]


def drawn_onto(
    moving: np.ndarray, fixed: np.ndarray, rotation: np.ndarray, narrowing_um: tuple[float, ...], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Refine a rotation (3, 3) of clouds that lie nearly on one another; returns it and the translation (3,)."""
    translation = np.zeros(3)
    for width_um in narrowing_um:
        for _ in range(steps):
            moved = moving @ rotation.T + translation
            kernel = np.exp(cdist(moved, fixed, "sqeuclidean") / (-2 * width_um**2))
            # A pair counts by its share of both points' neighbourhoods, so that crowded places do not decide alone.
            weight = kernel / (kernel.sum(axis=1, keepdims=True) + kernel.sum(axis=0, keepdims=True) + 1e-3)
            certainty = weight.sum(axis=1)
            drawn = weight @ fixed / np.maximum(certainty, 1e-300)[:, None]
            rotation, translation = rigid_from_pairs(moving, drawn, certainty)
    return rotation, translation


def _promising_turns(moving: np.ndarray, fixed: np.ndarray) -> list[np.ndarray]:
    """Return the rotations about z that are local maxima of likeness, the best first."""
    angles = np.arange(_TURNS) * (2 * np.pi / _TURNS)
    turns = [_about_z(angle) for angle in angles]
    likeness = np.array([_likeness(moving @ turn.T, fixed, _COARSE_UM) for turn in turns])
    peaks = np.flatnonzero((likeness >= np.roll(likeness, 1)) & (likeness >= np.roll(likeness, -1)))
    return [turns[peak] for peak in peaks[np.argsort(-likeness[peaks], kind="stable")][:_TRIED]]


def _about_z(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _likeness(moving: np.ndarray, fixed: np.ndarray, width_um: float) -> float:
    """Return the overlap of two clouds of Gaussians, relative to their overlap with themselves."""

    def overlap(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.exp(cdist(first, second, "sqeuclidean") / (-2 * width_um**2)).sum())

    return overlap(moving, fixed) / float(np.sqrt(overlap(moving, moving) * overlap(fixed, fixed)))


def _thinned(points: np.ndarray) -> np.ndarray:
    return points[:: -(-len(points) // _ENOUGH_POINTS)]
