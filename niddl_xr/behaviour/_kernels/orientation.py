"""Which end of a centreline is the head: continuity within a block of frames, and what tells the ends of a block apart.

Centrelines are (t, s, 2) in µm, in the direction in which they were found; ``reversed_`` (t,) says which are to be
turned round.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

UNLIKE = 0.8  # distances to the last centreline as it is and turned round: above this neither is the nearer
ENDS = (0.03, 0.14)  # of the body, from either tip: where the widths of head and tail are compared
BLUNT = 0.3  # log of the ratio of the widths at the two ends; 0.64 of outlines, 0.15 and noise of faint fluorescence
AGREE = 0.8  # of the frames of a block
MOVING_LENGTHS_PER_S = 0.03  # of the bending wave along the body
LEAST_MOVING_S = 15.0  # more of it in one direction than in the other: a reversal may last as long as a short block
LEAST_SHARE = 0.6  # of the moving time in one direction: worms crawl forward most of the time
WAVE_SMOOTHING_S = 0.3

UNKNOWN, GIVEN, SHAPE, PROFILE, MOTION = "unknown", "given", "shape", "profile", "motion"


class Blocks(NamedTuple):
    """``number`` (t,) of the block, -1 where there is no centreline; ``reversed_`` (t,) makes a block continuous."""

    number: np.ndarray
    reversed_: np.ndarray


def blocks_of(points_um: np.ndarray, known: np.ndarray, times: np.ndarray, longest_gap: float) -> Blocks:
    """Join frames to blocks within which every centreline runs like the one before.

    The first one of a block starts at its upper end (of two as high, the left one). A block ends where more than
    ``longest_gap`` is missing, and where a centreline is as near to the last one turned round.
    """
    number = np.full(len(points_um), -1)
    turned = np.zeros(len(points_um), bool)
    block, last, last_time = -1, None, -np.inf
    for frame in np.flatnonzero(known):
        line = points_um[frame]
        follows = False
        if last is not None and times[frame] - last_time <= longest_gap:
            same, other = (float(np.hypot(*(way - last).T).mean()) for way in (line, line[::-1]))
            follows = min(same, other) <= UNLIKE * max(same, other)
            turned[frame] = other < same
        if not follows:
            block += 1
            turned[frame] = tuple(line[-1]) < tuple(line[0])
        last, last_time = line[::-1] if turned[frame] else line, times[frame]
        number[frame] = block
    return Blocks(number, turned)


def wave_speed(curvature: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return how fast bends move along the body (t,), in body lengths a second, positive from s = 0 to s = 1.

    ``curvature`` (t, s) over one block. A wave f(s - v t) has d/dt = -v d/ds; v is the least-squares one over the
    body and half a second. A worm crawls against its wave: forwards where the wave runs from head to tail.
    """
    if len(curvature) < 3:
        return np.full(len(curvature), np.nan)
    step_s = float(np.median(np.diff(times_s)))
    sigma = WAVE_SMOOTHING_S / step_s
    smooth = gaussian_filter1d(gaussian_filter1d(curvature, sigma / 2, axis=0, mode="nearest"), 3, axis=1)
    in_time = np.gradient(smooth, times_s, axis=0)
    along = np.gradient(smooth, 1 / (curvature.shape[1] - 1), axis=1)
    inner = slice(curvature.shape[1] // 10, -(curvature.shape[1] // 10) or None)
    product = gaussian_filter1d((in_time * along)[:, inner].sum(axis=1), sigma, mode="nearest")
    square = gaussian_filter1d((along**2)[:, inner].sum(axis=1), sigma, mode="nearest")
    return np.asarray(-product / np.maximum(square, 1e-9))


def by_motion(curvature: np.ndarray, times_s: np.ndarray) -> float:
    """Return how sure it is that the head is at s = 0, from -1 (at s = 1) to 1; 0 where motion does not tell.

    A worm moves forwards for most of the time. The number is the share of the moving time in that direction less that
    in the other, 0 below :data:`LEAST_MOVING_S` of difference.
    """
    if len(curvature) < 3:
        return 0.0
    speed = wave_speed(np.nan_to_num(curvature), times_s)
    spacing = np.minimum(np.gradient(times_s), 3 * np.median(np.diff(times_s)))
    forward = float(spacing[speed > MOVING_LENGTHS_PER_S].sum())
    backward = float(spacing[speed < -MOVING_LENGTHS_PER_S].sum())
    share = max(forward, backward) / max(forward + backward, 1e-12)
    if abs(forward - backward) < LEAST_MOVING_S or share < LEAST_SHARE:
        return 0.0
    return (forward - backward) / (forward + backward)


def by_shape(radius_um: np.ndarray) -> float:
    """Return the median over frames of log(width near s = 0 / width near s = 1); 0 where it does not tell.

    The tail of a worm is pointed, its head blunt. ``radius_um`` (t, s).
    """
    log = bluntness(radius_um)
    log = log[np.isfinite(log)]
    if not log.size or abs(float(np.median(log))) < BLUNT or max((log > 0).mean(), (log < 0).mean()) < AGREE:
        return 0.0
    return float(np.median(log))


def bluntness(radius_um: np.ndarray) -> np.ndarray:
    """Return log(width near s = 0 / width near s = 1) of profiles (t, s)."""
    count = radius_um.shape[1]
    near = slice(int(ENDS[0] * count), max(int(ENDS[1] * count), int(ENDS[0] * count) + 1))
    first, last = radius_um[:, near].mean(axis=1), radius_um[:, ::-1][:, near].mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(first / last))


def by_profile(profiles: np.ndarray, template: np.ndarray) -> float:
    """Return how much likelier profiles (t, s) are as they are than turned round, by the ``template`` (s,) of others.

    From -1 to 1: the difference of the mean distances over their sum, 0 below a tenth.
    """
    there = float(np.nanmean(np.abs(profiles - template)))
    back = float(np.nanmean(np.abs(profiles[:, ::-1] - template)))
    telling = (back - there) / max(back + there, 1e-12)
    return telling if abs(telling) >= 0.1 else 0.0
