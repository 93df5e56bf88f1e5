"""From neurons to the light that is expected in each voxel.

Positions are (z, y, x) in µm, voxel i of an axis has its centre at i times the voxel size, arrays are (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUCLEUS_RADIUS_UM = (1.9, 0.3, 1.3, 2.8)  # mean, SD, smallest, largest
SIGMA_PER_RADIUS = 0.6  # a nucleus of radius r is a Gaussian of sigma 0.6 r before the microscope blurs it
PSF_SIGMA_UM = (1.5, 0.5, 0.5)  # spinning disk, 0.75 NA, through tissue
HAZE_SIGMA_UM = (4.0, 8.0, 8.0)
HALO_SIGMA_UM = (4.0, 2.2, 2.2)  # light of a nucleus above and below the plane
BOX_SIGMAS = 4.0  # a Gaussian is drawn to this distance, where it is 3e-4 of its peak


def nucleus_covariances(
    count: int, rng: np.random.Generator, psf_sigma_um: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Return the covariances (count, 3, 3) in µm² of nuclei, blurred by a microscope of ``psf_sigma_um``.

    Each is an ellipsoid of random size, of axes that differ by about 15 %, of random direction.
    """
    mean, sd, smallest, largest = NUCLEUS_RADIUS_UM
    radius = np.clip(rng.normal(mean, sd, count), smallest, largest)
    sigma = SIGMA_PER_RADIUS * radius[:, None] * np.exp(rng.normal(0, 0.15, (count, 3)))
    turn = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    return np.asarray(np.einsum("nij,nj,nkj->nik", turn, sigma**2, turn) + np.diag(np.square(psf_sigma_um)))


def radii(covariances_um: np.ndarray) -> np.ndarray:
    """Return the radius (n,) in µm of the sphere that has the volume of each nucleus (n, 3, 3)."""
    return np.asarray(np.linalg.det(covariances_um) ** (1 / 6) / SIGMA_PER_RADIUS)


