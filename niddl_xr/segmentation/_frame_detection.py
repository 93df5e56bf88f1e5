"""Detection in one frame, and in the frames that one task works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niddl_xr.segmentation._kernels import blobs as kernels
from niddl_xr.segmentation._kernels.blob_fit import SIGMA_PER_RADIUS, taken_apart
from niddl_xr.segmentation._worm_mask import worm_mask

METHODS = ("dog", "log")
WITHOUT_MASK = 1.2  # times snr: the surroundings of a worm are darker and less uneven than the worm
NEARLY_ALL = 0.8  # of a frame: an outline that holds more is none
NUCLEI_APART_RADII = 1.85  # nuclei do not overlap (2 radii), but their sizes differ
DIMMEST = 0.3  # of a neighbour's response, for a nucleus in its shadow
_ROUNDING = 16 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Settings:
    """What :func:`detect` was told, and the size of a voxel (z, y, x) in µm; 1 along a flat axis."""

    voxel_um: tuple[float, float, float]
    radius_um: float
    snr: float
    min_distance_um: float
    method: str
    outline: bool  # look for the worm


@dataclass(frozen=True)
class Found:
    """Points of one frame: ``place`` (n, 3) in voxels from the first one's centre, the others (n,)."""

    place: np.ndarray
    radius_um: np.ndarray
    intensity: np.ndarray
    snr: np.ndarray
    blank: bool = False  # nothing in the frame but one value or NaN
    holed: bool = False  # some voxels are NaN or infinite

    def __len__(self) -> int:
        return len(self.snr)


def detect_in_frame(volume: np.ndarray, settings: Settings, mask: np.ndarray | None = None) -> Found:
    """Return the blobs of a frame (z, y, x), the strongest first; ``mask`` of its shape says where to look."""
    valid = np.isfinite(volume) if volume.dtype.kind == "f" else None
    if valid is not None and valid.all():
        valid = None
    holed = valid is not None
    seen = volume if valid is None else volume[valid]
    lowest, highest = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    if lowest == highest:
        return _nothing(blank=True, holed=holed)
    rounding = _ROUNDING * max(abs(lowest), abs(highest))
    del seen
    voxel_um = np.asarray(settings.voxel_um)
    inside, snr = _where_to_look(volume, voxel_um, settings, mask, valid)
    sigma_um = kernels.filter_sigma_um(settings.radius_um, volume.shape)
    response = kernels.difference_of_gaussians(volume, sigma_um, voxel_um, valid)
    first = response
    if settings.method == "log":
        first = kernels.laplacian_of_gaussian(volume, sigma_um, voxel_um, valid)
    index = kernels.local_maxima(first, snr * kernels.noise_sd(first, inside, rounding), inside)
    del first
    index = index[kernels.apart(index * voxel_um, settings.min_distance_um)]
    if not len(index):
        return _nothing(holed=holed)
    gain = kernels.noise_gain(sigma_um, voxel_um)
    blobs, times_noise = taken_apart(
        response,
        index,
        sigma_um=sigma_um,
        voxel_um=voxel_um,
        radius_um=settings.radius_um,
        snr=snr,
        rounding=rounding,
        distance_um=max(settings.min_distance_um, NUCLEI_APART_RADII * settings.radius_um),
        dimmest=DIMMEST,
        noise_at=lambda points_um: gain * kernels.noise_around(volume, points_um, voxel_um, settings.radius_um),
        inside=inside,
    )
    order = np.argsort(-times_noise, kind="stable")
    order = order[kernels.apart(blobs.centre_um[order], settings.min_distance_um)]
    width_um = np.exp(blobs.log_variance[:, 1] / 2)
    return Found(
        place=(blobs.centre_um / voxel_um)[order],
        radius_um=(width_um / SIGMA_PER_RADIUS)[order],
        intensity=blobs.peak[order],
        snr=times_noise[order],
        holed=holed,
    )


def _nothing(*, blank: bool = False, holed: bool = False) -> Found:
    none = np.empty(0)
    return Found(np.empty((0, 3)), none, none, none, blank, holed)


def _where_to_look(
    volume: np.ndarray, voxel_um: np.ndarray, settings: Settings, mask: np.ndarray | None, valid: np.ndarray | None
) -> tuple[np.ndarray | None, float]:
    """Return the voxels to look in, None for all, and how many times the noise a blob has to answer."""
    if mask is None and settings.outline:
        outline = worm_mask(volume, voxel_um, settings.radius_um, valid)
        if outline.mean() <= NEARLY_ALL:
            return outline, settings.snr
    if mask is not None:
        return (mask if valid is None else mask & valid), settings.snr
    return valid, settings.snr * WITHOUT_MASK
