"""The body of a crawling worm in an image plane: its outline, its glow and its shadow.

Points are (y, x) in µm, pixel i of an axis has its centre at i times the pixel size, planes are (y, x). ``along`` runs
from 0 (head) to 1 (tail), ``across`` from -1 to 1 over the body, positive on its right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

RADIUS_UM = 32.0  # at mid-body of a worm of 1 mm; other worms keep these proportions
DIFFUSE_SIGMA_UM = 4.5  # blur of what lies out of focus
DIFFUSE_GRID_UM = 4.0


def radius_um(along: np.ndarray, length_um: float) -> np.ndarray:
    """Return the radius of the body in µm: a blunt head, a pointed tail."""
    nose = np.sqrt(1 - (1 - np.minimum(along / 0.03, 1)) ** 2)
    head = 0.35 + 0.65 * (1 - (1 - np.minimum(along / 0.35, 1)) ** 2.5)
    tail = 0.04 + 0.96 * (1 - (1 - np.minimum((1 - along) / 0.5, 1)) ** 1.8)
    return np.asarray(RADIUS_UM * length_um / 1000 * nose * head * tail)


def to_right(angles: np.ndarray) -> np.ndarray:
    """Return the unit vectors (..., 2) that point to the right of directions ``angles`` (...), seen on the display."""
    return np.stack([np.cos(angles), -np.sin(angles)], axis=-1)


def interpolation(along: np.ndarray, known: int) -> np.ndarray:
    """Return weights (n, known) that interpolate linearly from ``known`` equal steps of 0 to 1 to ``along`` (n,)."""
    place = np.clip(along, 0, 1) * (known - 1)
    first = np.minimum(place.astype(int), known - 2)
    weights = np.zeros((len(along), known))
    rows = np.arange(len(along))
    weights[rows, first] = 1 - (place - first)
    weights[rows, first + 1] = place - first
    return weights


def on_body(
    points: np.ndarray, angles: np.ndarray, along: np.ndarray, across: np.ndarray, length_um: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return points (t, n, 2) and angles (t, n) of places on the body.

    Of the centreline, ``points`` are (t, s, 2), ``angles`` (t, s).
    """
    weights = interpolation(along, points.shape[1])
    place, angle = np.einsum("ns,tsc->tnc", weights, points), angles @ weights.T
    return place + (across * radius_um(along, length_um))[:, None] * to_right(angle), angle


def body_mask(
    shape: Sequence[int], points: np.ndarray, angles: np.ndarray, length_um: float, pixel_um: np.ndarray
) -> np.ndarray:
    """Return which pixel centres (y, x) lie in the body, by the winding number of its outline about them.

    ``points`` (s, 2) and ``angles`` (s,) of the centreline. A body that crosses itself is the union of its parts.
    """
    offset = radius_um(np.linspace(0, 1, len(points)), length_um)[:, None] * to_right(angles)
    outline = np.concatenate([points + offset, (points - offset)[::-1]]) / pixel_um
    start, end = outline, np.roll(outline, -1, axis=0)
    height, width = shape
    # Every edge crosses the rows between the two ends; each crossing changes the winding number of all to its right.
    low, high = np.ceil(np.minimum(start[:, 0], end[:, 0])), np.ceil(np.maximum(start[:, 0], end[:, 0]))
    low, high = (np.clip(bound, 0, height).astype(int) for bound in (low, high))
    edge = np.repeat(np.arange(len(start)), high - low)
    row = np.arange(edge.size) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[edge]
    rise = end[edge] - start[edge]
    column = start[edge, 1] + (row - start[edge, 0]) * rise[:, 1] / rise[:, 0]
    column = np.clip(np.ceil(column), 0, width).astype(int)
    crossings = np.bincount(row * (width + 1) + column, np.sign(rise[:, 0]), minlength=height * (width + 1))
    winding = np.cumsum(crossings.reshape(height, width + 1), axis=1)[:, :width]
    return np.asarray(np.rint(winding) != 0)


