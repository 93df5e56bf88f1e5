"""Brightness of neighbours told apart: one least-squares fit of all neurons' Gaussians and of local constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from niddl_xr.traces._kernels.windows import Windows, gaussians

RIDGE = 1e-6  # of a Gaussian's own power: two neurons at one place share their light
TIED_ERRORS = 2.0 * np.sqrt(2)  # standard errors of the distance of two places: nearer ones cannot be told apart
REACH_SIGMAS = 3.0  # from which on a neighbour adds no light to a window


@dataclass(frozen=True)
class FitWeights:
    """The weights with which a Gaussian, and a constant beside it, are fitted to windows (n, z, y, x).

    ``gaussian`` is 1 at the place, ``counted`` says how much each voxel counts, 0 where there is none: a Gaussian too,
    as much wider as ``power`` = (sigma / its sigma)² is below 1, or the same for all (``power`` 0). ``levers`` (n, size
    of the window) are distances over sigma², per µm, along each axis. Without ``constant`` the level beside the
    Gaussian is 0.
    """

    gaussian: np.ndarray
    counted: np.ndarray
    levers: tuple[np.ndarray, np.ndarray, np.ndarray]
    power: float
    constant: bool

    @cached_property
    def weights(self) -> np.ndarray:
        """The weights (n, z, y, x), with which a constant light gives 0 where a constant is fitted."""
        level = self._level[:, None, None, None] if self.constant else 0.0
        return np.asarray((self.gaussian - level) * self.counted)

    def moved(self, axis: int) -> np.ndarray:
        """Return how the weights change with the place along an axis, (n, z, y, x) per µm."""
        lever = np.expand_dims(self.levers[axis], [1 + other for other in range(3) if other != axis])
        change = (1 + self.power) * self.gaussian * self.counted * lever
        if not self.constant:
            return np.asarray(change)
        narrower = self.power * self.counted * lever
        level = self._level[:, None, None, None]
        change -= level * narrower
        return np.asarray(change - self.counted * (_sums(change) / self._total)[:, None, None, None])

    @cached_property
    def _total(self) -> np.ndarray:
        total = _sums(self.counted)
        return np.where(total > 0, total, 1.0)

    @cached_property
    def _level(self) -> np.ndarray:
        return np.asarray(np.einsum("nzyx,nzyx->n", self.gaussian, self.counted) / self._total)


def _sums(windows: np.ndarray) -> np.ndarray:
    return np.asarray(windows.sum(axis=(1, 2, 3)))


def fit_weights(
    windows: Windows, usable: np.ndarray, sigma_um: np.ndarray, local_sigmas: float, *, constant: bool
) -> FitWeights:
    """Return the weights of a fit in which usable voxels count by a Gaussian of so many sigmas; of inf: all alike."""
    power = local_sigmas**-2
    z, y, x = (distance / np.square(sigma_um[:, axis, None]) for axis, distance in enumerate(windows.distances_um))
    counted = gaussians(windows, local_sigmas * sigma_um) * usable if power else usable.astype(np.float64)
    return FitWeights(gaussians(windows, sigma_um), counted, (z, y, x), power, constant)


class Mixture(NamedTuple):
    """What weights give of neurons (m, n) of brightness 1, and the change of it (m, n, 3) with their places, per µm."""

    light: np.ndarray
    slope_per_um: np.ndarray


def mixing(
    weights: np.ndarray, windows: Windows, places_um: np.ndarray, sigma_um: np.ndarray, rows: np.ndarray
) -> Mixture:
    """Return what ``weights`` (m, z, y, x) give of Gaussians of height 1 at all places.

    The windows are those of the places ``rows`` (m,) among ``places_um`` (n, 3); ``sigma_um`` is (n, 3). Sums of
    weighted pixels are these numbers times the neurons' brightness, so that solving for it demixes neighbours.
    """
    reach_um = np.array([np.abs(distance).max(initial=0.0) for distance in windows.distances_um])
    scale = reach_um + REACH_SIGMAS * sigma_um.max(axis=0)
    near = KDTree(places_um / scale).query_ball_point(places_um[rows] / scale, 1.0, p=np.inf)
    here_of_all = np.repeat(np.arange(len(rows)), [len(others) for others in near])
    other_of_all = np.concatenate([np.asarray(others, dtype=np.int64) for others in near])
    light, slope = np.zeros((len(rows), len(places_um))), np.zeros((len(rows), len(places_um), 3))
    for start in range(0, len(here_of_all), len(rows)):  # as many at once as there are windows
        here, other = here_of_all[start : start + len(rows)], other_of_all[start : start + len(rows)]
        apart = places_um[other] - places_um[rows[here]]
        away = [distance[here] - apart[:, axis, None] for axis, distance in enumerate(windows.distances_um)]
        z, y, x = (np.exp(-0.5 * np.square(d / sigma_um[other, axis, None])) for axis, d in enumerate(away))
        dz, dy, dx = (
            p * d / np.square(sigma_um[other, axis, None])
            for axis, (p, d) in enumerate(zip((z, y, x), away, strict=True))
        )
        along_x, along_dx = np.einsum("nzyx,nxk->knzy", weights[here], np.stack([x, dx], axis=-1))
        light[here, other] = np.einsum("nzy,nz,ny->n", along_x, z, y)
        slope[here, other] = np.stack(
            [
                np.einsum("nzy,nz,ny->n", profile, first, second)
                for profile, first, second in ((along_x, dz, y), (along_x, z, dy), (along_dx, z, y))
            ],
            axis=-1,
        )
    light[np.arange(len(rows)), rows] *= 1 + RIDGE
    return Mixture(light, slope)


def tied(system: np.ndarray, places_um: np.ndarray, error_um: np.ndarray) -> np.ndarray:
    """Return the system (n, n) with the difference of neurons held down that are as near as their places are wrong.

    Two tracks of one neuron would else have their sum told well, and its parts by accident: now each has half. What
    they have together stays as it is, and so does all of neurons further apart; ``error_um`` (3,) of 0 ties none.
    """
    usable = error_um > 0
    if not usable.any() or len(places_um) < 2:
        return system
    scaled = places_um[:, usable] / (TIED_ERRORS * error_um[usable])
    tie = np.exp(-0.5 * np.square(scaled[:, None] - scaled[None]).sum(axis=2))
    np.fill_diagonal(tie, 0.0)
    tie *= np.diag(system)[:, None]
    return np.asarray(system - tie + np.diag(tie.sum(axis=1)))
