"""What a two-photon microscope scans: the tissue at rest on a field, and the lines that the beam sees of it.

Positions are (z, y, x) in µm, z is depth; arrays are (z, y, x), light is in photons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d

from niddl_xr.simulation._kernels import geometry, tissue

STEPS_PER_PLANE = 8  # of the motion: lines between two steps lie on a straight path
SPLINE_REACH = 2  # voxels that a cubic spline looks beyond its position
BRIGHTNESS_SIGMA = 0.5  # of a lognormal over neurons
NEUROPIL_SPACING_UM = 100.0
CLEAR = 0.9  # of the light passes where somata lie: none is under a vessel
_SPLINE = (1 / 6, 4 / 6, 1 / 6)  # a cubic B-spline at its own samples


@dataclass(frozen=True)
class Field:
    """What is scanned, with a margin along y and x that the motion brings into view."""

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    margin: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int, int]:
        """Sizes (z, y, x) with the margin."""
        return (self.shape[0], self.shape[1] + 2 * self.margin[0], self.shape[2] + 2 * self.margin[1])

    @property
    def scanned(self) -> tuple[slice, slice]:
        """Rows and columns of the padded field that are seen where nothing moves."""
        return (
            slice(self.margin[0], self.margin[0] + self.shape[1]),
            slice(self.margin[1], self.margin[1] + self.shape[2]),
        )

    def axes(self) -> list[np.ndarray]:
        """Return the voxel centres of the padded field along z, y, x in µm."""
        firsts = (0, -self.margin[0], -self.margin[1])
        return [
            (first + np.arange(size)) * step
            for first, size, step in zip(firsts, self.padded, self.voxel_um, strict=True)
        ]

    def bumps(self, y_um: np.ndarray, x_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights (node, y) and (node, x) with which the nodes of the neuropil's level reach positions."""
        extents = [self.shape[axis] * self.voxel_um[axis] for axis in (1, 2)]
        return (
            tissue.partition(y_um, extents[0], NEUROPIL_SPACING_UM),
            tissue.partition(x_um, extents[1], NEUROPIL_SPACING_UM),
        )

    def line_shifts(self, path_um: np.ndarray, offset_px: float) -> np.ndarray:
        """Return how far (z, y, 2) in pixels the tissue has moved when each line of a frame is read.

        ``path_um`` (step, 2) is the motion in the frame; every second line is displaced by ``offset_px`` along x.
        """
        planes, height = self.shape[:2]
        steps = np.arange(planes * height) / height * STEPS_PER_PLANE
        shifts = (at_steps(path_um, steps) / self.voxel_um[1:]).reshape(planes, height, 2)
        shifts[:, 1::2, 1] += offset_px
        return np.asarray(shifts)


@dataclass(frozen=True)
class Scene:
    """The tissue at rest, in photons, on the padded field."""

    field: Field
    neuropil: np.ndarray  # (z, y, x)
    corners: np.ndarray  # (neuron, 3) first plane, row and column of a footprint
    footprints: tuple[np.ndarray, ...]  # each (z, y, x), its own window of the field
    labels: np.ndarray  # (z, y, x)
    bumps: tuple[np.ndarray, np.ndarray]  # (node, y), (node, x)
    vignette: np.ndarray  # (y, x), without margin

    def photons(self, brightness: np.ndarray, level: np.ndarray, shifts_px: np.ndarray, bleach: float) -> np.ndarray:
        """Return the photons (z, y, x), float32, that are expected from one frame.

        ``brightness`` (neuron,) and ``level`` (node, node) of the neuropil are relative to rest, ``shifts_px``
        (z, y, 2) is the motion at each line, ``bleach`` the part of the fluorophores that still shines.
        """
        glow = self.bumps[0].T @ (bleach * level).astype(np.float32) @ self.bumps[1]
        light = self.neuropil * np.maximum(glow, 0, out=glow)
        for corner, shape, change in zip(self.corners, self.footprints, bleach * brightness, strict=True):
            light[_window(corner, shape)] += np.float32(change) * shape
        seen = np.empty(self.field.shape, np.float32)
        for plane, still, shift in zip(seen, light, shifts_px, strict=True):
            np.multiply(scan_lines(still, shift, plane.shape[1]), self.vignette, out=plane)
        return seen

    def labels_seen(self, shifts_px: np.ndarray) -> np.ndarray:
        """Return the labels (z, y, x), uint16, of one frame."""
        scanned = [
            scan_labels(still, shift, self.field.shape[2]) for still, shift in zip(self.labels, shifts_px, strict=True)
        ]
        return np.stack(scanned)


