"""The light around neurons that is not theirs: the median of a shell without any neuron's own voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST_GROUP = 16  # neighbours along x whose mean is taken before the median
GROUPS = 32  # where the shell has fewer than 512 voxels, groups are smaller
LEAST_GROUPS = 8
MOST_GROUPS = (
    512  # of a shell, evenly spread over it: more cost time and change the median by less than 0.1 of F's noise
)


@dataclass(frozen=True)
class Shell:
    """Offsets in voxels of a shell, in groups of neighbours: (groups, members, 3)."""

    offsets: np.ndarray


def shell(inner_um: float, outer_um: float, step_um: np.ndarray, shape: tuple[int, int, int]) -> Shell:
    """Return the voxels from ``inner_um`` to ``outer_um`` around a voxel's centre, those of a row in groups."""
    half = [0 if size == 1 else int(outer_um / step) for step, size in zip(step_um, shape, strict=True)]
    axes = [np.arange(-reach, reach + 1) for reach in half]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(sum(np.square(index * step) for index, step in zip((z, y, x), step_um, strict=True)))
    within = (distance >= inner_um) & (distance <= outer_um)
    offsets = np.stack([z[within], y[within], x[within]], axis=1)
    members = int(np.clip(len(offsets) // GROUPS, 1, LARGEST_GROUP))
    groups = offsets[: len(offsets) // members * members].reshape(-1, members, 3)
    if len(groups) > MOST_GROUPS:
        groups = groups[np.linspace(0, len(groups) - 1, MOST_GROUPS).round().astype(int)]
    return Shell(groups)


def occupied(
    places: np.ndarray, semiaxes_um: np.ndarray, step_um: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Return where (z, y, x) any neuron's light is: ellipsoids (3,) in µm, and a voxel more, around places (n, 3)."""
    taken = np.zeros(shape, bool)
    half = [
        0 if size == 1 else int(axis / step) + 1 for axis, step, size in zip(semiaxes_um, step_um, shape, strict=True)
    ]
    z, y, x = np.meshgrid(*(np.arange(-reach, reach + 1) for reach in half), indexing="ij")
    reach = semiaxes_um + step_um
    inside = sum(np.square(index * step / end) for index, step, end in zip((z, y, x), step_um, reach, strict=True)) <= 1
    offsets = np.stack([z[inside], y[inside], x[inside]], axis=1)
    index = np.rint(places).astype(np.int64)[:, None, :] + offsets
    index = index[np.all((index >= 0) & (index < shape), axis=-1)]
    taken[index[:, 0], index[:, 1], index[:, 2]] = True
    return taken


def light_around(
    volume: np.ndarray, places: np.ndarray, around: Shell, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the background (n,) at places (n, 3), and how many groups (n,) it is the median of.

    The median of the means of groups of neighbours: the median of single pixels lies below their mean, because few
    photons are distributed unevenly, and would count as signal. NaN where fewer than 8 groups are left.
    """
    index = np.rint(places).astype(np.int64)[:, None, None, :] + around.offsets
    free = np.all((index >= 0) & (index < volume.shape), axis=-1)
    index = np.clip(index, 0, np.asarray(volume.shape) - 1)
    flat = (index[..., 0] * volume.shape[1] + index[..., 1]) * volume.shape[2] + index[..., 2]
    values = np.take(volume.reshape(-1), flat).astype(np.float64)
    free &= ~np.take(taken.reshape(-1), flat)
    if volume.dtype.kind == "f":
        free &= np.isfinite(values)
        values[~free] = 0.0
    count = free.sum(axis=2)
    mean = np.einsum("ngk,ngk->ng", values, free) / np.maximum(count, 1)
    usable = count >= max(1, around.offsets.shape[1] // 2)
    groups = usable.sum(axis=1)
    mean[~usable] = np.inf
    mean.sort(axis=1)
    rows = np.arange(len(mean))
    middle = 0.5 * (mean[rows, np.maximum(groups - 1, 0) // 2] + mean[rows, np.minimum(groups // 2, mean.shape[1] - 1)])
    return np.where(groups >= LEAST_GROUPS, middle, np.nan), groups
