"""What a tracking microscope sees of a crawling worm: fluorescence, transmitted light, labels, outline.

Points are (y, x) in µm, angles those of the direction from head to tail, from x towards y; z of everything is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from niddl_xr.simulation._kernels import crawler_body, lines, rendering
from niddl_xr.simulation._kernels.motor_neurons import CORD_SPAN

CORD_OFFSET = 0.8  # of the local radius, on the ventral side
# Cells and the blur of the objective give widths at half maximum of 7 and 12 px of 0.8 µm, as measured on the ventral
# cords that the NIDDL authors publish (93 cells).
SOMA_RADIUS_UM = (1.8, 3.2)
SOMA_ELONGATION = 1.8  # along the body
PSF_SIGMA_UM = 1.0
NEURITE_SIGMA_UM = 1.0  # of the bundle
NEURITE_BEAD_UM = 12.0
NIR_SIGMA_UM = 2.0
NIR_FALL_OFF = 0.12  # of the infrared light from the middle of the field to its corners


@dataclass(frozen=True)
class Scene:
    """What does not change from frame to frame."""

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    length_um: float
    somata: np.ndarray  # (neuron, 2): variances across and along the body in µm², before the microscope
    glow: crawler_body.Texture  # in photons
    blur: crawler_body.Diffuse
    haze: float
    cord_along: np.ndarray  # (piece,): the neurites of the cord, piece by piece
    cord_across: np.ndarray
    cord_sigma_um: float
    cord_photons: np.ndarray  # (piece,)
    constant_photons: np.ndarray  # (y, x)
    shadow: crawler_body.Texture  # optical depth
    nir_blur: crawler_body.Diffuse
    nir_photons: np.ndarray  # (y, x) of the infrared channel, without a worm

    def still(self, directions: np.ndarray) -> np.ndarray:
        """Return covariances (..., neuron, 3, 3) in µm² in the image of cells of ``directions`` (..., neuron)."""
        return spread(self.somata, directions) + np.diag(PSF_SIGMA_UM**2 + self.voxel_um**2 / 12)

    def seen(self, directions: np.ndarray, ways: np.ndarray) -> np.ndarray:
        """Return these of cells that go ``ways`` (..., neuron, 2) in µm within the exposure."""
        covariances = self.still(directions)
        # Light spread evenly over a way has the variance way² / 12.
        covariances[..., 1:, 1:] += ways[..., :, None] * ways[..., None, :] / 12
        return covariances

    def photons(
        self,
        points: np.ndarray,
        angles: np.ndarray,
        cells: np.ndarray,
        directions: np.ndarray,
        ways: np.ndarray,
        peaks: np.ndarray,
        bleach: float,
    ) -> np.ndarray:
        """Return the photons (z, y, x), float32, that are expected in one frame.

        ``points`` (s, 2) and ``angles`` (s,) of the centreline; ``cells`` (neuron, 2), their ``directions`` (neuron,),
        ``ways`` (neuron, 2) and ``peaks`` (neuron,), bleaching included; ``bleach`` is the part of the other
        fluorophores that still shines.
        """
        covariances = self.seen(directions, ways)
        cord = crawler_body.on_body(points[None], angles[None], self.cord_along, self.cord_across, self.length_um)
        pieces = cord[0][0]
        pieces_peaks = bleach * self.cord_photons
        places, glow = self.glow.on_plane(points, angles)
        cell_light = peaks * np.sqrt(np.linalg.det(covariances[:, 1:, 1:]))
        light = np.concatenate([cell_light, pieces_peaks * self.cord_sigma_um**2])
        plane = self.blur.render(
            np.concatenate([places, cells, pieces]),
            np.concatenate([bleach * glow, self.haze * 2 * np.pi * light]),
        )
        plane += self.constant_photons
        volume = plane[None]
        sigmas = np.full((len(pieces), 3), self.cord_sigma_um)
        lines.add_point_lights(volume, in_space(pieces), sigmas, pieces_peaks, self.voxel_um)
        rendering.add_gaussians(volume, in_space(cells), covariances, peaks, self.voxel_um)
        return volume

    def labels(self, cells: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return labels (z, y, x), uint16: neuron + 1 inside a cell, 0 outside."""
        covariances = spread(self.somata, directions)
        covariances[:, 0, 0] = 1.0  # the plane cuts all cells in the middle
        return rendering.label_ellipsoids(self.shape, in_space(cells), covariances, self.voxel_um)

    def mask(self, points: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """Return which voxels (z, y, x) lie in the body."""
        return crawler_body.body_mask(self.shape[1:], points, angles, self.length_um, self.voxel_um[1:])[None]

    def transmitted(self, points: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """Return the photons (z, y, x), float32, that the worm lets through to the infrared channel."""
        depth = self.nir_blur.render(*self.shadow.on_plane(points, angles))
        return np.asarray(self.nir_photons * np.exp(-depth))[None]


def spread(variances: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return covariances (..., 3, 3) of Gaussians with ``variances`` (..., 2) across and along ``directions`` (...).

    Along z the variance is 0.
    """
    sine, cosine = np.sin(directions), np.cos(directions)
    across, along = variances[..., 0], variances[..., 1]
    covariances = np.zeros((*directions.shape, 3, 3))
    covariances[..., 1, 1] = across * cosine**2 + along * sine**2
    covariances[..., 2, 2] = across * sine**2 + along * cosine**2
    covariances[..., 1, 2] = covariances[..., 2, 1] = (along - across) * sine * cosine
    return covariances


def in_space(points: np.ndarray) -> np.ndarray:
    """Return (..., 3) of points (..., 2), z 0."""
    return np.concatenate([np.zeros((*points.shape[:-1], 1)), points], axis=-1)


def draw_somata(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return radii (count,) in µm of cell bodies and their variances (count, 2) across and along the body in µm²."""
    radius = rng.uniform(*SOMA_RADIUS_UM, count)
    sigma = rendering.SIGMA_PER_RADIUS * radius
    return radius, np.stack([sigma**2, (SOMA_ELONGATION * sigma) ** 2], axis=-1)


def draw_scene(
    shape: tuple[int, int, int],
    voxel_um: np.ndarray,
    length_um: float,
    side: int,
    somata: np.ndarray,
    *,
    glow_photons: float,
    neurite_photons: float,
    haze: float,
    constant_photons: np.ndarray,
    nir_voxel_um: float,
    nir_photons: float,
    rng: np.random.Generator,
) -> Scene:
    """Return a random worm of ``length_um``, ``side`` and ``somata`` (see :class:`Scene`) in given light."""
    pixel_um = voxel_um[1:]
    sigma = float(np.sqrt(NEURITE_SIGMA_UM**2 + PSF_SIGMA_UM**2 + np.mean(pixel_um**2) / 12))
    # Pieces one sigma apart add up to a line without ripples, sqrt(2 pi) times as bright as one of them.
    pieces = max(2, int(np.ceil(np.ptp(CORD_SPAN) * length_um / sigma)))
    uneven = np.exp(0.3 * crawler_body.mottle((pieces,), NEURITE_BEAD_UM / sigma, rng))
    glow = crawler_body.glow(length_um, rng)
    extent = (np.asarray(shape[1:]) - 1) * pixel_um
    height, width = (int(size) for size in np.floor(extent / nir_voxel_um + 1e-6) + 1)
    y, x = (np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in (height, width))
    return Scene(
        shape=shape,
        voxel_um=voxel_um,
        length_um=length_um,
        somata=somata,
        glow=replace(glow, values=glow_photons * glow.values),
        blur=crawler_body.diffuse(shape[1:], pixel_um, crawler_body.DIFFUSE_SIGMA_UM, crawler_body.DIFFUSE_GRID_UM),
        haze=haze,
        cord_along=np.linspace(*CORD_SPAN, pieces),
        cord_across=np.full(pieces, side * CORD_OFFSET),
        cord_sigma_um=sigma,
        cord_photons=neurite_photons * uneven / np.sqrt(2 * np.pi),
        constant_photons=constant_photons.astype(np.float32),
        shadow=crawler_body.shadow(length_um, nir_voxel_um, rng),
        nir_blur=crawler_body.diffuse(
            (height, width), np.full(2, nir_voxel_um), max(NIR_SIGMA_UM, nir_voxel_um / 2), nir_voxel_um
        ),
        nir_photons=(nir_photons * (1 - NIR_FALL_OFF * (y[:, None] ** 2 + x**2) / 2)).astype(np.float32),
    )