@dataclass(frozen=True)
class Anatomy:
    """How bright the neurons are, next to the scene that shows them."""

    scene: Scene
    resting_photons: np.ndarray  # (neuron,) mean over a neuron's body, from itself alone
    neuropil_photons: np.ndarray  # (neuron,) the same of the neuropil at rest


def at_steps(path: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the path (..., step, 2) at broken ``steps`` (n,), on straight lines between: (..., n, 2)."""
    first = np.minimum(steps.astype(int), path.shape[-2] - 2)
    part = (steps - first)[:, None]
    return np.asarray((1 - part) * path[..., first, :] + part * path[..., first + 1, :])


def _window(corner: np.ndarray, shape: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(corner.tolist(), shape.shape, strict=True))


def near_nodes(field: Field, centres_um: np.ndarray) -> np.ndarray:
    """Return the part (neuron, node, node) that each node has in the neuropil's level at a neuron; they sum to 1."""
    return np.asarray(np.einsum("in,jn->nij", *field.bumps(*centres_um[:, 1:].T)))


def soma_centres(
    field: Field,
    neurons: int,
    radii_um: tuple[float, float],
    shadow: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return centres (n, 3) in µm of the somata that found room: ``neurons`` of them at most.

    Each is at most the smallest radius from a plane, in clear tissue of the field; no two are nearer than the smallest
    and the largest radius together.
    """
    sizes, voxel = field.shape, field.voxel_um
    extent = (np.asarray(sizes) - 1) * voxel

    def propose(count: int) -> np.ndarray:
        points = rng.random((count, 3)) * extent
        points[:, 0] = rng.integers(0, sizes[0], count) * voxel[0] + rng.uniform(-1, 1, count) * radii_um[0]
        row, column = np.rint(points[:, 1:] / voxel[1:]).astype(int).T
        return np.asarray(points[shadow[row, column] > CLEAR])

    return geometry.hard_core_points(propose, neurons, sum(radii_um))


def anatomy(
    field: Field,
    somata: tissue.Somata,
    shadow: np.ndarray,
    light: tuple[float, float],
    vignetting: float,
    rng: np.random.Generator,
    texture_rng: np.random.Generator,
) -> Anatomy:
    """Return the tissue at rest under the ``shadow`` (y, x); ``light`` is the photons of median soma and neuropil."""
    neurons = len(somata.radii)
    brightness = rng.lognormal(0.0, BRIGHTNESS_SIGMA, neurons)
    # The margin depends on the motion: what is random is drawn without it, so that a seed gives the same tissue.
    sides = [(size, size) for size in field.margin]
    shadow = np.pad(shadow, sides, mode="edge")
    vignette = tissue.vignette(field.shape[1:], vignetting)
    seen = np.zeros(field.padded[1:], np.float32)  # of the light at each place, 0 outside the field
    seen[field.scanned] = vignette
    axes = field.axes()
    labels, fullest, filled = (np.zeros(field.padded, dtype) for dtype in (np.uint16, np.float32, np.float32))
    corners, bodies, footprints = [], [], []
    for neuron in range(neurons):
        window = _reached(somata, neuron, axes)
        inside, shape = tissue.footprint(somata, neuron, *(axis[part] for axis, part in zip(axes, window, strict=True)))
        body = inside >= 0.5 * inside.max()
        fuller = body & (inside > fullest[window])
        labels[window][fuller] = neuron + 1
        fullest[window][fuller] = inside[fuller]
        filled[window] += inside
        corners.append([part.start for part in window])
        bodies.append(body)
        footprints.append(brightness[neuron] * shadow[window[1:]] * shape)
    texture = tissue.neuropil_texture(field.shape, field.voxel_um, texture_rng)
    texture = np.pad(texture, [(0, 0), *sides], mode="wrap")  # it is periodic
    texture *= light[1] * shadow * (1 - tissue.HOLE * np.minimum(filled, 1))

    places = [_window(corner, shape) for corner, shape in zip(np.array(corners), footprints, strict=True)]
    own, behind = (
        np.array(
            [_mean_seen(part, seen[place[1:]], body) for part, place, body in zip(parts, places, bodies, strict=True)]
        )
        for parts in (footprints, [texture[place] for place in places])
    )
    scale = light[0] / np.median(own)
    bumps_y, bumps_x = field.bumps(axes[1], axes[2])
    scene = Scene(
        field=field,
        neuropil=texture,
        corners=np.array(corners),
        footprints=tuple((scale * shape).astype(np.float32) for shape in footprints),
        labels=labels,
        bumps=(bumps_y.astype(np.float32), bumps_x.astype(np.float32)),
        vignette=vignette,
    )
    return Anatomy(scene, scale * own, behind)


def _reached(somata: tissue.Somata, neuron: int, axes: list[np.ndarray]) -> tuple[slice, ...]:
    """Return the planes, rows and columns that a neuron shines on."""
    reach = somata.reach_um(neuron)
    ends = somata.centres[neuron][:, None] + reach * np.array([-1, 1])
    return tuple(slice(*np.searchsorted(axis, end).tolist()) for axis, end in zip(axes, ends, strict=True))


def _mean_seen(light: np.ndarray, seen: np.ndarray, body: np.ndarray) -> float:
    """Return the mean of ``light`` over the part of a ``body`` that lies in the field, as it looks at rest.

    A footprint has room around its body, so that what the spline lacks at its edges does not matter.
    """
    for axis in (1, 2):
        light = convolve1d(light, _SPLINE, axis=axis, mode="nearest")
    return float((light * seen)[body & (seen > 0)].mean())


def spline_weights(fraction: np.ndarray) -> np.ndarray:
    """Return the weights (..., 4) of the samples -1, 0, 1, 2 in a uniform cubic B-spline at 0 ≤ ``fraction`` < 1."""
    t = np.asarray(fraction)
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return np.asarray(np.stack(weights, axis=-1) / 6)


def scan_lines(plane: np.ndarray, shifts_px: np.ndarray, width: int) -> np.ndarray:
    """Return float32 lines (y, x) that a beam sees of a ``plane`` which moves while it is scanned.

    ``plane`` (y, x), float32, holds the coefficients of a cubic B-spline with a margin on all sides, ``shifts_px``
    (y, 2) how far it has moved along y and x when each line is read. The margin is what ``plane`` is larger than the
    (y, ``width``) lines, and must exceed all shifts by SPLINE_REACH.
    """
    height = len(shifts_px)
    margin = (np.array(plane.shape) - (height, width)) // 2
    at_y = np.arange(height) + margin[0] - shifts_px[:, 0]
    at_x = margin[1] - shifts_px[:, 1]
    first, left = np.floor(at_y).astype(int), np.floor(at_x).astype(int)
    along_y = spline_weights(at_y - first).astype(np.float32)
    along_x = spline_weights(at_x - left).astype(np.float32)
    lines = along_y[:, 0, None] * plane[first - 1]
    for tap in (1, 2, 3):
        lines += along_y[:, tap, None] * plane[first - 1 + tap]
    seen = np.empty((height, width), np.float32)
    for start in np.unique(left):  # few: lines of one frame lie within a pixel or two of each other
        here = left == start
        part, weights = lines[here], along_x[here]
        total = weights[:, 0, None] * part[:, start - 1 : start - 1 + width]
        for tap in (1, 2, 3):
            total += weights[:, tap, None] * part[:, start - 1 + tap : start - 1 + tap + width]
        seen[here] = total
    return seen


def scan_labels(plane: np.ndarray, shifts_px: np.ndarray, width: int) -> np.ndarray:
    """Return the labels (y, x) on the lines that :func:`scan_lines` sees, each that of the nearest voxel."""
    height = len(shifts_px)
    margin = (np.array(plane.shape) - (height, width)) // 2
    y = np.rint(np.arange(height) + margin[0] - shifts_px[:, 0]).astype(int)
    x = np.rint(margin[1] - shifts_px[:, 1]).astype(int)
    return np.asarray(plane[y[:, None], x[:, None] + np.arange(width)])
