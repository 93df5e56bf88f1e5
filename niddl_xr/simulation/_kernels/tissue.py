"""Brain tissue as a two-photon microscope sees it: somata, neuropil and blood vessels, and how they move and change.

Positions are (z, y, x) in µm, z is depth; arrays are (z, y, x). Constants are chosen by eye where no source is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.signal import lfilter
from scipy.special import erf, erfc

from niddl_xr.simulation._kernels.activity import ornstein_uhlenbeck

AXIAL_SIGMA_UM = 1.5  # a two-photon excitation spot of 3.5 µm FWHM along z
LATERAL_SIGMA_UM = 0.5  # before the spline between voxels, which adds a third of a voxel squared to the variance
BULGES = (0.1, 0.04, 0.015)  # SD over somata of the 2, 3 and 4 waves around an outline, relative to its radius
LARGEST_BULGE = 2 * sum(BULGES)  # each is cut off at 2 SD
WAVES, WAVE_LENGTH_UM, MOTTLE = 5, (2.5, 8.0), 0.25  # organelles: SD of the light within a soma, as a sum of waves
STUBS = 3  # dendrites that leave a soma near the plane
STUB_SIGMA_UM = 0.8
STUB_LENGTH_UM = 12.0  # longest
HOLE = 0.5  # of the light of the neuropil that a soma takes away; the rest comes from beyond the focus
TEXTURE = ((0.9, 0.20), (3.0, 0.20), (10.0, 0.13), (40.0, 0.10))  # sigma in µm, SD of the logarithm of the light
FIBRES_PER_UM2 = 1 / 25
FIBRE_SHARE = 0.25  # of the light of the neuropil
VESSEL_RADIUS_UM = (2.5, 14.0)
VESSEL_SHADOW = 0.85  # of the light is lost under a thick vessel
_MODES = ("reflect", "wrap", "wrap")  # of filters along z, y, x: what runs out on one side comes in on the other
SMOOTH_S = 0.05  # of the motion of the brain
RATE_SIGMA, AMPLITUDE_SIGMA = 1.3, 0.4  # of lognormals over neurons, of events
NEUROPIL_TIME_S, NEUROPIL_SD, NEUROPIL_SHARED, NEUROPIL_FOLLOWS = 1.5, 0.1, 0.6, 0.5
JUMP_RATE_HZ, JUMP_SIZE, JUMP_RISE_S, JUMP_DECAY_S = 0.05, 4.0, 0.05, 0.4


@dataclass(frozen=True)
class Somata:
    """Shapes of cell bodies; every array has a first axis (neuron). Lengths in µm, angles in rad."""

    centres: np.ndarray  # (neuron, 3)
    radii: np.ndarray  # (neuron,)
    bulges: np.ndarray  # (neuron, 3): of the outline at 2, 3 and 4 periods around, relative to the radius
    bulge_angles: np.ndarray  # (neuron, 3)
    nucleus_centres: np.ndarray  # (neuron, 3)
    nucleus_radii: np.ndarray  # (neuron,)
    nucleus_light: np.ndarray  # (neuron,) relative to the cytosol: the indicator stays out of most nuclei
    stub_angles: np.ndarray  # (neuron, STUBS)
    stub_lengths: np.ndarray  # (neuron, STUBS) from the outline of the soma on
    stub_light: np.ndarray  # (neuron, STUBS) relative to the cytosol
    waves: np.ndarray  # (neuron, WAVES, 3) of the light of its cytosol: along y and x in rad/µm, and their phase

    def reach_um(self, neuron: int) -> float:
        """Return how far from its centre a neuron shines."""
        return float((1 + LARGEST_BULGE) * self.radii[neuron] + self.stub_lengths[neuron].max() + 3 * STUB_SIGMA_UM)


def separate_radii(centres: np.ndarray, smallest: float, largest: float, rng: np.random.Generator) -> np.ndarray:
    """Return random radii (n,) from ``smallest`` to ``largest`` of spheres that do not overlap.

    ``centres`` (n, 3) are at least ``smallest + largest`` apart. Two spheres that would overlap are made smaller by
    the same factor, which leaves both within the range.
    """
    radii = rng.uniform(smallest, largest, len(centres))
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)
    np.fill_diagonal(gaps, np.inf)
    factors = np.minimum(gaps / (radii[:, None] + radii), 1.0)
    return np.asarray(radii * factors.min(axis=1))


def draw_somata(centres: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> Somata:
    """Return cell bodies of random shape at ``centres`` (n, 3), with mean ``radii`` (n,), both in µm."""
    count = len(radii)
    nucleus_radii = radii * rng.uniform(0.58, 0.7, count)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    aside = 0.5 * (radii - nucleus_radii) * rng.random(count)
    wave_numbers = 2 * np.pi / rng.uniform(*WAVE_LENGTH_UM, (count, WAVES))
    wave_angles, phases = rng.uniform(0, 2 * np.pi, (2, count, WAVES))
    filled = rng.random(count) < 0.08  # cells that express so much that the nucleus fills
    return Somata(
        centres=centres,
        radii=radii,
        bulges=np.clip(rng.normal(size=(count, 3)), -2, 2) * BULGES,
        bulge_angles=rng.uniform(0, 2 * np.pi, (count, 3)),
        nucleus_centres=centres + aside[:, None] * direction,
        nucleus_radii=nucleus_radii,
        nucleus_light=np.where(filled, rng.uniform(0.7, 1.0, count), rng.uniform(0.05, 0.4, count)),
        stub_angles=rng.uniform(0, 2 * np.pi, (count, STUBS)),
        stub_lengths=rng.uniform(2.0, STUB_LENGTH_UM, (count, STUBS)),
        stub_light=rng.uniform(0.0, 0.9, (count, STUBS)),
        waves=np.stack([wave_numbers * np.sin(wave_angles), wave_numbers * np.cos(wave_angles), phases], axis=-1),
    )


def share_inside(ratio: np.ndarray, radius_um: float, depth_um: float) -> np.ndarray:
    """Return the share of the axial point spread function that lies in a body of rotation.

    ``ratio`` is the lateral distance from the body's axis over its radius in that direction, ``radius_um`` half its
    height at the axis, ``depth_um`` the distance of the plane from its centre. The point spread function is a Gaussian
    along z of AXIAL_SIGMA_UM: the share is exact for an ellipsoid.
    """
    scale = np.sqrt(2.0) * AXIAL_SIGMA_UM
    half = radius_um / scale * np.sqrt(np.maximum(1 - ratio**2, 0))
    depth = depth_um / scale
    return np.asarray(0.5 * (erf(half - depth) + erf(half + depth)))


def footprint(
    somata: Somata, neuron: int, z_um: np.ndarray, y_um: np.ndarray, x_um: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return two float32 arrays (z, y, x): the share of the point spread function inside a soma, and its light.

    ``z_um``, ``y_um``, ``x_um`` are voxel centres, evenly spaced along y and x. The share counts the whole body, the
    nucleus included, and is 1 deep inside. The light is relative to that of cytosol which fills the point spread
    function; it has a dim nucleus and short dendrites.
    """
    depth, y, x = somata.centres[neuron]
    nucleus_depth, nucleus_y, nucleus_x = somata.nucleus_centres[neuron]
    radius, nucleus_radius = float(somata.radii[neuron]), float(somata.nucleus_radii[neuron])
    dy, dx = y_um[:, None] - y, x_um - x
    distance, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    outline = radius * np.ones_like(angle)
    for periods, (bulge, turn) in enumerate(zip(somata.bulges[neuron], somata.bulge_angles[neuron], strict=True), 2):
        outline += radius * bulge * np.cos(periods * (angle - turn))
    nucleus_ratio = np.hypot(y_um[:, None] - nucleus_y, x_um - nucleus_x) / nucleus_radius
    along_y, along_x, phase = somata.waves[neuron].T[..., None, None]
    mottle = 1 + MOTTLE * np.sqrt(2 / WAVES) * np.cos(along_y * dy + along_x * dx + phase).sum(axis=0)
    stubs = _stubs(somata, neuron, dy, dx)
    inside = np.empty((len(z_um), len(y_um), len(x_um)), np.float32)
    light = np.empty_like(inside)
    dark = 1 - somata.nucleus_light[neuron]
    for plane, z in enumerate(z_um):
        body = share_inside(distance / outline, radius, z - depth)
        nucleus = share_inside(nucleus_ratio, nucleus_radius, z - nucleus_depth)
        near = np.exp(-0.5 * ((z - depth) / radius) ** 2)
        inside[plane] = body
        light[plane] = np.maximum((body - dark * nucleus) * mottle, 0) + near * stubs * (1 - body)
    sigma = (0, *(LATERAL_SIGMA_UM / _step(axis) for axis in (y_um, x_um)))
    return gaussian_filter(inside, sigma), gaussian_filter(light, sigma)


