"""Where nuclei and neurites lie in a worm's head.

Positions are (z, y, x) in µm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

HEAD_LENGTH_UM = 110.0
HEAD_HALF_HEIGHT_UM = 22.0
HEAD_HALF_DEPTH_UM = 13.0
PHARYNX_RADIUS = 0.4  # of the head's; no nuclei of neurons inside
GANGLIA = (0.30, 0.55, 0.85)  # centres of the ganglia, as fractions of the head's length from the nose
NERVE_RING = (0.405, 0.455)  # holds neurites and no nuclei


@dataclass(frozen=True)
class Head:
    """The tapered tube that holds the nuclei: lengths in µm, ``angle`` in the (y, x) plane in rad."""

    centre: tuple[float, float, float]
    length: float
    half_height: float
    half_depth: float
    angle: float

    def place(self, along: np.ndarray, up: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return positions (n, 3) in µm of points given along (0 nose, 1 end), up and in depth (-1 to 1)."""
        taper = 0.5 + 0.5 * np.clip(along, 0, 1)
        local = [depth * self.half_depth * taper, up * self.half_height * taper, (along - 0.5) * self.length]
        return self.from_local(np.stack(local, axis=-1))

    def from_local(self, local: np.ndarray) -> np.ndarray:
        """Return positions (..., 3) in µm of points given in µm from the centre: in depth, up and along the head."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        depth, up, along = np.moveaxis(local, -1, 0)
        turned = np.stack([depth, sine * along + cosine * up, cosine * along - sine * up], axis=-1)
        return np.asarray(turned + self.centre)

    def to_local(self, positions: np.ndarray) -> np.ndarray:
        """Return the inverse of :meth:`from_local`."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        depth, y, x = np.moveaxis(positions - np.asarray(self.centre), -1, 0)
        return np.stack([depth, cosine * y - sine * x, cosine * x + sine * y], axis=-1)


def head_within(field_um: np.ndarray, rng: np.random.Generator, largest_angle: float) -> Head:
    """Return a head centred in a field (3,) in µm, made smaller where the field is smaller than a head."""
    depth, height, width = (float(extent) for extent in field_um)
    length = min(HEAD_LENGTH_UM, 0.95 * width)
    largest_angle = min(largest_angle, float(np.arctan2(height, length)))  # a long narrow field holds no tilted head
    return Head(
        centre=(depth / 2, height / 2, width / 2),
        length=length,
        half_height=min(HEAD_HALF_HEIGHT_UM, 0.42 * height),
        half_depth=min(HEAD_HALF_DEPTH_UM, 0.48 * depth),
        angle=float(rng.uniform(-largest_angle, largest_angle)),
    )


def points_in_head(head: Head, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` random points (count, 3) in µm, dense in the ganglia and absent from the nerve ring."""
    along = np.where(
        rng.random(count) < 0.6, rng.normal(rng.choice(GANGLIA, count), 0.09), rng.uniform(0.03, 1.0, count)
    )
    radius = np.sqrt(rng.uniform(PHARYNX_RADIUS**2, 1.0, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    keep = (along > 0.02) & (along < 1.0) & ~((along > NERVE_RING[0]) & (along < NERVE_RING[1]))
    return head.place(along, radius * np.cos(angle), radius * np.sin(angle))[keep]


def _has_room(points: np.ndarray, candidate: np.ndarray, distance_um: float) -> bool:
    gaps = points - candidate
    return bool(np.all(np.einsum("nd,nd->n", gaps, gaps) >= distance_um**2))


def hard_core_points(
    propose: Callable[[int], np.ndarray], count: int, distance_um: float, rounds: int = 60
) -> np.ndarray:
    """Return at most ``count`` points (n, 3) in µm, no two nearer than ``distance_um``.

    Random sequential addition: proposals are taken in turn and kept if they keep the distance. Fewer than
    ``count`` points come back when ``rounds`` times 4 ``count`` proposals did not suffice.
    """
    points = np.empty((count, 3))
    placed = 0
    for _ in range(rounds):
        for candidate in propose(4 * count):
            if _has_room(points[:placed], candidate, distance_um):
                points[placed] = candidate
                placed += 1
                if placed == count:
                    return points
    return points[:placed]


def other_side(head: Head, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return points (n, 3) in µm mirrored at the plane that parts left from right, give or take 0.7 µm."""
    local = head.to_local(points)
    local[:, 0] *= -1
    return np.asarray(head.from_local(local + rng.normal(0.0, 0.7, local.shape)))


def partners_by_name(names: Sequence[str]) -> np.ndarray:
    """Return for each neuron the index of the one whose name differs in the last letter, L for R, or -1."""
    index = {name: number for number, name in enumerate(names)}
    other = {"L": "R", "R": "L"}
    return np.array([index.get(name[:-1] + other[name[-1]], -1) if name[-1:] in other else -1 for name in names])


def paired_points(
    propose: Callable[[int], np.ndarray],
    mirror: Callable[[np.ndarray], np.ndarray],
    count: int,
    distance_um: float,
    pair_share: float,
    rng: np.random.Generator,
    rounds: int = 60,
) -> tuple[np.ndarray, np.ndarray]:
    """Return points as :func:`hard_core_points` does, and the index of each one's mirror image, or -1.

    About ``pair_share`` of the points come with their mirror image; where that has no room, or is NaN, the point stays
    single.
    """
    points, partners = np.empty((count, 3)), np.full(count, -1)
    placed = 0

    for _ in range(rounds):
        candidates = propose(4 * count)
        paired = rng.random(len(candidates)) < pair_share / (2 - pair_share)
        for candidate, image, pair in zip(candidates, mirror(candidates), paired, strict=True):
            if not _has_room(points[:placed], candidate, distance_um):
                continue
            points[placed] = candidate
            placed += 1
            if pair and placed < count and np.isfinite(image).all() and _has_room(points[:placed], image, distance_um):
                points[placed] = image
                partners[placed - 1], partners[placed] = placed, placed - 1
                placed += 1
            if placed == count:
                return points, partners
    return points[:placed], partners[:placed]


def random_curve(head: Head, step_um: float, rng: np.random.Generator) -> np.ndarray:
    """Return the points (n, 3) in µm of a smooth random curve along a head and beyond, about ``step_um`` apart."""
    start, span = rng.uniform(-0.4, 0.3), rng.uniform(0.7, 1.4)
    count = max(2, round(span * head.length / step_um))
    along = np.linspace(start, start + span, count)
    smooth = 8.0 / step_um  # a bend every 8 µm or so
    wander = [gaussian_filter1d(rng.normal(size=count), smooth, mode="nearest") for _ in range(2)]
    up, depth = (0.5 * w * np.sqrt(2 * np.sqrt(np.pi) * smooth) for w in wander)
    return head.place(along, rng.uniform(-0.8, 0.8) + 0.3 * up, rng.uniform(-0.6, 0.6) + 0.3 * depth)
