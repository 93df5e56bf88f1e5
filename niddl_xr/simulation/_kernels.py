"""Geometry, activity and rendering of simulated worms: numbers in, arrays out.

Positions are (z, y, x) in µm, voxel i of an axis has its centre at i times the voxel size, arrays are (z, y, x).
Every random number comes from a Generator that the caller passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve, lfilter

# A head of C. elegans (whole-brain strains): length along x, half height along y, half depth along z.
HEAD_LENGTH_UM = 110.0
HEAD_HALF_HEIGHT_UM = 22.0
HEAD_HALF_DEPTH_UM = 13.0
GANGLIA = (0.30, 0.55, 0.85)  # centres of the ganglia, as fractions of the head's length from the nose
NERVE_RING = (0.405, 0.455)  # holds neurites and no nuclei
NUCLEUS_RADIUS_UM = (1.9, 0.3, 1.3, 2.8)  # mean, SD, smallest, largest
SIGMA_PER_RADIUS = 0.6  # a nucleus of radius r is a Gaussian of sigma 0.6 r before the microscope blurs it
PSF_SIGMA_UM = (1.5, 0.5, 0.5)  # spinning disk, 0.75 NA, through tissue
HAZE_SIGMA_UM = (4.0, 8.0, 8.0)
BOX_SIGMAS = 4.0  # a Gaussian is drawn to this distance, where it is 3e-4 of its peak

GROUPS = ("reversal", "forward", "turn", "rise", "inactive")
GROUP_SHARES = (0.22, 0.20, 0.10, 0.08)  # of the active groups, to one another
FORWARD_S, REVERSAL_S = 18.0, 6.0  # mean duration of a run and of a reversal; Gamma of shape 2
RISE_S, FALL_S = 1.5, 3.0  # time constants of the command state
INDICATOR_RISE_S, INDICATOR_DECAY_S = 0.2, 1.2  # GCaMP6s in worms
LOWEST_DFF = -0.5


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
        axial = (along - 0.5) * self.length
        lateral = up * self.half_height * taper
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        z, y, x = self.centre
        return np.stack(
            [
                z + depth * self.half_depth * taper,
                y + sine * axial + cosine * lateral,
                x + cosine * axial - sine * lateral,
            ],
            axis=-1,
        )


def head_within(field_um: np.ndarray, rng: np.random.Generator, largest_angle: float) -> Head:
    """Return a head centred in a field (3,) in µm, made smaller where the field is smaller than a head."""
    depth, height, width = (float(extent) for extent in field_um)
    return Head(
        centre=(depth / 2, height / 2, width / 2),
        length=min(HEAD_LENGTH_UM, 0.95 * width),
        half_height=min(HEAD_HALF_HEIGHT_UM, 0.42 * height),
        half_depth=min(HEAD_HALF_DEPTH_UM, 0.48 * depth),
        angle=float(rng.uniform(-largest_angle, largest_angle)),
    )


def points_in_head(head: Head, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` random points (count, 3) in µm, dense in the ganglia and absent from the nerve ring."""
    along = np.where(
        rng.random(count) < 0.6, rng.normal(rng.choice(GANGLIA, count), 0.08), rng.uniform(0.05, 1.0, count)
    )
    radius, angle = np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
    keep = (along > 0.02) & (along < 1.0) & ~((along > NERVE_RING[0]) & (along < NERVE_RING[1]))
    return head.place(along, radius * np.cos(angle), radius * np.sin(angle))[keep]


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
            gaps = points[:placed] - candidate
            if np.all(np.einsum("nd,nd->n", gaps, gaps) >= distance_um**2):
                points[placed] = candidate
                placed += 1
                if placed == count:
                    return points
    return points[:placed]


