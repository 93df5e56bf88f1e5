"""What simulated training pairs show: the three kinds of worm images on which the NIDDL authors train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from niddl_xr.simulation._kernels import geometry, neurite_growth, neurites, rendering
from niddl_xr.simulation._kernels.tubes import Tube
from niddl_xr.simulation._kernels.ventral_cord import ventral_cord

_LARGEST_ANGLE = np.deg2rad(35.0)
_HALO_SIGMA_UM = (2.5, 1.8, 1.8)  # light just out of focus: nuclei of the planes beside; by eye
_NEURITE_WIDTH_UM = 0.8  # of the neurite that has light 1 here: the primary dendrites and touch neurons


@dataclass(frozen=True)
class Worms:
    """What the worms of a set have in common."""

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    neurons: tuple[int, int]
    neurites: tuple[int, int]
    haze: float
    autofluorescence: float

    def render(self, subject: str, rng: np.random.Generator) -> np.ndarray:
        """Return the light (z, y, x), float32, of a random worm: 1 at a median nucleus, cell or neurite."""
        return SUBJECTS[subject](self, rng)


@dataclass(frozen=True)
class BentHead(geometry.Head):
    """A head whose axis is a parabola: ``bend`` half heights aside at one head's length from its middle."""

    bend: float = 0.0

    def place(self, along: np.ndarray, up: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return positions as :class:`geometry.Head` does, ``up`` counted from the bent axis."""
        return super().place(along, up + self.bend * np.square(np.asarray(along) - 0.5), depth)


def _whole_brain(worms: Worms, rng: np.random.Generator) -> np.ndarray:
    head = _random_head(worms.shape, worms.voxel_um, rng)
    blur = np.asarray(rendering.PSF_SIGMA_UM) * rng.uniform(1.0, 2.2)
    centres, peaks = _nuclei(head, worms.neurons, rng)
    covariances = rendering.nucleus_covariances(len(centres), rng) * np.square(rng.uniform(0.9, 1.25))
    covariances += np.diag(np.square(blur))
    sigmas, haze = rendering.haze_of(covariances, peaks, worms.haze * rng.uniform(0.15, 1.0))
    halo = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2) + np.square(_HALO_SIGMA_UM))
    halo_peaks = rng.uniform(0.1, 0.35) * peaks
    # Nuclei above and below the planes: the farther away, the larger and the fainter.
    deep, light = _nuclei(head, (len(centres) // 2, len(centres)), rng)
    away = rng.uniform(1.5, 6.0, len(deep))
    spread = np.stack([np.full(len(deep), 8.0), away, away], axis=1)
    # Guts and what else shines in the body behind the head.
    blobs = 16
    shine = worms.autofluorescence * rng.uniform(0.0, 2.0, blobs)
    place = rng.uniform(0.3, 2.2, blobs), rng.uniform(-0.9, 0.9, blobs), rng.uniform(-0.8, 0.8, blobs)
    broad = rng.uniform(3.0, 12.0, (blobs, 3))
    volume = rendering.broad_gaussians(
        worms.shape,
        np.concatenate([centres, centres, deep, head.place(*place)]),
        np.concatenate([sigmas, halo, spread, broad]),
        np.concatenate([haze, halo_peaks, 0.7 * light / (1 + np.square(away / 1.5)), shine]),
        worms.voxel_um,
    )
    glow = body_of(head).glow(worms.shape[1:], worms.voxel_um, rng, softness_um=rng.uniform(3.0, 6.0))
    volume += np.float32(worms.autofluorescence * rng.uniform(0.5, 2.5)) * glow
    rendering.add_gaussians(volume, centres, covariances, peaks, worms.voxel_um)
    for _ in range(rng.integers(*worms.neurites, endpoint=True)):
        _add_neurite(volume, head, worms.voxel_um, blur, rng)
    return volume


def body_of(head: BentHead) -> Tube:
    """Return the body that holds a head, and ends a little before it."""
    return Tube(
        centre=head.centre,
        angle=head.angle,
        radius_um=1.2 * head.half_height,
        depth_um=head.half_depth,
        bend_um=2 * head.bend * head.half_height / np.square(np.pi / 3),  # the parabola, of a sine curve
        bend_length_um=6 * head.length,
        bend_phase=-np.pi / 2,
        tip_um=-0.55 * head.length,
    )


def _random_head(shape: tuple[int, int, int], voxel_um: np.ndarray, rng: np.random.Generator) -> BentHead:
    depth, height, width = (float(extent) for extent in (np.asarray(shape) - 1) * voxel_um)
    longest = max(height, width, 1.0)
    return BentHead(
        centre=(rng.uniform(0.2, 0.8) * depth, height * rng.uniform(0.35, 0.65), width * rng.uniform(0.3, 0.7)),
        length=min(geometry.HEAD_LENGTH_UM, 1.2 * longest) * rng.uniform(0.8, 1.1),
        half_height=min(geometry.HEAD_HALF_HEIGHT_UM, 0.35 * longest) * rng.uniform(0.65, 1.0),
        half_depth=min(geometry.HEAD_HALF_DEPTH_UM, 0.6 * depth + 2.0),
        angle=rng.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE) + np.pi * rng.integers(2),
        bend=rng.uniform(-0.8, 0.8),
    )


def _nuclei(head: geometry.Head, counts: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return centres (n, 3) in µm and brightness (n,), median about 1, of nuclei in a head and behind it."""
    count = int(rng.integers(*counts, endpoint=True))
    ganglia = int(rng.integers(4, 8))
    middle = rng.uniform(0.05, 0.95, ganglia)
    flank = np.where(np.arange(ganglia) % 2, 1.0, -1.0) * rng.uniform(0.5, 0.85, ganglia)
    length, share = rng.uniform(0.03, 0.12, ganglia), rng.dirichlet(0.5 + 3 * middle)  # few nuclei at the nose
    slant = rng.uniform(-0.15, 0.15)
    row = rng.uniform(0.6, 1.0) * rng.choice([-1, 1])
    behind, scattered = rng.uniform(0.0, 0.25), rng.uniform(0.1, 0.5)  # parts of the nuclei

    def propose(wanted: int) -> np.ndarray:
        ganglion = rng.choice(ganglia, wanted, p=share)
        along = rng.normal(middle[ganglion], length[ganglion])
        up = rng.normal(flank[ganglion], 0.24)
        alone = rng.random(wanted) < scattered
        along = np.where(alone, rng.uniform(0.0, 1.1, wanted), along)
        up = np.where(alone, rng.choice([-1, 1], wanted) * rng.uniform(0.3, 0.95, wanted), up)
        depth = rng.uniform(-1, 1, wanted)
        tail = rng.random(wanted) < behind  # the row of the cord behind the head
        along = np.where(tail, rng.uniform(0.95, 1.7, wanted), along + slant * up)
        up = np.where(tail, row + rng.normal(0, 0.05, wanted), up)
        # No nucleus of a neuron lies outside the body or in the pharynx.
        inside = (np.hypot(up, 0.6 * depth) < 1.1) & (np.abs(up) > 0.15) & (along > 0.0)
        return head.place(along, up, depth)[inside]

    # A head that is too small for all of them holds as many as it can: worms differ.
    centres = geometry.hard_core_points(propose, count, 3.0, rounds=8)
    # Neighbours are alike: patches of 10 µm or so share almost half of the variance.
    hubs = head.place(rng.uniform(-0.2, 1.7, 24), *rng.uniform(-1, 1, (2, 24)))
    nearest = np.linalg.norm(centres[:, None] - hubs, axis=2).argmin(axis=1) if len(centres) else np.zeros(0, int)
    shared = rng.normal(0, 0.45, 24)
    return centres, np.exp(shared[nearest] + rng.normal(0, 0.6, len(centres)))


def _add_neurite(
    volume: np.ndarray, head: geometry.Head, voxel_um: np.ndarray, psf: np.ndarray, rng: np.random.Generator
) -> None:
    """Add a random curve along a head, with beads."""
    curve = geometry.random_curve(head, 0.5, rng)
    arbor = neurites.sample([curve], [1], [0], [rng.uniform(0.3, 0.8)], 0.4, rng)
    sigmas, peaks = neurites.light_of(arbor, psf)
    neurites.add_light(volume, arbor, sigmas, rng.lognormal(-1.7, 0.5) * peaks, voxel_um)


def _ventral_cord(worms: Worms, rng: np.random.Generator) -> np.ndarray:
    return ventral_cord(
        worms.shape,
        worms.voxel_um,
        rng,
        psf_sigma_um=np.asarray(rendering.PSF_SIGMA_UM) * rng.uniform(0.9, 1.8),
        haze=worms.haze * rng.uniform(0.1, 0.7),
        autofluorescence=worms.autofluorescence * rng.uniform(1.0, 3.0),
    )


def _neurite(worms: Worms, rng: np.random.Generator) -> np.ndarray:
    kind = "pvd" if rng.random() < 0.6 else "touch"
    field = (np.asarray(worms.shape) - 1) * worms.voxel_um
    body, wall = neurite_growth.random_worm(kind, field, rng, radius_um=(19.0, 30.0), largest_angle=_LARGEST_ANGLE)
    psf = np.asarray(rendering.PSF_SIGMA_UM) * rng.uniform(1.5, 2.5)
    step_um = 0.8 * float(psf.min())  # at one sigma a sum of Gaussians ripples by less than 1e-7
    arbor = neurite_growth.on_body(wall, body, step_um, worms.shape[0] == 1, rng)
    sigmas, peaks = neurites.light_of(arbor, psf)
    centres, spread, hazy = neurites.haze_of(arbor, sigmas, peaks, worms.haze * rng.uniform(0.3, 1.1))
    volume = rendering.broad_gaussians(worms.shape, centres, spread, hazy, worms.voxel_um)
    glow = body.glow(worms.shape[1:], worms.voxel_um, rng)
    volume += np.float32(worms.autofluorescence * rng.uniform(0.4, 2.5)) * glow
    neurites.add_light(volume, arbor, sigmas, peaks, worms.voxel_um)
    return volume * np.float32(np.square(neurites.MEDIAN_WIDTH_UM / _NEURITE_WIDTH_UM))


SUBJECTS: dict[str, Callable[[Worms, np.random.Generator], np.ndarray]] = {
    "whole_brain": _whole_brain,
    "ventral_cord": _ventral_cord,
    "neurite": _neurite,
}
