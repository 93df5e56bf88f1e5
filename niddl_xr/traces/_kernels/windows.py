"""The voxels around points of one frame, and how much each counts: gathered for all neurons at once.

Points are *places*: (n, 3) along z, y, x in voxels of the array, voxel i with its centre at i. Arrays of windows are
(n, z, y, x). The kernel is moved to the place, not the image: a place between two voxels weights both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

GAUSSIAN_REACH = 2.5  # sigmas; beyond lie 4 % of the weight of a ball's worth of Gaussian, mostly neighbours' light


@dataclass(frozen=True)
class Windows:
    """Boxes of like size around n places of a volume.

    ``flat`` (n, z, y, x) are indices into the raveled volume, those of voxels beyond its edge moved to the edge;
    ``inside`` (n, z, y, x) says which are in it; ``distances_um`` are three arrays (n, box size along the axis), from
    place to voxel, signed.
    """

    flat: np.ndarray
    inside: np.ndarray
    distances_um: tuple[np.ndarray, np.ndarray, np.ndarray]

    def values(self, volume: np.ndarray) -> np.ndarray:
        """Return the values (n, z, y, x) of a volume (z, y, x), float64."""
        return np.take(volume.reshape(-1), self.flat).astype(np.float64)


def windows_around(
    places: np.ndarray, half: tuple[int, int, int], shape: tuple[int, int, int], step_um: np.ndarray
) -> Windows:
    """Cut boxes of ``2 half + 1`` voxels around the voxels nearest to ``places`` (n, 3), which have to be finite."""
    nearest = np.rint(places).astype(np.int64)
    indices, inside, distances = [], [], []
    for axis in range(3):
        index = nearest[:, axis, None] + np.arange(-half[axis], half[axis] + 1)
        distances.append((index - places[:, axis, None]) * step_um[axis])
        inside.append((index >= 0) & (index < shape[axis]))
        indices.append(np.clip(index, 0, shape[axis] - 1))
    z, y, x = indices
    row = z[:, :, None] * shape[1] + y[:, None, :]
    return Windows(
        flat=row[..., None] * shape[2] + x[:, None, None, :],
        inside=outer(inside[0], inside[1], inside[2], np.logical_and),
        distances_um=(distances[0], distances[1], distances[2]),
    )


def outer(
    z: np.ndarray, y: np.ndarray, x: np.ndarray, operation: Callable[[Any, Any], Any] = np.multiply
) -> np.ndarray:
    """Combine three profiles (n, size) to windows (n, z, y, x)."""
    return np.asarray(operation(operation(z[:, :, None, None], y[:, None, :, None]), x[:, None, None, :]))


def gaussians(windows: Windows, sigma_um: np.ndarray) -> np.ndarray:
    """Return Gaussians (n, z, y, x) of ``sigma_um`` (n, 3), 1 at the place."""
    z, y, x = (
        np.exp(-0.5 * np.square(distance / sigma_um[:, axis, None]))
        for axis, distance in enumerate(windows.distances_um)
    )
    return outer(z, y, x)


def ball(windows: Windows, radius_um: float) -> np.ndarray:
    """Return 1.0 where a voxel's centre lies within ``radius_um`` of the place, else 0.0: (n, z, y, x).

    The voxel nearest to the place always belongs to it.
    """
    z, y, x = (np.square(distance) for distance in windows.distances_um)
    weights = (outer(z, y, x, np.add) <= radius_um**2).astype(np.float64)
    middle = tuple(size // 2 for size in weights.shape[1:])
    weights[(slice(None), *middle)] = 1.0
    return weights


def half_box(reach_um: np.ndarray, step_um: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the half sizes in voxels of a box that reaches ``reach_um`` (3,); none along an axis of one voxel."""
    z, y, x = (
        0 if size == 1 else int(np.ceil(reach / step))
        for reach, step, size in zip(reach_um, step_um, shape, strict=True)
    )
    return z, y, x
