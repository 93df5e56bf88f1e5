"""Worms in a channel whose ventral nerve cord shines: bands of faint light with a row of cells along one edge.

Lengths and distances were read off the ventral-cord images that the NIDDL authors publish; the rest is chosen by eye
beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import erf

from niddl_xr.simulation._kernels import rendering
from niddl_xr.simulation._kernels.tubes import Tube, random_tube

CORD_RADIUS_UM = (13.0, 22.0)
CELL_GAP_UM = 12.0  # mean distance between cells, or pairs of cells, of the row
PAIR_GAP_UM = 4.0
SECOND_WORM, THIRD_WORM, FLAT_OBJECT = 0.6, 0.3, 0.12  # how often they are there


def worms_in_channel(field_um: np.ndarray, rng: np.random.Generator) -> list[Tube]:
    """Return one worm in a field (3,) in µm and up to two neighbours, about parallel, mostly outside the field."""
    first = random_tube(field_um, rng, radius_um=CORD_RADIUS_UM, largest_angle=np.deg2rad(30.0), tip_probability=0.25)
    bodies = [first]
    z, y, x = first.centre
    for side, probability in zip(rng.permutation([-1, 1]), (SECOND_WORM, THIRD_WORM), strict=True):
        if rng.random() < probability:
            distance = side * (2 * first.radius_um + rng.uniform(0.05, 0.5) * float(field_um[1:].max()))
            bodies.append(
                replace(
                    first,
                    centre=(z, y + distance * np.cos(first.angle), x - distance * np.sin(first.angle)),
                    angle=first.angle + rng.normal(0, 0.1),
                    bend_phase=rng.uniform(0, 2 * np.pi),
                    tip_um=rng.uniform(-0.6, 0.2) * float(field_um[2]) if rng.random() < 0.4 else -np.inf,
                )
            )
    return bodies


def row_of_cells(body: Tube, span_um: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres (n, 3) in µm, covariances (n, 3, 3) in µm² and peaks (n,), median 1, of the cells of a cord.

    The row lies along one edge of ``body`` within ``span_um`` of its middle. Every third cell has a neighbour close by.
    """
    gaps = 2.0 + rng.gamma(1.6, (CELL_GAP_UM - 2.0) / 1.6, 4 + int(4 * span_um / CELL_GAP_UM))
    along = np.cumsum(gaps) - span_um
    along = along[(along < span_um) & (along > body.tip_um + 8.0)]
    paired = along[rng.random(len(along)) < 0.3]
    along = np.concatenate([along, paired + rng.normal(PAIR_GAP_UM, 0.8, len(paired))])
    count = len(along)
    side = rng.choice([-1, 1])
    across = side * body.radius_at(along) * rng.uniform(0.8, 0.92) + rng.normal(0, 0.8, count)
    centres = body.place(along, across, rng.normal(0, 0.35, count) * body.depth_um - 0.5 * body.depth_um)
    thick = np.clip(rng.lognormal(0.0, 0.22, count), 0.6, 1.6)
    sigma = np.stack([thick, thick, thick * rng.choice([1.1, 1.5, 2.2], count, p=[0.35, 0.4, 0.25])])
    turn = body.angle + rng.normal(0, 0.15, count)  # the long axis lies along the body
    cosine, sine, zero, one = np.cos(turn), np.sin(turn), np.zeros(count), np.ones(count)
    axes = np.array([[one, zero, zero], [zero, cosine, sine], [zero, -sine, cosine]])  # (space, cell axis, cell)
    covariances = np.einsum("ikn,kn,jkn->nij", axes, sigma**2, axes)
    return centres, covariances, rng.lognormal(0.0, 0.7, count)


def flat_object(shape: Sequence[int], voxel_um: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a plane (y, x), float32, of something large and dim that fills one side of the field."""
    y, x = (np.arange(size) * voxel for size, voxel in zip(shape, voxel_um[1:], strict=True))
    height = float(y[-1]) if len(y) > 1 else 1.0
    edge = height * rng.uniform(0.65, 0.95) + np.tan(rng.normal(0, 0.12)) * (x - x[-1] / 2)
    edge = edge + rng.uniform(0, 6) * np.sin(2 * np.pi * x / rng.uniform(60, 250) + rng.uniform(0, 6))
    plane = 0.5 + 0.5 * erf((y[:, None] - edge) / rng.uniform(1.5, 5.0))
    return np.asarray(plane[:: rng.choice([-1, 1])], dtype=np.float32)


def ventral_cord(
    shape: tuple[int, int, int],
    voxel_um: np.ndarray,
    rng: np.random.Generator,
    *,
    psf_sigma_um: np.ndarray,
    haze: float,
    autofluorescence: float,
) -> np.ndarray:
    """Return the light (z, y, x), float32, of worms in a channel: 1 at the centre of a median cell."""
    field = (np.asarray(shape) - 1) * voxel_um
    span = 0.75 * float(np.hypot(*field[1:]))
    plane = np.zeros(shape[1:], np.float32)
    cells = []
    softness_um = rng.uniform(2.0, 5.0)
    for body in worms_in_channel(field, rng):
        plane += np.float32(rng.uniform(0.5, 1.0)) * body.glow(shape[1:], voxel_um, rng, softness_um=softness_um)
        cells.append(row_of_cells(body, span, rng))
    if rng.random() < FLAT_OBJECT:
        plane += np.float32(rng.uniform(0.3, 0.7)) * flat_object(shape[1:], voxel_um, rng)
    centres, covariances, peaks = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    if shape[0] == 1:
        centres[:, 0] = 0
    covariances = covariances + np.diag(np.square(psf_sigma_um))
    sigmas, hazy = rendering.haze_of(covariances, peaks, haze)
    volume = rendering.broad_gaussians(shape, centres, sigmas, hazy, voxel_um)
    volume += np.float32(autofluorescence) * plane
    rendering.add_gaussians(volume, centres, covariances, peaks, voxel_um)
    return volume