def _step(axis: np.ndarray) -> float:
    return float(axis[1] - axis[0]) if len(axis) > 1 else np.inf


def _stubs(somata: Somata, neuron: int, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Return the light (y, x) of the dendrites near a soma: straight, fading towards their ends."""
    light = np.zeros(np.broadcast_shapes(dy.shape, dx.shape))
    for angle, length, brightness in zip(
        somata.stub_angles[neuron], somata.stub_lengths[neuron], somata.stub_light[neuron], strict=True
    ):
        whole = somata.radii[neuron] + length
        along = np.cos(angle) * dx + np.sin(angle) * dy
        beyond = along - np.clip(along, 0, whole)
        across = np.cos(angle) * dy - np.sin(angle) * dx
        fade = np.clip(1 - along / whole, 0, 1)
        light += brightness * fade * np.exp(-0.5 * (across**2 + beyond**2) / STUB_SIGMA_UM**2)
    return light


def wander(
    starts_um: np.ndarray,
    headings: np.ndarray,
    steps: int,
    step_um: float,
    stiffness_um: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (steps, n, 2) points (y, x) in µm of ``n`` curves whose direction is lost over ``stiffness_um``."""
    turns = rng.normal(0.0, np.sqrt(2 * step_um / stiffness_um), (steps, len(headings)))
    angles = headings + np.cumsum(turns, axis=0)
    moves = step_um * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return np.asarray(starts_um + np.cumsum(moves, axis=0))


def neuropil_texture(shape: Sequence[int], voxel_um: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return float32 light (z, y, x) of mean 1 of tissue without cell bodies.

    The exponential of smooth random fields of several scales, and fine fibres with varicosities.
    """
    logarithm = np.zeros(tuple(shape), np.float32)
    for sigma_um, spread in TEXTURE:
        axial_um = np.hypot(sigma_um, AXIAL_SIGMA_UM)
        sigmas = np.array([axial_um, sigma_um, sigma_um]) / voxel_um
        noise = gaussian_filter(rng.standard_normal(tuple(shape), dtype=np.float32), sigmas, mode=_MODES)
        noise -= noise.mean()
        logarithm += np.float32(spread / max(float(noise.std()), 1e-12)) * noise
    texture = np.exp(logarithm)
    fibres = _fibres(shape, voxel_um, rng)
    texture *= np.float32((1 - FIBRE_SHARE) / texture.mean())
    texture += np.float32(FIBRE_SHARE / fibres.mean()) * fibres
    return texture


def _fibres(shape: Sequence[int], voxel_um: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return positive light (z, y, x) of random fibres, mean of no meaning; the field is periodic along y and x."""
    planes, height, width = shape
    step_um = float(min(voxel_um[1:]))
    extent = np.array([height, width]) * voxel_um[1:]
    count = int(np.ceil(FIBRES_PER_UM2 * float(np.prod(extent))))
    steps = max(2, round(60.0 / step_um))
    light = np.empty((planes, height * width), np.float32)
    for plane in light:  # one at a time: the points of all planes together weigh a gigabyte
        points = wander(rng.random((count, 2)) * extent, rng.uniform(0, 2 * np.pi, count), steps, step_um, 60.0, rng)
        lengths = rng.uniform(0.2, 1.0, count) * steps
        weights = rng.lognormal(0.0, 0.7, count) * (np.arange(steps)[:, None] < lengths)
        weights = weights * (1 + 4 * (rng.random(weights.shape) < 0.03))  # varicosities
        y, x = np.moveaxis(np.floor(points / voxel_um[1:]).astype(int), -1, 0)
        plane[:] = np.bincount((y % height * width + x % width).ravel(), weights.ravel(), height * width)
    sigmas = np.array([AXIAL_SIGMA_UM / 2, 0.6, 0.6]) / voxel_um
    # A floor far below the mean keeps a field without any fibre divisible.
    return np.asarray(gaussian_filter(light.reshape(tuple(shape)), sigmas, mode=_MODES) + np.float32(1e-6))


def vessel_shadow(shape: Sequence[int], voxel_um: np.ndarray, vessels: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 transmission (y, x), 1 in clear tissue, of blood vessels that cross the field."""
    shadow = np.ones(tuple(shape), np.float32)
    extent = np.asarray(shape) * voxel_um
    step_um = float(min(voxel_um))
    steps = int(np.ceil(2 * np.hypot(*extent) / step_um))
    beyond = np.ceil(2 * VESSEL_RADIUS_UM[1] / voxel_um).astype(int)  # a vessel outside casts its shadow inside
    field = tuple(slice(start, start + size) for start, size in zip(beyond, shape, strict=True))
    low, high = np.log(VESSEL_RADIUS_UM)
    for _ in range(vessels):
        radius = np.exp(rng.uniform(low, high))
        heading = rng.uniform(0, 2 * np.pi)
        middle = rng.random(2) * extent
        halves = [wander(middle[None], np.array([heading + turn]), steps, step_um, 400.0, rng) for turn in (0, np.pi)]
        cells = np.floor(np.concatenate(halves)[:, 0] / voxel_um).astype(int) + beyond
        free = np.ones(np.asarray(shape) + 2 * beyond, bool)
        free[tuple(cells[np.all((cells >= 0) & (cells < free.shape), axis=1)].T)] = False
        distance = distance_transform_edt(free, sampling=voxel_um)[field]
        # A vessel thinner than the focus is deep leaves light above and below it.
        depth = VESSEL_SHADOW * (1 - np.exp(-radius / 4.0))
        shadow *= (1 - depth * 0.5 * erfc((distance - radius) / (0.3 * radius + 0.7))).astype(np.float32)
    return shadow


def vignette(shape: Sequence[int], loss: float) -> np.ndarray:
    """Return float32 (y, x) the light that reaches the detector: 1 in the centre, ``1 - loss`` in the corners.

    The corners are those of the field, half a pixel beyond the last centres: every pixel keeps some light.
    """
    y, x = ((2 * np.arange(size) + 1) / size - 1 for size in shape)
    return np.asarray(1 - loss * (y[:, None] ** 2 + x**2) / 2, dtype=np.float32)


def partition(positions_um: np.ndarray, extent_um: float, spacing_um: float) -> np.ndarray:
    """Return weights (node, position) of Gaussian bumps on an even grid of nodes; they sum to 1 at every position.

    The grid goes one node beyond 0 and ``extent_um``, so that positions at the edges lie among nodes as others do.
    """
    nodes = spacing_um * np.arange(-1, int(np.ceil(extent_um / spacing_um)) + 2)
    logarithm = -0.5 * ((nodes[:, None] - positions_um) / (0.6 * spacing_um)) ** 2
    weights = np.exp(logarithm - logarithm.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))


def indicator_response(events: np.ndarray, rise_s: float, decay_s: float, interval_s: float) -> np.ndarray:
    """Return the fluorescence (t, neuron) that follows ``events`` (t, neuron), 1 at the peak of a single event.

    The response to an event is (1 - exp(-t / rise)) exp(-t / decay). An event falls on average half a frame before the
    end of its frame, so that frame n after it shows the response at (n + 1/2) frames.
    """
    shared = rise_s / (rise_s + decay_s)  # exp(-t / rise) at the peak
    peak = (1 - shared) * shared ** (rise_s / decay_s)
    response = np.zeros(events.shape)
    for sign, rate in ((1, 1 / decay_s), (-1, 1 / decay_s + 1 / rise_s)):
        keep = np.exp(-interval_s * rate)
        response += sign * np.sqrt(keep) / peak * lfilter([1.0], [1.0, -keep], events, axis=0)
    return response


def indicator_events(
    frames: int,
    neurons: int,
    interval_s: float,
    event: tuple[float, float],
    time_constants_s: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the events and the dF/F (t, neuron); ``event`` is the mean rate in Hz and the median peak dF/F."""
    rate_hz, peak = event
    rates = rng.lognormal(0.0, RATE_SIGMA, neurons)
    rates *= rate_hz / rates.mean()
    peaks = peak * rng.lognormal(0.0, AMPLITUDE_SIGMA, neurons)
    before = int(np.ceil(5 * sum(time_constants_s) / interval_s))
    events = rng.poisson(rates * interval_s, (before + frames, neurons))
    dff = peaks * indicator_response(events, *time_constants_s, interval_s)[before:]
    return events[before:].astype(np.int32), dff.astype(np.float32)


def neuropil_level(dff: np.ndarray, near: np.ndarray, interval_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return the neuropil's level (t, node, node), 1 at rest: noise, partly shared, and what the neurons near by do.

    ``dff`` is (t, neuron), ``near`` (neuron, node, node) the part that each node has in the level at a neuron.
    """
    shared, own = (
        ornstein_uhlenbeck((len(dff), *size), NEUROPIL_TIME_S, interval_s, part)
        for size, part in zip(((1, 1), near.shape[1:]), rng.spawn(2), strict=True)
    )
    # Mean over the neurons of the variance that is left of nodes of SD 1 once they are mixed.
    left = float(np.square(near).sum(axis=(1, 2)).mean())
    noise = np.sqrt(NEUROPIL_SHARED) * shared + np.sqrt((1 - NEUROPIL_SHARED) / left) * own
    weights = near / (near.sum(axis=0) + 1e-3)  # a node far from all neurons follows none
    return np.asarray(1 + NEUROPIL_SD * noise + NEUROPIL_FOLLOWS * np.tensordot(dff, weights, axes=1))


def brain_motion(
    samples: int, sd_um: float, time_constant_s: float, interval_s: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the displacement (sample, 2) along y and x in µm: smoothed Ornstein-Uhlenbeck of ``sd_um``, and jumps.

    SMOOTH_S of exponential smoothing give the path a speed, which a brain has and the process has not. Jumps come
    at random, are exponentially distributed with a mean of JUMP_SIZE times ``sd_um``, and fade.
    """
    slow, when, size, direction = rng.spawn(4)  # so that more samples leave the first as they are
    rough = ornstein_uhlenbeck((samples, 2), time_constant_s, interval_s, slow)
    keep = np.exp(-interval_s / SMOOTH_S)
    path = lfilter([1 - keep], [1.0, -keep], rough, axis=0, zi=keep * rough[:1])[0]
    path *= np.sqrt(1 + SMOOTH_S / time_constant_s)  # what smoothing takes from the variance
    jumps = when.random(samples) < -np.expm1(-JUMP_RATE_HZ * interval_s)
    jumps = jumps * size.exponential(JUMP_SIZE, samples)
    angles = direction.uniform(0, 2 * np.pi, samples)
    towards = jumps[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.asarray(sd_um * (path + indicator_response(towards, JUMP_RISE_S, JUMP_DECAY_S, interval_s)))
