"""Neurites grow on the wall of a worm's body: the menorahs of PVD, nerve cords and ring, touch neurons.

They are grown on the unrolled wall, in µm along the body and as angles around it (0 faces the viewer, beyond ±pi/2 is
the far side), and placed on the body afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from niddl_xr.simulation._kernels.neurites import SOMA_ORDER, Arbor, sample
from niddl_xr.simulation._kernels.tubes import Tube, random_tube

WIDTHS_UM = (0.0, 0.8, 0.5, 0.6, 0.32)  # by order
NERVE_RING_PROBABILITY = {"pvd": 0.35, "touch": 0.15}
NERVE_RING_FROM_TIP_UM = 60.0  # by eye, from how bodies taper towards it
SMALLEST_WITH_RING_UM = 12.0  # in a field with less room a nerve ring would fill it
MENORAH_SPACING_UM = 40.0
SOMA_LENGTH_UM, SOMA_WIDTH_UM = 7.0, 4.0
TERTIARY_ANGLE = 0.55  # rad from the primary: the border of the body-wall muscle
_STEP_UM = 0.5


@dataclass
class Wall:
    """Branches that grow on the wall: curves (along in µm, angle in rad), orders, parents (number from 1, 0 none)."""

    curves: list[np.ndarray] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    widths_um: list[float] = field(default_factory=list)

    def add(self, curve: np.ndarray, order: int, parent: int, width_um: float) -> int:
        """Add a branch and return its number."""
        self.curves.append(curve)
        self.orders.append(order)
        self.parents.append(parent)
        self.widths_um.append(width_um)
        return len(self.curves)


def _wander(count: int, smooth_um: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise (count,) of SD 1 that bends every ``smooth_um`` or so."""
    steps = smooth_um / _STEP_UM
    noise = gaussian_filter1d(rng.normal(size=count + round(8 * steps)), steps, mode="nearest")
    middle = noise[round(4 * steps) : round(4 * steps) + count]
    return np.asarray(middle * np.sqrt(2 * np.sqrt(np.pi) * steps))


def _steps(start: float, stop: float) -> np.ndarray:
    """Return places from start to stop, both included, about half a micrometre apart."""
    return np.linspace(start, stop, max(2, 1 + round(abs(stop - start) / _STEP_UM)))


def _width(order: int, rng: np.random.Generator) -> float:
    return WIDTHS_UM[order] * float(np.exp(rng.normal(0, 0.22)))