def _boxes(
    shape: Sequence[int], centres_um: np.ndarray, reach_um: np.ndarray, voxel_um: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the end voxel (n, 3) of boxes that reach ``reach_um`` (n, 3) from their centres."""
    first, end = np.ceil((centres_um - reach_um) / voxel_um), np.floor((centres_um + reach_um) / voxel_um) + 1
    return np.clip(first, 0, shape).astype(int), np.clip(end, 0, shape).astype(int)


def _squared_distance(
    precision: np.ndarray, centre: np.ndarray, start: np.ndarray, stop: np.ndarray, voxel_um: np.ndarray
) -> np.ndarray:
    """Return the squared Mahalanobis distance (z, y, x), float32, of the voxels of a box from a centre."""
    z, y, x = (
        (np.arange(a, b) * size - middle).astype(np.float32)
        for a, b, size, middle in zip(start, stop, voxel_um, centre, strict=True)
    )
    p = precision.astype(np.float32)
    plane = p[1, 1] * y[:, None] ** 2 + p[2, 2] * x**2 + 2 * p[1, 2] * y[:, None] * x
    tilt = 2 * (p[0, 1] * y[:, None] + p[0, 2] * x)
    return np.asarray(plane + z[:, None, None] * (tilt + p[0, 0] * z[:, None, None]))


def add_gaussians(
    volume: np.ndarray, centres_um: np.ndarray, covariances_um: np.ndarray, peaks: np.ndarray, voxel_um: np.ndarray
) -> None:
    """Add 3-D Gaussians to ``volume`` (z, y, x) in place, each inside its own box of 4 sigma.

    ``centres_um`` (n, 3), ``covariances_um`` (n, 3, 3) in µm², ``peaks`` (n,) in the unit of ``volume``. Values
    are those at the voxel centres. What lies outside the volume is cut off.
    """
    precisions = np.linalg.inv(covariances_um)
    reach = BOX_SIGMAS * np.sqrt(np.diagonal(covariances_um, axis1=1, axis2=2))
    first, last = _boxes(volume.shape, centres_um, reach, voxel_um)
    for centre, precision, peak, start, stop in zip(centres_um, precisions, peaks, first, last, strict=True):
        if np.any(stop <= start) or peak == 0:
            continue
        light = _squared_distance(precision, centre, start, stop, voxel_um)
        light *= np.float32(-0.5)
        np.exp(light, out=light)
        light *= np.float32(peak)
        volume[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]] += light


def label_ellipsoids(
    shape: Sequence[int], centres_um: np.ndarray, covariances_um: np.ndarray, voxel_um: np.ndarray
) -> np.ndarray:
    """Return labels (z, y, x), uint16: n + 1 where a voxel's centre lies inside ellipsoid n, 0 elsewhere.

    The surface is where a Gaussian of that covariance has the radius of the nucleus, 1 / SIGMA_PER_RADIUS sigmas.
    Where ellipsoids overlap, the one whose centre is nearer in its own sigmas has the voxel.
    """
    labels = np.zeros(tuple(shape), np.uint16)
    nearest = np.full(tuple(shape), SIGMA_PER_RADIUS**-2, np.float32)
    precisions = np.linalg.inv(covariances_um)
    reach = np.sqrt(np.diagonal(covariances_um, axis1=1, axis2=2)) / SIGMA_PER_RADIUS
    first, last = _boxes(shape, centres_um, reach, voxel_um)
    for number, (centre, precision, start, stop) in enumerate(
        zip(centres_um, precisions, first, last, strict=True), start=1
    ):
        if np.any(stop <= start):
            continue
        box = (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2]))
        distance = _squared_distance(precision, centre, start, stop, voxel_um)
        closer = distance < nearest[box]
        labels[box][closer] = number
        nearest[box][closer] = distance[closer]
    return labels


def broad_gaussians(
    shape: Sequence[int], centres_um: np.ndarray, sigmas_um: np.ndarray, peaks: np.ndarray, voxel_um: np.ndarray
) -> np.ndarray:
    """Return the float32 volume (z, y, x) of a sum of Gaussians whose axes lie along z, y, x, without any box.

    ``centres_um``, ``sigmas_um`` are (n, 3), ``peaks`` (n,). The sum over the sources is one matrix product a plane,
    so that it costs little however far a source reaches.
    """
    profiles = [
        np.exp(-0.5 * ((np.arange(size) * voxel - centres_um[:, axis, None]) / sigmas_um[:, axis, None]) ** 2)
        for axis, (size, voxel) in enumerate(zip(shape, voxel_um, strict=True))
    ]
    along_z, along_y, along_x = (profile.astype(np.float32) for profile in profiles)
    weights = along_z * peaks[:, None].astype(np.float32)
    volume = np.empty(tuple(shape), np.float32)
    for z in range(shape[0]):
        np.matmul((along_y * weights[:, z, None]).T, along_x, out=volume[z])
    return volume


def haze_of(
    covariances_um: np.ndarray, peaks: np.ndarray, strength: float, sigma_um: Sequence[float] = HAZE_SIGMA_UM
) -> tuple[np.ndarray, np.ndarray]:
    """Return sigmas (n, 3) in µm and peaks (n,) of the out-of-focus light of Gaussians.

    Haze is ``strength`` times the signal convolved with a Gaussian of unit integral and ``sigma_um``; a Gaussian
    convolved with a Gaussian is one whose variances add and whose integral stays.
    """
    variances = np.diagonal(covariances_um, axis1=1, axis2=2)
    blurred = variances + np.square(sigma_um)
    volume = np.sqrt(np.linalg.det(covariances_um) / np.prod(blurred, axis=1))
    return np.sqrt(blurred), strength * peaks * volume


def stray_light(shape: Sequence[int], column: float = 0.66, width: float = 0.018, row: float = 0.5) -> np.ndarray:
    """Return a plane (y, x), float32, of the light that reaches the camera past the sample.

    A vertical band at ``column`` of relative ``width`` (sigma), 1 at ``row`` and fading up and down; positions and
    widths are fractions of the plane. The defaults are the column and row medians of the 512 x 512 planes that the
    NIDDL authors publish, whose broad rise along x is no light but the camera's offset (docs/decisions/0007).
    """
    y, x = ((np.arange(size) + 0.5) / size for size in shape)
    band = np.exp(-0.5 * ((x - column) / width) ** 2) * np.exp(-0.5 * ((y[:, None] - row) / 0.25) ** 2)
    return np.asarray(band, dtype=np.float32)
