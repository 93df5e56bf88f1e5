"""Neurites as branches in space: their widths, the light they give, and its haze."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from niddl_xr.simulation._kernels import lines
from niddl_xr.simulation._kernels.rendering import HAZE_SIGMA_UM

SOMA_ORDER = 0  # cell bodies; neurites count from 1
MEDIAN_WIDTH_UM = 0.6  # a neurite of this width has light 1 at its centre
SOMA_LIGHT = 4.0  # at the centre of a cell body; by eye, beside the touch neurons of the NIDDL authors
_HAZE_STEP_UM = 3.0  # small beside the haze's sigma


@dataclass(frozen=True)
class Arbor:
    """Branches as points in space. Branch b (from 1) has ``orders[b - 1]`` and so on."""

    points_um: np.ndarray  # (point, 3), branch after branch, evenly spaced on each
    branch: np.ndarray  # (point,)
    width_um: np.ndarray  # (point,) with its beads
    length_um: np.ndarray  # (point,) the part of the branch that a point stands for
    orders: np.ndarray  # (branch,)
    parents: np.ndarray  # (branch,)

    def __len__(self) -> int:
        return len(self.orders)


def _beads(count: int, step_um: float, width_um: float, rng: np.random.Generator) -> np.ndarray:
    """Return the width (count,) along a neurite: slow changes, beads every 6 µm or so, large ones every 50 µm."""
    along = np.arange(count) * step_um
    length = max(along[-1], step_um)
    width = np.ones(count)
    for gap_um, height, sigma_um in ((6.0, (0.1, 0.7), (0.3, 0.6)), (50.0, (0.3, 0.9), (0.5, 1.1))):
        for middle in rng.uniform(0, length, rng.poisson(along[-1] / gap_um)):
            near = slice(*np.searchsorted(along, (middle - 4 * sigma_um[1], middle + 4 * sigma_um[1])))
            swelling = np.exp(-0.5 * ((along[near] - middle) / rng.uniform(*sigma_um)) ** 2)
            width[near] += rng.uniform(*height) * swelling
    slow = rng.normal(0, 0.24, 2 + int(along[-1] / 10.0))
    return np.asarray(width_um * width * np.exp(np.interp(along, np.linspace(0, length, len(slow)), slow)))


def sample(
    curves_um: Sequence[np.ndarray],
    orders: Sequence[int],
    parents: Sequence[int],
    widths_um: Sequence[float],
    step_um: float,
    rng: np.random.Generator | None,
) -> Arbor:
    """Return the branches of polylines (n, 3) in µm, points at most ``step_um`` apart; beads only with ``rng``."""
    points, width, branch, length = [], [], [], []
    for number, (curve, order, thick) in enumerate(zip(curves_um, orders, widths_um, strict=True), start=1):
        fine = lines.resample(curve, step_um)
        lengths = lines.lengths_of_points(fine)
        points.append(fine)
        if rng is None or order == SOMA_ORDER:
            width.append(np.full(len(fine), thick))
        else:
            width.append(_beads(len(fine), float(lengths.max()), thick, rng))
        branch.append(np.full(len(fine), number))
        length.append(lengths)
    return Arbor(
        points_um=np.concatenate(points),
        branch=np.concatenate(branch),
        width_um=np.concatenate(width),
        length_um=np.concatenate(length),
        orders=np.asarray(orders),
        parents=np.asarray(parents),
    )


def light_of(arbor: Arbor, psf_sigma_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sigmas (point, 3) in µm and peaks (point,) of the Gaussians that add up to the image of an arbor.

    The peaks are such that a long straight neurite of MEDIAN_WIDTH_UM within a plane has 1 at its centre. The light per
    length grows with the cross-section, as that of a fluorophore in the cytosol does. Seen from the side a filled
    disc of diameter w has a variance of w²/16 per axis, which adds to that of the microscope.
    """
    sigmas = np.sqrt(np.square(psf_sigma_um) + np.square(arbor.width_um / 4)[:, None])
    reference = np.sqrt(np.square(psf_sigma_um) + np.square(MEDIAN_WIDTH_UM / 4))
    ridge = np.square(arbor.width_um / MEDIAN_WIDTH_UM) * np.prod(reference[:2]) / np.prod(sigmas[:, :2], axis=1)
    ridge[arbor.orders[arbor.branch - 1] == SOMA_ORDER] = SOMA_LIGHT
    # Gaussians that follow one another at a step d add up to a ridge of sqrt(2 pi) sigma / d times their peak.
    return sigmas, ridge * arbor.length_um / (np.sqrt(2 * np.pi) * sigmas[:, 2])


def add_light(
    volume: np.ndarray,
    arbor: Arbor,
    sigmas_um: np.ndarray,
    peaks: np.ndarray,
    voxel_um: np.ndarray,
    moved_um: np.ndarray | float = 0.0,
) -> None:
    """Add the image of an arbor that :func:`light_of` describes, ``moved_um`` (3,) away, to ``volume`` (z, y, x)."""
    soma = arbor.orders[arbor.branch - 1] == SOMA_ORDER
    for some in (soma, ~soma):  # apart, since all Gaussians of a call are drawn into boxes of one size
        lines.add_point_lights(volume, arbor.points_um[some] + moved_um, sigmas_um[some], peaks[some], voxel_um)


def haze_of(
    arbor: Arbor, sigmas_um: np.ndarray, peaks: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres and sigmas (n, 3) in µm, and peaks (n,), of the out-of-focus light of an arbor.

    As :func:`rendering.haze_of`, of stretches of 3 µm in place of points.
    """
    position = np.cumsum(arbor.length_um)
    stretch = np.unique(np.stack([arbor.branch, (position / _HAZE_STEP_UM).astype(int)]), axis=1, return_inverse=True)[
        1
    ].reshape(-1)
    mass = peaks * np.prod(sigmas_um, axis=1)
    total = np.maximum(np.bincount(stretch, mass), 1e-12)
    centres = np.stack([np.bincount(stretch, mass * axis) / total for axis in arbor.points_um.T], axis=1)
    variances = np.stack([np.bincount(stretch, mass * axis**2) / total for axis in sigmas_um.T], axis=1)
    blurred = np.sqrt(variances + np.square(HAZE_SIGMA_UM))
    return centres, blurred, strength * total / np.prod(blurred, axis=1)
