"""How hard it is to link the points of one frame to those of another, before any tracker is tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from niddl_xr.schema import NiddlError

_FARTHEST_UM = 10.0


def pair_accuracy(
    first: np.ndarray, second: np.ndarray, first_names: np.ndarray, second_names: np.ndarray, *, unknown: Any
) -> float:
    """Return how many neurons the plainest linking pairs rightly between two frames.

    Both clouds are centred on their medians and assigned to one another at the least sum of distances.

    Parameters
    ----------
    first, second
        Points (n, 3) and (m, 3) in µm; any order of the axes, the same in both.
    first_names, second_names
        The true neuron of each point, (n,) and (m,).
    unknown
        The name of points that are no neuron or not known to be one.

    Returns
    -------
    float
        Right pairs over the neurons named in both frames, 0 to 1; NaN where no neuron is in both.

    Examples
    --------
    >>> cloud, names = np.array([[0.0, 0, 0], [0, 9, 0], [0, 0, 9]]), np.array(["AVAL", "RID", ""])
    >>> pair_accuracy(cloud, cloud[::-1] + 50, names, names[::-1], unknown="")
    1.0
    """
    first_names, second_names = np.asarray(first_names), np.asarray(second_names)
    both = (set(first_names.tolist()) & set(second_names.tolist())) - {unknown}
    if not both:
        return float("nan")
    here, there = linear_sum_assignment(cdist(_centred(first), _centred(second)))
    right = (first_names[here] == second_names[there]) & (first_names[here] != unknown)
    return float(right.sum() / len(both))


def linking_difficulty(
    frames: Sequence[tuple[np.ndarray, np.ndarray]], *, unknown: Any, samples: int = 60, seed: int = 0
) -> pd.Series:
    """Measure how hard a recording is to track, by linking pairs of its frames in the plainest way.

    Parameters
    ----------
    frames
        For each frame the points (n, 3) in µm and their true neurons (n,).
    unknown
        The name of points that are no neuron or not known to be one.
    samples
        Frames from which pairs are taken, evenly spaced.
    seed
        Of the random pairs.

    Returns
    -------
    pandas.Series
        :func:`pair_accuracy`, means over pairs, 0 to 1: to the "next frame", "two frames apart", the "most similar
        frame" of all others (the mean distance to the nearest point, both ways, none counted above 10 µm) and a
        "random frame".

    Raises
    ------
    NiddlError
        For fewer than three frames, and frames without points.

    Notes
    -----
    In a freely moving worm (Yu et al., eLife 10:e66410, 2021) half of the neurons are lost between frames 0.3 s apart:
    a simulation in which they are not ranks trackers by what does not matter.

    Examples
    --------
    >>> cloud, names = np.random.default_rng(0).uniform(0, 50, (9, 3)), np.arange(9)
    >>> still = [(cloud, names)] * 5
    >>> linking_difficulty(still, unknown=-1)["next frame"].item()
    1.0
    """
    if len(frames) < 3:
        raise NiddlError(f"expected at least three frames, got {len(frames)}")
    empty = [number for number, (points, _) in enumerate(frames) if not len(points)]
    if empty:
        raise NiddlError(f"expected points in every frame, got none in frames {empty[:5]}: leave these out")
    trees = [KDTree(_centred(points)) for points, _ in frames]

    def accuracy(first: int, second: int) -> float:
        (points, names), (others, other_names) = frames[first], frames[second]
        return pair_accuracy(points, others, names, other_names, unknown=unknown)

    def most_similar(frame: int) -> int:
        gaps = [np.inf if other == frame else _distance(trees[frame], trees[other]) for other in range(len(frames))]
        return int(np.argmin(gaps))

    chosen = np.unique(np.linspace(0, len(frames) - 3, samples).astype(int)).tolist()
    rng = np.random.default_rng(seed)
    elsewhere = [(frame + int(rng.integers(1, len(frames)))) % len(frames) for frame in chosen]
    pairs = {
        "next frame": [accuracy(frame, frame + 1) for frame in chosen],
        "two frames apart": [accuracy(frame, frame + 2) for frame in chosen],
        "most similar frame": [accuracy(frame, most_similar(frame)) for frame in chosen],
        "random frame": [accuracy(*pair) for pair in zip(chosen, elsewhere, strict=True)],
    }
    return pd.Series({name: float(np.nanmean(values)) for name, values in pairs.items()})


def _centred(points: np.ndarray) -> np.ndarray:
    return np.asarray(points - np.median(points, axis=0))


def _distance(first: KDTree, second: KDTree) -> float:
    there = np.minimum(second.query(first.data)[0], _FARTHEST_UM).mean()
    back = np.minimum(first.query(second.data)[0], _FARTHEST_UM).mean()
    return float(there + back) / 2
