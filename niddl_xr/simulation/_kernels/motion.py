"""How a worm's head moves and deforms under the microscope.

Positions are (z, y, x) in µm; z is depth, along which the head rolls, and the head lies in the plane (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from niddl_xr.simulation._kernels.geometry import Head

STEPS_PER_TIME_CONSTANT = 16  # of the grid on which a path is drawn, whatever the frame rate
DEPTH_SHARE = 0.3  # of translation and deformation: a worm between agar and glass hardly moves in depth
DEFORMATION_MODES = 12
DEFORMATION_LENGTH_UM = 30.0
LARGEST_CURVATURE_PER_UM = 1 / 30.0  # a radius of 30 µm, chosen by eye on freely moving heads
LONGEST_TIME_CONSTANTS = 1e6  # of a recording: the path of a longer one takes minutes and gigabytes
BEND_REACH_UM = 50.0  # where the curvature of a head has its extremes, from the middle
_BLOCK = 2**16  # steps of the grid that are drawn at once
# Gauss-Legendre nodes on (0, 1): exact to 1e-9 for the bends allowed above over a head's half length.
_NODES, _WEIGHTS = (0.5 * (np.polynomial.legendre.leggauss(10)[0] + 1), 0.5 * np.polynomial.legendre.leggauss(10)[1])


@dataclass(frozen=True)
class Motion:
    """Motion of a head relative to the microscope; all zero for a head that stands still.

    Parameters
    ----------
    translation_um
        RMS of the shift along y and x of the whole head; 0.3 of it along z.
    deformation_um
        RMS along y and x (0.3 of it along z) of a smooth random displacement field with a correlation length of 30 µm.
    time_constant_s
        Autocorrelation time (Ornstein-Uhlenbeck) of everything here.
    rotation_deg
        RMS of the rotation in the plane.
    roll_deg
        Largest rotation about the long axis, to either side; RMS is 0.6 of it.
    bend_per_mm
        RMS curvature of the long axis in the plane, never above 33 per mm (a radius of 30 µm).
    burst
        SD of the logarithm of the speed: 0 for even motion, 1 for rests and bursts.
    burst_s
        Autocorrelation time of the speed.
    """

    translation_um: float = 0.0
    deformation_um: float = 0.0
    time_constant_s: float = 2.0
    rotation_deg: float = 0.0
    roll_deg: float = 0.0
    bend_per_mm: float = 0.0
    burst: float = 0.0
    burst_s: float = 5.0


MOTIONS = {
    "fixed": Motion(translation_um=0.3, deformation_um=0.3),
    "semi": Motion(translation_um=2.0, deformation_um=1.5),
    "free": Motion(translation_um=10.0, deformation_um=8.0, time_constant_s=1.0, rotation_deg=10.0),
    # Set on the point clouds of a freely moving worm (Yu et al., eLife 10:e66410, 2021): docs/decisions/0008.
    "hard": Motion(
        translation_um=10.0,
        deformation_um=8.0,
        time_constant_s=1.5,
        rotation_deg=10.0,
        roll_deg=40.0,
        bend_per_mm=18.0,
        burst=0.7,
    ),
}


def stationary_path(times: np.ndarray, channels: int, time_constant: float, rng: np.random.Generator) -> np.ndarray:
    """Return (t, channel) Ornstein-Uhlenbeck paths of SD 1 at increasing ``times`` ≥ 0, which need not be even.

    Drawn on a grid of 1/16 of the time constant and interpolated between, so that the path belongs to the random
    numbers, not to the times at which it is looked at.
    """
    step = time_constant / STEPS_PER_TIME_CONSTANT
    count = int(np.ceil(times[-1] / step)) + 2
    left = np.minimum((times / step).astype(int), count - 2)
    share = (times / step - left)[:, None]
    keep = np.exp(-1 / STEPS_PER_TIME_CONSTANT)
    path = np.empty((len(times), channels))
    grid, state = np.empty((0, channels)), np.zeros((1, channels))
    for start in range(0, count, _BLOCK):  # the grid may be far longer than the path
        kicks = rng.standard_normal((min(_BLOCK, count - start), channels))
        kicks[0 if start else 1 :] *= np.sqrt(1 - keep**2)
        block, state = lfilter([1.0], [1.0, -keep], kicks, axis=0, zi=state)
        grid = np.concatenate([grid[-1:], block])
        first = start + len(block) - len(grid)
        part = slice(*np.searchsorted(left, [first, first + len(grid) - 1]))
        here = left[part] - first
        path[part] = (1 - share[part]) * grid[here] + share[part] * grid[here + 1]
    return path


def own_times(times_s: np.ndarray, motion: Motion, rng: np.random.Generator) -> np.ndarray:
    """Return the time that the motion itself has lived through at ``times_s``: slow in rests, fast in bursts."""
    if motion.burst == 0:
        return times_s
    # On a grid of its own, so that the frame rate does not change the path; the speed has mean 1.
    step = min(motion.burst_s, motion.time_constant_s) / STEPS_PER_TIME_CONSTANT
    grid = np.arange(0.0, times_s[-1] + 2 * step, step)
    pace = stationary_path(grid, 1, motion.burst_s, rng)[:, 0]
    speed = np.exp(motion.burst * pace - motion.burst**2 / 2)
    lived = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * step)])
    return np.asarray(np.interp(times_s, grid, lived))


def moved(
    points: np.ndarray, head: Head, motion: Motion, times_s: np.ndarray, *, flat: bool, rng: np.random.Generator
) -> np.ndarray:
    """Return where ``points`` (n, 3) of a resting head are at ``times_s`` (t,): (t, n, 3), float32.

    In this order: roll about the long axis, smooth deformation, bending of the long axis, rotation in the plane,
    shift. ``flat`` holds everything along z still, for movies of a single plane.
    """
    # A generator for each, so that a longer recording begins like a shorter one.
    pace_rng, rng, path_rng = rng.spawn(3)
    lived = own_times(times_s, motion, pace_rng)
    waves = rng.normal(0.0, 1 / DEFORMATION_LENGTH_UM, (DEFORMATION_MODES, 3))
    phases = rng.uniform(0, 2 * np.pi, DEFORMATION_MODES)
    path = stationary_path(lived, 7 + 3 * DEFORMATION_MODES, motion.time_constant_s, path_rng)
    shift, yaw, roll, bends, amplitudes = np.split(path, [3, 4, 5, 7], axis=1)
    depth_share = 0.0 if flat else DEPTH_SHARE
    shift = motion.translation_um * shift * (depth_share, 1, 1)
    yaw = np.deg2rad(motion.rotation_deg) * yaw[:, 0]
    largest_roll = 0.0 if flat else np.deg2rad(motion.roll_deg)
    roll = largest_roll * np.tanh(0.8 * roll[:, 0])  # RMS 0.6 of the largest
    bends = _bounded(motion.bend_per_mm / 1000 * bends)

    local = head.to_local(points)
    pattern = np.sqrt(2 / DEFORMATION_MODES) * np.cos(local @ waves.T + phases)  # (n, mode)
    amplitudes = amplitudes.reshape(-1, DEFORMATION_MODES, 3) * (motion.deformation_um * np.array([depth_share, 1, 1]))

    positions = np.empty((len(times_s), len(points), 3), np.float32)
    for start in range(0, len(times_s), 256):
        part = slice(start, start + 256)
        bodies = _rolled(local, roll[part]) + np.einsum("nm,tmi->tni", pattern, amplitudes[part])
        bodies = _bent(bodies, bends[part])
        bodies = _turned(bodies, yaw[part])
        positions[part] = head.from_local(bodies) + shift[part, None]
    return positions


def _bounded(bends: np.ndarray) -> np.ndarray:
    """Return (t, 2) mean curvature and its slope over the head, softly kept below LARGEST_CURVATURE_PER_UM."""
    limit = LARGEST_CURVATURE_PER_UM / 2  # each: the two add up to the curvature at BEND_REACH_UM
    return np.asarray(limit * np.tanh(bends / limit))


def _rolled(local: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    depth, up, along = local.T
    return np.stack(
        [cosine * depth + sine * up, cosine * up - sine * depth, np.broadcast_to(along, (len(angle), len(local)))], -1
    )


def _bent(local: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """Return points (t, n, 3) of a straight head on one whose axis has curvature ``bends[0] + bends[1] a / 50 µm``.

    Points keep their distance ``up`` from the axis and their place ``a`` along it; the axis is anchored at a = 0.
    Farther out than 50 µm the curvature stays what it is there, so that it is bounded for a body of any length.
    """
    if not bends.any():
        return local
    depth, up, along = np.moveaxis(local, -1, 0)
    mean, slope = bends[:, 0, None], bends[:, 1, None]

    def angle(a: np.ndarray) -> np.ndarray:
        near = np.clip(a, -BEND_REACH_UM, BEND_REACH_UM)
        return np.asarray(mean * a + slope * near * (a - 0.5 * near) / BEND_REACH_UM)

    axis_x, axis_y = np.zeros_like(along), np.zeros_like(along)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        turn = angle(node * along)
        axis_x += weight * np.cos(turn)
        axis_y += weight * np.sin(turn)
    end = angle(along)
    return np.stack([depth, axis_y * along + up * np.cos(end), axis_x * along - up * np.sin(end)], -1)


def _turned(local: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    depth, up, along = np.moveaxis(local, -1, 0)
    return np.stack([depth, cosine * up + sine * along, cosine * along - sine * up], -1)
