"""A worm's body as a gently bent tube, for fields that show a part of it.

Positions are (z, y, x) in µm. On the body, ``along`` is the distance along its axis and ``across`` that from it, both
in µm. The axis is a sine curve about a straight line; what is said of its slope below takes that slope to be small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import erf

from niddl_xr.simulation._kernels.rendering import broad_gaussians

TAPER_UM = 45.0  # a body's radius reaches 63 % of its full value this far from the tip; chosen by eye
SMALLEST_RADIUS_UM = 1.0  # in a field of one voxel
PATCHES = 160
TEXTURE_STEP_UM = 0.8


@dataclass(frozen=True)
class Tube:
    """A tube whose axis passes ``centre`` at along = 0 in the direction ``angle`` (rad, in the (y, x) plane)."""

    centre: tuple[float, float, float]
    angle: float
    radius_um: float
    depth_um: float  # half the thickness along z; below radius_um the tube is flattened
    bend_um: float = 0.0  # amplitude of the axis about the straight line
    bend_length_um: float = 300.0  # its wavelength
    bend_phase: float = 0.0
    tip_um: float = -np.inf  # along at which the body ends; there is nothing below it

    def radius_at(self, along: np.ndarray) -> np.ndarray:
        """Return the radius in µm, 0 beyond the tip."""
        return np.asarray(self.radius_um * np.sqrt(-np.expm1(-np.maximum(along - self.tip_um, 0) / TAPER_UM)))

    def _axis(self, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how far the axis lies beside the straight line, in µm, and its slope."""
        turns = 2 * np.pi / self.bend_length_um
        phase = turns * along + self.bend_phase
        beside = self.bend_um * (np.sin(phase) - np.sin(self.bend_phase))
        return beside, self.bend_um * turns * np.cos(phase)

    def place(self, along: np.ndarray, across: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return the positions (n, 3) in µm of points given along, across and in depth in µm."""
        beside, slope = self._axis(along)
        steep = np.hypot(1.0, slope)
        straight = along - across * slope / steep
        lateral = beside + across / steep
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        z, y, x = self.centre
        return np.stack(
            [z + depth, y + sine * straight + cosine * lateral, x + cosine * straight - sine * lateral], axis=-1
        )

    def on_wall(self, along: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """Return the positions (n, 3) of points on the wall: ``angle`` 0 faces the viewer, ±pi/2 are the edges."""
        radius = self.radius_at(along)
        depth = -self.depth_um * radius / self.radius_um * np.cos(angle)
        return self.place(along, radius * np.sin(angle), depth)

    def coordinates(self, shape: Sequence[int], voxel_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return along and across (y, x), float32, of the pixels of a plane of ``shape`` (y, x)."""
        y, x = (
            (np.arange(size) * voxel - middle).astype(np.float32)
            for size, voxel, middle in zip(shape, voxel_um[1:], self.centre[1:], strict=True)
        )
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        straight, lateral = cosine * x + sine * y[:, None], cosine * y[:, None] - sine * x
        # The foot of the perpendicular on the axis, in one step from the point that lies straight beside.
        beside, slope = self._axis(straight)
        along = straight + (lateral - beside) * slope / (1 + slope**2)
        beside, slope = self._axis(along)
        across = (lateral - beside) * np.hypot(1.0, slope)
        return along.astype(np.float32), across.astype(np.float32)

    def glow(
        self, shape: Sequence[int], voxel_um: np.ndarray, rng: np.random.Generator, softness_um: float = 2.5
    ) -> np.ndarray:
        """Return the body's own light in a plane (y, x), float32: about 1 in the middle, patchy, with soft edges."""
        along, across = self.coordinates(shape, voxel_um)
        radius = np.maximum(self.radius_at(along), np.float32(1e-3))
        profile = 0.5 - 0.5 * erf((np.abs(across) - radius) / (np.sqrt(2) * softness_um))
        profile *= 0.6 + 0.4 * np.sqrt(np.clip(1 - np.square(across / radius), 0, 1))  # thicker in the middle
        profile *= 0.5 + 0.5 * erf((along - self.tip_um) / (np.sqrt(2) * softness_um))
        reach = float(np.hypot(*(np.asarray(shape) * voxel_um[1:])))  # of no centre, so that patches move with the body
        places = rng.uniform(-reach, reach, PATCHES), self.radius_um * rng.uniform(-1, 1, PATCHES)
        centres = self.place(*places, np.zeros(PATCHES))
        sigmas = np.repeat(np.exp(rng.uniform(np.log(1.5), np.log(9.0), (PATCHES, 1))), 3, axis=1)
        strengths = rng.uniform(-0.35, 0.5, PATCHES)
        # The patches lie in the plane whatever its depth.
        centres[:, 0] = 0
        patches = broad_gaussians((1, *shape), centres, sigmas, strengths, voxel_um)[0]
        patches += self._texture(along, across, reach, rng)
        tilt = 1 + rng.uniform(-0.25, 0.25) * np.clip(across / radius, -1, 1)  # one edge is the brighter one
        return np.asarray(profile * tilt * np.clip(0.8 + patches, 0.25, 1.8), dtype=np.float32)

    def _texture(self, along: np.ndarray, across: np.ndarray, reach_um: float, rng: np.random.Generator) -> np.ndarray:
        """Return fine texture at the given places, of SD 0.1: streaks along the body, and finer grain."""
        length, width = 1 + int(2 * reach_um / TEXTURE_STEP_UM), 1 + int(3 * self.radius_um / TEXTURE_STEP_UM)
        grain = rng.normal(size=(2, max(length, 2), max(width, 2)))
        fine = sum(
            strength * gaussian_filter(some, sigma, mode="wrap") * np.sqrt(4 * np.pi * np.prod(sigma))
            for some, strength, sigma in zip(grain, (0.07, 0.07), ((3.5, 1.2), (1.3, 1.3)), strict=True)
        )
        place = [(along + reach_um) / TEXTURE_STEP_UM, (across + 1.5 * self.radius_um) / TEXTURE_STEP_UM]
        return np.asarray(map_coordinates(fine, place, order=1, mode="grid-wrap", output=np.float32))


def random_tube(
    field_um: np.ndarray,
    rng: np.random.Generator,
    *,
    radius_um: tuple[float, float],
    largest_angle: float,
    tip_probability: float = 0.0,
) -> Tube:
    """Return a body that crosses a field (3,) in µm, its near half in the middle of the planes.

    Where the field is smaller than a body, the body is made narrower, or flattened along z.
    """
    depth, height, width = (float(extent) for extent in field_um)
    radius = max(min(rng.uniform(*radius_um), 0.35 * max(height, width)), SMALLEST_RADIUS_UM)
    depth_um = min(radius, 0.8 * depth)
    bend_length = rng.uniform(180.0, 450.0)
    tip = -rng.uniform(0.3, 0.6) * width if rng.random() < tip_probability else -np.inf
    return Tube(
        centre=((depth + depth_um) / 2, height * rng.uniform(0.3, 0.7), width * rng.uniform(0.4, 0.6)),
        angle=rng.uniform(-largest_angle, largest_angle) + np.pi * rng.integers(2),
        radius_um=radius,
        depth_um=depth_um,
        bend_um=bend_length * rng.uniform(0.0, 0.02),
        bend_length_um=bend_length,
        bend_phase=rng.uniform(0, 2 * np.pi),
        tip_um=tip,
    )
