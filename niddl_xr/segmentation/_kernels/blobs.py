"""Bright blobs of a known size in one frame: the filter that answers to them, its peaks, and what they are worth.

All arrays of a frame are (z, y, x); an axis of size 1 is flat, and a frame with a flat axis is a plane. Positions are
in voxels where a name says ``index``, else in µm from the centre of the first voxel.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

WIDER = 1.6  # the second Gaussian of the difference of Gaussians: Marr & Hildreth, Proc. R. Soc. B 207:187 (1980)
MAD_TO_SD = 1.4826
_MOST_VOXELS_FOR_MEDIAN = 500_000


def filter_sigma_um(radius_um: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return the sigmas (3,) in µm of the filter that answers most to a ball of ``radius_um``; 0 along flat axes.

    The Laplacian of a Gaussian answers most to a ball in n dims at sigma = radius / sqrt(n) (Lindeberg, IJCV 30:79,
    1998).
    """
    deep = np.asarray(shape) > 1
    return np.where(deep, radius_um / np.sqrt(max(1, deep.sum())), 0.0)


def smoothed(volume: np.ndarray, sigma_px: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Return ``volume`` (z, y, x) blurred by a Gaussian, float32; the edge voxels go on beyond the edge.

    Voxels outside ``valid`` take no part: the others' weights are scaled up.
    """
    if valid is None:
        return np.asarray(ndimage.gaussian_filter(volume, sigma_px, mode="nearest", output=np.float32))
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma_px, mode="nearest")
    light = ndimage.gaussian_filter(np.where(valid, volume, np.float32(0)), sigma_px, mode="nearest")
    return np.asarray(np.divide(light, weight, out=np.zeros_like(light), where=weight > 1e-3))


def difference_of_gaussians(
    volume: np.ndarray, sigma_um: np.ndarray, voxel_um: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Return ``volume`` blurred by ``sigma_um`` minus ``volume`` blurred :data:`WIDER` times as much, float32."""
    narrow = smoothed(volume, sigma_um / voxel_um, valid)
    if valid is None:  # Gaussians add in squares: a second blur of the first saves most of the work
        wide = smoothed(narrow, np.sqrt(WIDER**2 - 1) * sigma_um / voxel_um)
    else:
        wide = smoothed(volume, WIDER * sigma_um / voxel_um, valid)
    np.subtract(narrow, wide, out=wide)
    return wide


def laplacian_of_gaussian(
    volume: np.ndarray, sigma_um: np.ndarray, voxel_um: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Return the Laplacian of ``volume`` blurred by ``sigma_um``, times -sigma²: positive in a bright blob; float32."""
    if valid is not None:
        volume = np.where(valid, volume, smoothed(volume, sigma_um / voxel_um, valid))
    response = np.zeros(volume.shape, np.float32)
    for axis in np.flatnonzero(sigma_um):
        order = np.zeros(3, int)
        order[axis] = 2
        second = ndimage.gaussian_filter(volume, sigma_um / voxel_um, order=order, mode="nearest", output=np.float32)
        second *= np.float32((sigma_um[axis] / voxel_um[axis]) ** 2)
        response -= second
    return response


def robust_sd(values: np.ndarray) -> float:
    """Return 1.4826 times the median absolute deviation of ``values`` (n,), of half a million of them at most."""
    sample = values[:: max(1, len(values) // _MOST_VOXELS_FOR_MEDIAN)]
    return float(MAD_TO_SD * np.median(np.abs(sample - np.median(sample)))) if len(sample) else 0.0


def noise_sd(response: np.ndarray, inside: np.ndarray | None, rounding: float) -> float:
    """Return the robust SD of ``response`` (z, y, x) inside a mask, None for all; not less than ``rounding``."""
    values = response.ravel() if inside is None else response[inside]
    return max(robust_sd(values), rounding)


def noise_gain(sigma_um: np.ndarray, voxel_um: np.ndarray) -> float:
    """Return the SD of :func:`difference_of_gaussians` in white noise of SD 1: the norm of the filter."""
    deep = sigma_um > 0
    squares = np.square(sigma_um[deep] / voxel_um[deep])

    def overlap(one: float, other: float) -> float:  # of Gaussians one and other times as wide
        return float(np.prod(np.minimum(1, 1 / np.sqrt(2 * np.pi * (one**2 + other**2) * squares))))

    return float(np.sqrt(overlap(1, 1) + overlap(WIDER, WIDER) - 2 * overlap(1, WIDER)))


def noise_around(volume: np.ndarray, points_um: np.ndarray, voxel_um: np.ndarray, radius_um: float) -> np.ndarray:
    """Return the SD (n,) of the pixels' noise in boxes of ``radius_um`` around points (n, 3), from the finest detail.

    (1, -2, 1) along y and x has gain 6 for white noise, and next to none for what a microscope shows. Of a denoised
    frame little is left. Infinite where nothing is known.
    """
    reach = np.maximum(np.round(radius_um / voxel_um), np.minimum([0, 2, 2], np.asarray(volume.shape) - 1)).astype(int)
    noise = np.full(len(points_um), np.inf)
    for row, place in enumerate(np.round(points_um / voxel_um).astype(int)):
        box = tuple(slice(max(p - r, 0), p + r + 1) for p, r in zip(place, reach, strict=True))
        detail = np.diff(np.diff(volume[box].astype(np.float64), 2, axis=1), 2, axis=2)
        detail = detail[np.isfinite(detail)]
        if detail.size:
            noise[row] = np.sqrt(np.mean(np.square(detail))) / 6
    return noise


def local_maxima(response: np.ndarray, threshold: float, inside: np.ndarray | None = None) -> np.ndarray:
    """Return the indices (n, 3) of voxels above ``threshold`` that no neighbour exceeds, the strongest first.

    Of the 26 neighbours those outside ``inside`` count too: a slope that goes on beyond the mask is no peak.
    """
    above = response > threshold
    if inside is not None:
        above &= inside
    index = np.argwhere(above)
    values = response[tuple(index.T)]
    highest = np.ones(len(index), bool)
    last = np.asarray(response.shape) - 1
    for step in product((-1, 0, 1), repeat=3):
        if any(step):
            neighbour = np.clip(index + step, 0, last)  # at the edge a voxel is its own neighbour
            highest &= values >= response[tuple(neighbour.T)]
    index, values = index[highest], values[highest]
    return np.asarray(index[np.argsort(-values, kind="stable")])


def apart(points_um: np.ndarray, distance_um: float) -> np.ndarray:
    """Return which of ``points_um`` (n, 3), the strongest first, have no stronger one within ``distance_um``."""
    kept = np.ones(len(points_um), bool)
    if len(points_um) < 2 or distance_um <= 0:
        return kept
    for first, second in sorted(KDTree(points_um).query_pairs(distance_um)):
        if kept[first]:
            kept[second] = False
    return kept


def between_voxels(response: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return where the peaks at ``index`` (n, 3) are between the voxels: parabolas through three voxels an axis.

    At the edge, where a voxel lacks a neighbour, the peak stays at its centre along that axis.
    """
    places = index.astype(np.float64)
    last = np.asarray(response.shape) - 1
    here = response[tuple(index.T)].astype(np.float64)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        before = response[tuple(np.maximum(index - step, 0).T)].astype(np.float64)
        after = response[tuple(np.minimum(index + step, last).T)].astype(np.float64)
        bend = before - 2 * here + after
        inner = (index[:, axis] > 0) & (index[:, axis] < last[axis]) & (bend < 0)
        shift = np.divide(before - after, 2 * bend, out=np.zeros_like(here), where=inner)
        places[:, axis] += np.clip(shift, -0.5, 0.5)
    return places
