"""Neurons that the reference lacks, found among the points that are nobody's: arrays and numbers only."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

LEAST_SHARE = 0.3  # of the frames that have a say, for a point to join; from 0.1 to 0.5 the neurons found are the same
_LEAST_VOTES = 2.0  # sure matches with other points of nobody's, for a point to be where a neuron begins


def newcomers(matches: csr_matrix, frame: np.ndarray, together: csr_matrix, least_frames: float) -> list[np.ndarray]:
    """Return the points of each neuron that is found, as numbers; no point twice, none twice in a frame.

    It begins at the point with the most matches among the rest, and gathers in each frame the point that most of the
    neighbours' points of this neuron are matched with, until nothing changes.

    Parameters
    ----------
    matches
        (point, point) probabilities that two points of matched frames are one neuron.
    frame
        (point,) the frame of each.
    together
        (frame, frame) 1 where two frames are matched, else 0.
    least_frames
        A neuron that is found in fewer frames is none.
    """
    free = np.ones(len(frame), bool)
    found: list[np.ndarray] = []
    while True:
        votes = np.where(free, matches @ free.astype(float), 0.0)
        if not len(votes) or votes.max() < _LEAST_VOTES:
            return found
        start = int(votes.argmax())
        points = _gathered(start, matches, frame, together, free)
        if len(points) >= least_frames:
            found.append(points)
        free[points] = False


def _gathered(start: int, matches: csr_matrix, frame: np.ndarray, together: csr_matrix, free: np.ndarray) -> np.ndarray:
    points = np.array([start])
    for _ in range(together.shape[0]):
        has, member = np.zeros(together.shape[0]), np.zeros(len(frame))
        has[frame[points]], member[points] = 1, 1
        voters = (together @ has)[frame]
        share = np.where(free & (voters > 0), (matches @ member) / np.maximum(voters, 1), 0.0)
        share[frame == frame[start]] = 0
        share[start] = 1
        best = np.lexsort([-share, frame])  # of each frame the best is the first
        first = np.r_[True, np.diff(frame[best]) != 0]
        gathered = np.sort(best[first & (share[best] >= LEAST_SHARE)])
        if np.array_equal(gathered, points):
            break
        points = gathered
    return points
