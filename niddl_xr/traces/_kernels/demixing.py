"""Brightness of neighbours told apart: one least-squares fit of all neurons' Gaussians and of local constants."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from niddl_xr.traces._kernels.windows import Windows

RIDGE = 1e-6  # of a Gaussian's own power: two neurons at one place share their light
REACH_SIGMAS = 3.0  # from which on a neighbour adds no light to a window


def without_constant(weights: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return weights (n, z, y, x) that a constant light gives nothing with: less their mean where ``usable``."""
    count = usable.sum(axis=(1, 2, 3))
    mean = np.einsum("nzyx,nzyx->n", weights, usable) / np.maximum(count, 1)
    return np.asarray((weights - mean[:, None, None, None]) * usable)


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