def nucleus_covariances(count: int, rng: np.random.Generator, psf_sigma_um: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the covariances (count, 3, 3) in µm² of nuclei seen through the microscope.

    Each is an ellipsoid of random size, of axes that differ by about 15 %, of random direction, plus the PSF.
    """
    mean, sd, smallest, largest = NUCLEUS_RADIUS_UM
    radius = np.clip(rng.normal(mean, sd, count), smallest, largest)
    sigma = SIGMA_PER_RADIUS * radius[:, None] * np.exp(rng.normal(0, 0.15, (count, 3)))
    turn = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    return np.asarray(np.einsum("nij,nj,nkj->nik", turn, sigma**2, turn) + np.diag(np.square(psf_sigma_um)))


def add_gaussians(
    volume: np.ndarray, centres_um: np.ndarray, covariances_um: np.ndarray, peaks: np.ndarray, voxel_um: np.ndarray
) -> None:
    """Add 3-D Gaussians to ``volume`` (z, y, x) in place, each inside its own box of 4 sigma.

    ``centres_um`` (n, 3), ``covariances_um`` (n, 3, 3) in µm², ``peaks`` (n,) in the unit of ``volume``. Values
    are those at the voxel centres. What lies outside the volume is cut off.
    """
    precisions = np.linalg.inv(covariances_um)
    reach = BOX_SIGMAS * np.sqrt(np.diagonal(covariances_um, axis1=1, axis2=2))
    first = np.maximum(np.ceil((centres_um - reach) / voxel_um), 0).astype(int)
    last = np.minimum(np.floor((centres_um + reach) / voxel_um) + 1, volume.shape).astype(int)
    for centre, precision, peak, start, stop in zip(centres_um, precisions, peaks, first, last, strict=True):
        if np.any(stop <= start) or peak == 0:
            continue
        z, y, x = (
            (np.arange(a, b) * size - middle).astype(np.float32)
            for a, b, size, middle in zip(start, stop, voxel_um, centre, strict=True)
        )
        p = precision.astype(np.float32)
        plane = p[1, 1] * y[:, None] ** 2 + p[2, 2] * x**2 + 2 * p[1, 2] * y[:, None] * x
        tilt = 2 * (p[0, 1] * y[:, None] + p[0, 2] * x)
        square = plane + z[:, None, None] * (tilt + p[0, 0] * z[:, None, None])
        square *= np.float32(-0.5)
        np.exp(square, out=square)
        square *= np.float32(peak)
        volume[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]] += square


def broad_gaussians(
    shape: Sequence[int], centres_um: np.ndarray, sigmas_um: np.ndarray, peaks: np.ndarray, voxel_um: np.ndarray
) -> np.ndarray:
    """Return the float32 volume (z, y, x) of a sum of Gaussians whose axes lie along z, y, x, without any box.

    ``centres_um``, ``sigmas_um`` are (n, 3), ``peaks`` (n,). The sum over the sources is one matrix product a plane,
    so that it costs little however far a source reaches.
    """
    profiles = [
        np.exp(-0.5 * ((np.arange(size) * voxel - centres_um[:, axis, None]) / sigmas_um[:, axis, None]) ** 2)
        for axis, (size, voxel) in enumerate(zip(shape, voxel_um, strict=True))
    ]
    along_z, along_y, along_x = (profile.astype(np.float32) for profile in profiles)
    weights = along_z * peaks[:, None].astype(np.float32)
    volume = np.empty(tuple(shape), np.float32)
    for z in range(shape[0]):
        np.matmul((along_y * weights[:, z, None]).T, along_x, out=volume[z])
    return volume


def haze_of(covariances_um: np.ndarray, peaks: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return sigmas (n, 3) in µm and peaks (n,) of the out-of-focus light of Gaussians.

    Haze is ``strength`` times the signal convolved with a Gaussian of unit integral and HAZE_SIGMA_UM; a Gaussian
    convolved with a Gaussian is one whose variances add and whose integral stays.
    """
    variances = np.diagonal(covariances_um, axis1=1, axis2=2)
    blurred = variances + np.square(HAZE_SIGMA_UM)
    volume = np.sqrt(np.linalg.det(covariances_um) / np.prod(blurred, axis=1))
    return np.sqrt(blurred), strength * peaks * volume


def stray_light(
    shape: Sequence[int], column: float = 0.66, width: float = 0.018, row: float = 0.5, broad: float = 0.4
) -> np.ndarray:
    """Return a plane (y, x), float32, of the light that reaches the camera past the sample.

    A vertical band at ``column`` of relative ``width`` (sigma), 1 at ``row`` and fading up and down, and a broad rise
    along x to about ``broad``; positions and widths are fractions of the plane. The defaults are the column
    and row medians of the 512 x 512 planes that the NIDDL authors publish.
    """
    y, x = ((np.arange(size) + 0.5) / size for size in shape)
    band = np.exp(-0.5 * ((x - column) / width) ** 2) * np.exp(-0.5 * ((y[:, None] - row) / 0.25) ** 2)
    rise = broad * (1 - np.exp(-3 * x)) * (0.7 + 0.3 * np.exp(-0.5 * ((y[:, None] - row) / 0.25) ** 2))
    return np.asarray(band + rise, dtype=np.float32)


def random_curve(head: Head, step_um: float, rng: np.random.Generator) -> np.ndarray:
    """Return the points (n, 3) in µm of a smooth random curve along a head and beyond, about ``step_um`` apart."""
    start, span = rng.uniform(-0.4, 0.3), rng.uniform(0.7, 1.4)
    count = max(2, round(span * head.length / step_um))
    along = np.linspace(start, start + span, count)
    smooth = 8.0 / step_um  # a bend every 8 µm or so
    wander = [gaussian_filter1d(rng.normal(size=count), smooth, mode="nearest") for _ in range(2)]
    up, depth = (0.5 * w * np.sqrt(2 * np.sqrt(np.pi) * smooth) for w in wander)
    return head.place(along, rng.uniform(-0.8, 0.8) + 0.3 * up, rng.uniform(-0.6, 0.6) + 0.3 * depth)


def ornstein_uhlenbeck(
    shape: tuple[int, ...], time_constant_s: float, interval_s: float, rng: np.random.Generator
) -> np.ndarray:
    """Return stationary noise of SD 1 along axis 0 whose autocorrelation falls as exp(-t / time constant)."""
    keep = np.exp(-interval_s / time_constant_s)
    kicks = rng.normal(size=shape)
    kicks[1:] *= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], kicks, axis=0))


