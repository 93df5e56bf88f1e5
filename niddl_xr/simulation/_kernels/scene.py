"""A worm's head under the microscope, frame by frame: photons and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niddl_xr.simulation._kernels.rendering import (
    HALO_SIGMA_UM,
    add_gaussians,
    broad_gaussians,
    haze_of,
    label_ellipsoids,
)

BODY_SIGMA_UM = (6.0, 7.0, 9.0)
HALO_SHARE = 0.3  # of the haze; by eye, beside the planes that the NIDDL authors publish


@dataclass(frozen=True)
class Scene:
    """What does not change with time: shapes of the neurons and of the haze, the body's own light, the light past it.

    The first points of a frame are the neurons, the others the sources of the body's glow.
    """

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    nuclei: np.ndarray  # (neuron, 3, 3) covariances in µm², before the microscope
    psf_sigma_um: np.ndarray  # (3,)
    rest_photons: np.ndarray  # (neuron,) at the centre of a neuron that stands still
    haze: float
    body_photons: np.ndarray  # (source,)
    stray_photons: np.ndarray  # (y, x)
    plane_delay_s: float  # from one plane to the next
    exposure_s: float

    def photons(self, points: np.ndarray, velocities: np.ndarray, brightness: np.ndarray, bleach: float) -> np.ndarray:
        """Return the photons (z, y, x), float32, that are expected in one frame.

        ``points`` (neuron + source, 3) in µm as :func:`apparent` gives them, ``velocities`` likewise in µm/s,
        ``brightness`` (neuron,) relative to rest; ``bleach`` is the part of the fluorophores that still shines.
        """
        neurons = len(self.nuclei)
        covariances = self.seen(velocities[:neurons])
        # Smearing spreads light and takes none away: the peak falls as the volume of the Gaussian grows.
        spread_out = np.sqrt(np.linalg.det(self.nuclei + np.diag(self.psf_sigma_um**2)) / np.linalg.det(covariances))
        peaks = self.rest_photons * brightness * bleach * spread_out
        haze, haze_peaks = haze_of(covariances, peaks, self.haze)
        halo, halo_peaks = haze_of(covariances, peaks, HALO_SHARE * self.haze, HALO_SIGMA_UM)
        spread = np.concatenate([haze, np.full((len(self.body_photons), 3), BODY_SIGMA_UM), halo])
        shine = np.concatenate([haze_peaks, self.body_photons * bleach, halo_peaks])
        centres = np.concatenate([points, points[:neurons]])
        volume = broad_gaussians(self.shape, centres, spread, shine, self.voxel_um)
        volume += self.stray_photons
        add_gaussians(volume, points[:neurons], covariances, peaks, self.voxel_um)
        return volume

    def labels(self, points: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Return the labels (z, y, x), uint16: neuron + 1 inside a nucleus, 0 outside."""
        neurons = len(self.nuclei)
        covariances = self._sheared(self.nuclei, velocities[:neurons])
        return label_ellipsoids(self.shape, points[:neurons], covariances, self.voxel_um)

    def seen(self, velocities: np.ndarray) -> np.ndarray:
        """Return the covariances in the image: nucleus, blurred by the PSF and in the exposure, sheared by the scan."""
        covariances = self.nuclei + np.diag(self.psf_sigma_um**2)
        if self.exposure_s:
            # A uniform smear of length v t has variance (v t)² / 12.
            smear = velocities * self.exposure_s
            covariances = covariances + smear[:, :, None] * smear[:, None, :] / 12
        return self._sheared(covariances, velocities)

    def _sheared(self, covariances: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        if not self.plane_delay_s:
            return covariances
        shear = np.tile(np.eye(3), (len(covariances), 1, 1))
        shear[:, 1:, 0] = velocities[:, 1:] * self.plane_delay_s / self.voxel_um[0]
        return np.asarray(shear @ covariances @ np.swapaxes(shear, 1, 2))


def apparent(positions: np.ndarray, velocities: np.ndarray, plane_delay_s: float, plane_um: float) -> np.ndarray:
    """Return where points (t, n, 3) in µm appear in a volume whose planes are taken one after another.

    A point at depth z is passed by the scan ``plane_delay_s * z / plane_um`` after the first plane, and has moved on
    by then; the movement along z, slow beside the scan, is left out. ``velocities`` are means over the scan.
    """
    if not plane_delay_s:
        return positions
    late_s = plane_delay_s * positions[..., :1] / plane_um
    moved = positions.copy()
    moved[..., 1:] += velocities[..., 1:] * late_s
    return moved