@dataclass(frozen=True)
class Diffuse:
    """Adds up many blurred sources: they are gathered on a coarse grid, which two matrix products blur and refine."""

    origin_um: np.ndarray  # (2,) of the coarse grid
    step_um: np.ndarray  # (2,)
    blur_y: np.ndarray  # (y, coarse y) in 1/µm, float32
    blur_x: np.ndarray

    def render(self, points_um: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Return the plane (y, x), float32, of sources at ``points_um`` (n, 2).

        ``amounts`` (n,) are integrals over the plane, in the unit of the plane times µm².
        """
        shape = self.blur_y.shape[1], self.blur_x.shape[1]
        place = (points_um - self.origin_um) / self.step_um
        inside = np.all((place >= 0) & (place < np.subtract(shape, 1)), axis=1)
        place, amounts = place[inside], amounts[inside]
        first = place.astype(int)
        y, x = (place - first).T
        corner = first[:, 0] * shape[1] + first[:, 1]
        shares = ((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x)
        corners = np.concatenate([corner, corner + 1, corner + shape[1], corner + shape[1] + 1])
        spread = np.concatenate([amounts * share for share in shares])
        coarse = np.bincount(corners, spread, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
        return np.asarray(self.blur_y @ coarse @ self.blur_x.T)


def diffuse(shape: Sequence[int], pixel_um: np.ndarray, sigma_um: float, step_um: float) -> Diffuse:
    """Return what renders planes of ``shape`` (y, x) blurred by ``sigma_um``, gathered in steps of ``step_um``."""
    steps = np.full(2, min(step_um, 2 * sigma_um))
    margin = 4 * sigma_um + steps
    # Gathering spreads a source over its neighbours on the grid, which has a variance of step²/6 on average.
    sigma = np.sqrt(sigma_um**2 - steps**2 / 6)
    blurs = []
    for axis, (size, pixel) in enumerate(zip(shape, pixel_um, strict=True)):
        count = int(np.ceil(((size - 1) * pixel + 2 * margin[axis]) / steps[axis])) + 1
        gap = np.arange(size)[:, None] * pixel - (np.arange(count) * steps[axis] - margin[axis])
        kernel = np.exp(-0.5 * (gap / sigma[axis]) ** 2) / (np.sqrt(2 * np.pi) * sigma[axis])
        blurs.append(kernel.astype(np.float32))
    return Diffuse(-margin, steps, *blurs)


@dataclass(frozen=True)
class Texture:
    """A worm laid straight: values (n, m) at places along and across it, in light per area."""

    along: np.ndarray  # (n,)
    across: np.ndarray  # (m,)
    values: np.ndarray
    length_um: float

    def on_plane(self, points: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points (n m, 2) in µm and amounts (n m,), value times area, on a centreline (s, 2) of angles (s,)."""
        weights = interpolation(self.along, len(points))
        radius = radius_um(self.along, self.length_um)[:, None]
        offset = radius * self.across
        angle = weights @ angles
        places = (weights @ points)[:, None] + offset[:, :, None] * to_right(angle)[:, None]
        step_um = self.along[1] * self.length_um - self.along[0] * self.length_um
        # A bend to the right crowds what lies on the right.
        stretch = np.maximum(step_um - offset * np.gradient(angle)[:, None], 0)
        amounts = self.values * stretch * radius * (self.across[1] - self.across[0])
        return places.reshape(-1, 2), amounts.ravel()


def _grid(length_um: float, step_um: float) -> tuple[np.ndarray, np.ndarray]:
    along = max(4, int(np.ceil(length_um / step_um)))
    across = max(4, int(np.ceil(2 * RADIUS_UM * length_um / 1000 / step_um)))
    return (np.arange(along) + 0.5) / along, (2 * np.arange(across) + 1) / across - 1


def mottle(shape: Sequence[int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of ``shape`` and SD 1 that is smooth over ``sigma`` steps."""
    noise = gaussian_filter(rng.normal(size=shape), sigma, mode="nearest")
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def glow(length_um: float, rng: np.random.Generator) -> Texture:
    """Return the autofluorescence of a body, near 1 at its middle: a thick tube, gut brighter than head, granules."""
    step_um = DIFFUSE_GRID_UM / 2
    along, across = _grid(length_um, step_um)
    tube = (1 - across**2) ** 0.5
    gut = 1 / (1 + np.exp(-(along - 0.2) / 0.02)) / (1 + np.exp((along - 0.9) / 0.02))
    middle = np.exp(-0.5 * (across / 0.45) ** 2)
    shape = along.size, across.size
    patches = np.exp(0.15 * mottle(shape, 12.0 / step_um, rng))
    granules = 0.5 * np.maximum(mottle(shape, 3.0 / step_um, rng) - 1.2, 0)
    values = tube * (0.65 + gut[:, None] * (0.2 + 0.2 * middle)) * patches * (1 + gut[:, None] * middle * granules)
    return Texture(along, across, values, length_um)


def shadow(length_um: float, pixel_um: float, rng: np.random.Generator) -> Texture:
    """Return the optical depth of a body in transmitted light: dark walls and gut, a clear line along the middle."""
    step_um = pixel_um / 2
    along, across = _grid(length_um, step_um)
    wall = np.exp(-0.5 * ((np.abs(across) - 0.8) / 0.18) ** 2)
    lumen = np.exp(-0.5 * (across / 0.18) ** 2)
    gut = 1 / (1 + np.exp(-(along - 0.2) / 0.02)) / (1 + np.exp((along - 0.9) / 0.03))
    mottled = mottle((along.size, across.size), 4.0 / step_um, rng)
    depth = 0.4 + 0.35 * wall + gut[:, None] * (0.25 * (1 - lumen) + 0.07 * mottled) - 0.08 * lumen
    return Texture(along, across, np.maximum(depth, 0.02), length_um)