def row_stripes(shape: tuple[int, int], length_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return float32 noise (y, x) of SD 1 whose autocorrelation along x falls as exp(-distance / length)."""
    keep = np.float32(np.exp(-1 / length_px))
    kicks = rng.standard_normal(shape, dtype=np.float32)
    kicks[:, 1:] *= np.sqrt(1 - keep**2)
    one = np.float32(1)
    return np.asarray(lfilter([one], [one, -keep], kicks, axis=1), dtype=np.float32)


def command_states(frames: int, interval_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return (frames,) booleans, True in a reversal: a semi-Markov chain of Gamma durations (shape 2)."""
    states = np.empty(frames, bool)
    reversing = bool(rng.random() < REVERSAL_S / (FORWARD_S + REVERSAL_S))
    time_left_s = rng.gamma(2.0, (REVERSAL_S if reversing else FORWARD_S) / 2) * rng.random()
    for frame in range(frames):
        while time_left_s <= 0:
            reversing = not reversing
            time_left_s += rng.gamma(2.0, (REVERSAL_S if reversing else FORWARD_S) / 2)
        states[frame] = reversing
        time_left_s -= interval_s
    return states


def _command_ramp(states: np.ndarray, interval_s: float) -> np.ndarray:
    ramp = np.empty(states.size)
    value = float(states[0])
    for frame, state in enumerate(states):
        value += (float(state) - value) * -np.expm1(-interval_s / (RISE_S if state else FALL_S))
        ramp[frame] = value
    return ramp


def indicator_kernel(interval_s: float) -> np.ndarray:
    """Return the causal response (n,), sum 1, of the calcium indicator: a rise and a decay, each exponential."""
    time_s = (np.arange(max(1, round(6 * INDICATOR_DECAY_S / interval_s))) + 0.5) * interval_s
    kernel = -np.expm1(-time_s / INDICATOR_RISE_S) * np.exp(-time_s / INDICATOR_DECAY_S)
    return np.asarray(kernel / kernel.sum())


def neuron_activity(
    frames: int, neurons: int, interval_s: float, active_fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dF/F (frames, neurons), the group of each neuron (index into GROUPS) and the reversals (frames,).

    The active neurons follow a command state that all share (ramp, its onset, pulses at the end of reversals) with
    an amplitude of their own, and every neuron has slow private noise; the whole passes the calcium indicator.
    """
    warm_up = round(30.0 / interval_s)
    total = frames + warm_up
    states = command_states(total, interval_s, rng)
    ramp = _command_ramp(states, interval_s)
    ends = np.flatnonzero(states[:-1] & ~states[1:]) + 1
    turns = np.zeros(total)
    for end in ends:
        turns[end : end + max(1, round(2.0 / interval_s))] = 1.0
    onset = np.maximum(np.gradient(ramp), 0) if total > 1 else np.zeros(total)
    drives = np.stack([ramp, 1 - ramp, turns, onset / max(float(onset.max()), 1e-12), np.zeros(total)], axis=1)

    shares = active_fraction * np.asarray(GROUP_SHARES) / sum(GROUP_SHARES)
    bounds = np.round(np.cumsum(shares) * neurons).astype(int)
    group = rng.permutation(np.searchsorted(bounds, np.arange(neurons), side="right"))
    amplitude = rng.lognormal(-0.08, 0.4, neurons)  # mean 1
    slow = ornstein_uhlenbeck((total, 1), 15.0, interval_s, rng)
    private = ornstein_uhlenbeck((total, neurons), 1.5, interval_s, rng)
    active = group < len(GROUPS) - 1
    drive = amplitude * (drives[:, group] + 0.1 * active * slow) + np.where(active, 0.2, 0.05) * private
    dff = fftconvolve(drive, indicator_kernel(interval_s)[:, None], axes=0)[:total]
    return np.maximum(dff[warm_up:], LOWEST_DFF).astype(np.float32), group, states[warm_up:]