def _rung(
    start: tuple[float, float], stop: tuple[float, float], radius_um: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a slightly crooked curve between two points (along, angle) of the wall, both kept."""
    count = max(3, 1 + round(np.hypot(stop[0] - start[0], radius_um * (stop[1] - start[1])) / _STEP_UM))
    part = np.linspace(0, 1, count)
    sway, swing = 0.8 * np.sin(np.pi * part) * [_wander(count, 3.0, rng) for _ in range(2)]
    return np.stack(
        [start[0] + part * (stop[0] - start[0]) + sway, start[1] + part * (stop[1] - start[1]) + swing / radius_um],
        axis=1,
    )


def grow_pvd(span_um: tuple[float, float], radius_um: float, rng: np.random.Generator) -> Wall:
    """Grow the tree of a PVD neuron over ``span_um`` (start, stop) of a body, and other neurites along the body."""
    wall = Wall()
    roll = rng.uniform(-0.6, 0.6)
    along = _steps(*span_um)
    angle = roll + (2.0 * _wander(len(along), 25.0, rng) + 0.6 * _wander(len(along), 4.0, rng)) / radius_um
    stems = [_menorah_places(span_um, rng) for _ in range(2)]
    for place in np.concatenate(stems):  # the primary dendrite is drawn towards its branches
        angle += rng.normal(0, 1.6) / radius_um * np.exp(-np.abs(along - place) / 6.0)
    primary = wall.add(np.stack([along, angle], axis=1), 1, 0, _width(1, rng))
    for side, places in zip((-1, 1), stems, strict=True):
        border = side * TERTIARY_ANGLE * rng.uniform(0.8, 1.25) + 1.5 / radius_um * _wander(len(along), 25.0, rng)
        ends = np.concatenate([[places[0] - MENORAH_SPACING_UM], places, [places[-1] + MENORAH_SPACING_UM]])
        for place, gaps in zip(places, zip(np.diff(ends[:-1]), np.diff(ends[1:]), strict=True), strict=True):
            start = (place, float(np.interp(place, along, angle)))
            _grow_menorah(wall, primary, start, side, np.stack([along, roll + border], axis=1), gaps, radius_um, rng)
    if rng.random() < 0.35:
        at = rng.uniform(*span_um)
        _add_soma(wall, primary, (at, float(np.interp(at, along, angle))), 0.1 * rng.choice([-1, 1]), radius_um, rng)
    for side in (-1, 1):
        if side == 1 or rng.random() < 0.85:  # the ventral cord, and at times the dorsal one
            _add_bundle(wall, along, roll + side * rng.uniform(1.0, 1.35), side == 1, radius_um, rng)
    for _ in range(rng.integers(1, 5)):  # processes of other neurons, some of them not in all of the span
        ends_um = np.sort(rng.uniform(span_um[0], span_um[1], 2)) if rng.random() < 0.4 else span_um
        part = _steps(*ends_um)
        place = rng.uniform(-1.4, 1.4) + rng.normal(0, 0.1) * np.linspace(-1, 1, len(part))
        beside = place + (1.2 * _wander(len(part), 20.0, rng) + 0.5 * _wander(len(part), 4.0, rng)) / radius_um
        wall.add(np.stack([part, beside], axis=1), 1, 0, WIDTHS_UM[1] * rng.uniform(0.5, 0.9))
    return wall


def _add_bundle(
    wall: Wall, along: np.ndarray, angle: float, thick: bool, radius_um: float, rng: np.random.Generator
) -> None:
    """Add one to three processes that run side by side, as in a nerve cord."""
    common = angle + (1.2 * _wander(len(along), 25.0, rng) + 0.5 * _wander(len(along), 5.0, rng)) / radius_um
    for _ in range(rng.integers(1, 4) if thick else rng.integers(1, 3)):
        own = rng.normal(0, 0.4) + 0.4 * _wander(len(along), 8.0, rng)
        width_um = WIDTHS_UM[1] * (rng.uniform(0.55, 0.95) if thick else rng.uniform(0.45, 0.75))
        wall.add(np.stack([along, common + own / radius_um], axis=1), 1, 0, width_um)


def _menorah_places(span_um: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    count = 1 + int((span_um[1] - span_um[0]) / (0.5 * MENORAH_SPACING_UM))
    gaps = np.clip(rng.normal(MENORAH_SPACING_UM, 10.0, count), 18.0, None)
    places = span_um[0] + min(rng.uniform(0, MENORAH_SPACING_UM), 0.9 * (span_um[1] - span_um[0]))
    places += np.cumsum(gaps) - gaps[0]
    return np.asarray(places[places < span_um[1]])


def _grow_menorah(
    wall: Wall,
    primary: int,
    start: tuple[float, float],
    side: int,
    border: np.ndarray,
    gaps_um: tuple[float, float],
    radius_um: float,
    rng: np.random.Generator,
) -> None:
    """Grow a secondary branch, its two tertiary arms along ``border`` (n, 2), and the quaternaries upon them.

    The arms of neighbours, ``gaps_um`` away on both sides, meet or almost do: together they look like one line.
    """
    foot_um = start[0] + rng.normal(0, 8.0)
    fork_um = rng.uniform(1.0, 3.5)  # before the border, so that the arms leave at an acute angle
    top = (foot_um, float(np.interp(foot_um, *border.T)) - side * fork_um / radius_um)
    stem = wall.add(_rung(start, top, radius_um, rng), 2, primary, _width(2, rng) * rng.uniform(0.7, 1.1))
    for direction, gap in zip((-1, 1), gaps_um, strict=True):
        if rng.random() < 0.05:
            continue
        along = _steps(top[0], top[0] + direction * gap * rng.uniform(0.42, 0.6))
        settle = -np.expm1(-np.abs(along - top[0]) / 4.0)  # starts where the stem ends
        line = np.interp(along, *border.T)
        angle = top[1] + settle * (line - top[1] + 0.9 / radius_um * _wander(len(along), 4.0, rng))
        arm = wall.add(np.stack([along, angle], axis=1), 3, stem, _width(3, rng))
        place = top[0] + direction * rng.uniform(0.0, 5.0)
        while direction * (along[-1] - place) > 0:
            foot = (place, float(np.interp(place, along[::direction], angle[::direction])))
            length = side * min(rng.gamma(2.0, 5.0), 24.0) / radius_um  # most are spines, some reach the edge
            tip = (place + rng.normal(0, 6.0), foot[1] + length)
            wall.add(_rung(foot, tip, radius_um, rng), 4, arm, _width(4, rng))
            place += direction * rng.uniform(4.0, 9.5)


def grow_touch(span_um: tuple[float, float], radius_um: float, rng: np.random.Generator) -> Wall:
    """Grow touch neurons: two to four long processes along a body, cell bodies beside some of them."""
    wall = Wall()
    roll = rng.uniform(-0.25, 0.25)
    places = [-rng.uniform(0.7, 1.2), rng.uniform(0.8, 1.3)]
    if rng.random() < 0.4:
        places.append(places[1] - rng.uniform(0.2, 0.35))  # a second process beside the first
    if rng.random() < 0.25:
        places.append(rng.uniform(-0.3, 0.3))
    length = span_um[1] - span_um[0]
    for number, place in enumerate(places):
        ends = list(span_um)
        if number > 1 and rng.random() < 0.6:
            ends[rng.integers(2)] = span_um[0] + length * rng.uniform(0.3, 0.7)
        along = _steps(*ends)
        angle = roll + place + (1.0 * _wander(len(along), 18.0, rng) + 0.3 * _wander(len(along), 4.0, rng)) / radius_um
        line = wall.add(np.stack([along, angle], axis=1), 1, 0, _width(1, rng))
        if rng.random() < 0.45:
            at = ends[0] + (ends[1] - ends[0]) * rng.uniform(0.2, 0.8)
            foot = (at, float(np.interp(at, along, angle)))
            _add_soma(wall, line, foot, -np.sign(place) * rng.choice([0.05, 0.3]), radius_um, rng)
    return wall


KINDS: dict[str, Callable[[tuple[float, float], float, np.random.Generator], Wall]] = {
    "pvd": grow_pvd,
    "touch": grow_touch,
}


def add_nerve_ring(wall: Wall, at_um: float, radius_um: float, rng: np.random.Generator) -> None:
    """Add the tangle at the nerve ring: strands around the body, short crooked processes and cell bodies."""
    strands = []
    angle = np.linspace(-rng.uniform(0.9, 1.5), rng.uniform(0.9, 1.5), 120)
    ring = at_um + rng.normal(6, 6) * np.cos(angle) + 1.5 * _wander(120, 12.0, rng)
    for _ in range(rng.integers(2, 5)):
        along = ring + rng.normal(0, 1.5) + rng.normal(0, 1.5) * angle + 0.8 * _wander(120, 6.0, rng)
        strands.append((wall.add(np.stack([along, angle], axis=1), 1, 0, _width(1, rng)), along, angle))
    for _ in range(rng.integers(5, 12)):  # most in one place: a ganglion
        part = _steps(0.0, rng.uniform(8.0, 30.0))
        along = at_um + rng.normal(0, 5.0) + part + 0.6 * _wander(len(part), 5.0, rng)
        turn = rng.normal(0, 0.25) * part + 1.0 * _wander(len(part), 6.0, rng)
        angle = rng.choice([-1, 1]) * rng.uniform(0.4, 1.3) + turn / radius_um
        wall.add(np.stack([along, angle], axis=1), 1, 0, WIDTHS_UM[1] * rng.uniform(0.5, 1.1))
    for _ in range(rng.integers(1, 5)):
        line, along, angle = strands[rng.integers(len(strands))]
        foot = rng.integers(len(along))
        beside = rng.choice([-1, 1]) * rng.choice([0.05, 0.3])
        _add_soma(wall, line, (float(along[foot]), float(angle[foot])), beside, radius_um, rng)


def random_worm(
    kind: str, field_um: np.ndarray, rng: np.random.Generator, *, radius_um: tuple[float, float], largest_angle: float
) -> tuple[Tube, Wall]:
    """Return a body that crosses a field (3,) in µm, and the neurites on its wall.

    In a part of the worms the nerve ring lies near one end of the field, and the body tapers towards it.
    """
    body = random_tube(field_um, rng, radius_um=radius_um, largest_angle=largest_angle)
    reach = max(0.75 * float(np.hypot(*field_um[1:])), 1.0)
    span = (-reach, reach)
    ring = rng.random() < NERVE_RING_PROBABILITY[kind] and body.radius_um > SMALLEST_WITH_RING_UM
    if ring:
        half = 0.5 * min(field_um[1:] / np.maximum(np.abs([np.sin(body.angle), np.cos(body.angle)]), 1e-3))
        at_um = -float(half) + rng.uniform(-8.0, 14.0)
        body = replace(body, tip_um=at_um - NERVE_RING_FROM_TIP_UM)
        span = (max(-reach, at_um - 0.8 * NERVE_RING_FROM_TIP_UM), reach)
    wall = KINDS[kind](span, body.radius_um, rng)
    if ring:
        add_nerve_ring(wall, at_um, body.radius_um, rng)
    return body, wall


def _add_soma(
    wall: Wall, line: int, foot: tuple[float, float], beside: float, radius_um: float, rng: np.random.Generator
) -> None:
    """Add a cell body at an angle ``beside`` its process, and the short branch that joins them."""
    centre = (foot[0] + rng.normal(0, 3.0), foot[1] + beside * rng.uniform(0.7, 1.3))
    parent = line
    if abs(beside) > 0.1:
        parent = wall.add(_rung(foot, centre, radius_um, rng), 2, line, _width(2, rng))
    half = 0.5 * (SOMA_LENGTH_UM - SOMA_WIDTH_UM)
    along = _steps(centre[0] - half, centre[0] + half)
    wall.add(np.stack([along, np.full(len(along), centre[1])], axis=1), SOMA_ORDER, parent, SOMA_WIDTH_UM)


def on_body(wall: Wall, body: Tube, step_um: float, flat: bool, rng: np.random.Generator) -> Arbor:
    """Return the branches of ``wall`` on ``body``; ``flat`` puts them all into the plane z = 0."""
    curves = []
    for curve in wall.curves:
        points = body.on_wall(curve[:, 0], curve[:, 1])
        if flat:
            points[:, 0] = 0
        curves.append(points)
    return sample(curves, wall.orders, wall.parents, wall.widths_um, step_um, rng)
