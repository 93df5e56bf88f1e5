"""Scores of detections against the truth: what was found, what was missed, and how far off it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from niddl_xr import neurons
from niddl_xr.schema import NiddlError


def score_detections(
    pred: pd.DataFrame | xr.Dataset, truth: pd.DataFrame | xr.Dataset, *, gate_um: float = 3.0
) -> pd.Series:
    """Compare points with the true ones, frame by frame.

    In each frame as many points as possible are paired with true ones within ``gate_um``, one to one, and of all such
    pairings the one with the least sum of distances counts (Hungarian).

    Parameters
    ----------
    pred
        What :func:`niddl_xr.detect` found, or tracks, whose observed points count.
    truth
        The true points, as detections or tracks, such as the node ``tracks`` of a simulation.
    gate_um
        Largest distance of a pair, in µm. 3 µm is about the distance of two nuclei that touch.

    Returns
    -------
    pandas.Series
        float64, over all frames together. ``f1`` = 2 pairs / (points + true points), ``precision`` = pairs / points,
        ``recall`` = pairs / true points; ``centroid_error_um``, the median distance of the pairs; ``count_error``,
        points / true points - 1 (0.1: 10 % too many); ``count_drift``, the change of the count error of a frame from
        the first frame to the last, by a straight line through all; ``matched``, ``missed``, ``false``: numbers of
        points.

        NaN where there is nothing to divide by: precision without points, recall and count error without true points,
        F1 without either, centroid error without pairs, drift with fewer than two frames that hold true points.

    Raises
    ------
    NiddlError
        Where ``pred`` or ``truth`` is neither detections nor tracks, the two state different numbers of frames, or are
        of different recordings.

    Notes
    -----
    Frames are those of the truth. Where ``detect`` looked at some frames alone (``time``), these count.

    Examples
    --------
    >>> truth = pd.DataFrame({"t_index": [0, 0, 1], "z": 0.0, "y": [1.0, 9.0, 1.0], "x": 5.0})
    >>> found = pd.DataFrame({"t_index": [0, 1], "z": 0.0, "y": [1.5, 1.5], "x": 5.0})
    >>> score_detections(found, truth)[["f1", "recall", "centroid_error_um"]].round(2).to_dict()
    {'f1': 0.8, 'recall': 0.67, 'centroid_error_um': 0.5}
    """
    if not (np.isfinite(gate_um) and gate_um > 0):
        raise NiddlError(f"expected gate_um as a positive distance in µm, got {gate_um}")
    found, true = _points(pred, "pred"), _points(truth, "truth")
    frames = _frames(found, true)
    counts = np.zeros((len(frames), 3), int)  # points, true points, pairs
    distances = []
    for row, frame in enumerate(frames):
        points, true_points = found.in_frame(frame), true.in_frame(frame)
        distance_um = pair_distances(points, true_points, gate_um)
        counts[row] = len(points), len(true_points), len(distance_um)
        distances.append(distance_um)
    all_points, all_true, pairs = counts.sum(axis=0).tolist() if len(frames) else (0, 0, 0)
    together = np.concatenate(distances) if distances else np.empty(0)
    return pd.Series(
        {
            "f1": _ratio(2 * pairs, all_points + all_true),
            "precision": _ratio(pairs, all_points),
            "recall": _ratio(pairs, all_true),
            "centroid_error_um": float(np.median(together)) if len(together) else np.nan,
            "count_error": _ratio(all_points, all_true) - 1,
            "count_drift": _drift(frames, counts),
            "matched": float(pairs),
            "missed": float(all_true - pairs),
            "false": float(all_points - pairs),
        },
        dtype=np.float64,
    )


def pair_distances(points: np.ndarray, true_points: np.ndarray, gate_um: float) -> np.ndarray:
    """Return the distances (pair,) in µm of the best one-to-one pairing of ``points`` (n, 3) and (m, 3).

    As many pairs as possible within ``gate_um``, a pair at that very distance included, at the least sum of distances.
    Points that no chain of close pairs connects are paired by themselves, so that thousands of points take no longer
    than their neighbourhoods.
    """
    if not (len(points) and len(true_points)):
        return np.empty(0)
    close = KDTree(points).sparse_distance_matrix(KDTree(true_points), gate_um, output_type="ndarray")
    if not len(close):
        return np.empty(0)
    left, right = close["i"], close["j"] + len(points)
    size = len(points) + len(true_points)
    _, group = connected_components(coo_array((np.ones(len(close)), (left, right)), shape=(size, size)), directed=False)
    order = np.argsort(group[left], kind="stable")
    cuts = np.flatnonzero(np.diff(group[left][order])) + 1
    return np.concatenate([_best_pairs(close[members], gate_um) for members in np.split(order, cuts)])


def _best_pairs(close: np.ndarray, gate_um: float) -> np.ndarray:
    rows, row = np.unique(close["i"], return_inverse=True)
    columns, column = np.unique(close["j"], return_inverse=True)
    # More than all pairs together can cost, so that a pair is never given up for a smaller sum.
    too_far = gate_um * (min(len(rows), len(columns)) + 1)
    cost = np.full((len(rows), len(columns)), too_far, dtype=np.float64)
    cost[row, column] = close["v"]
    assigned = cost[linear_sum_assignment(cost)]
    return np.asarray(assigned[assigned < too_far])


class _Points:
    """Points (n, 3) in µm, and which frame each is of."""

    def __init__(self, t_index: np.ndarray, points: np.ndarray, attrs: dict[str, object], frames: int | None) -> None:
        order = np.argsort(t_index, kind="stable")
        self.t_index, self.points, self.attrs, self.frames = t_index[order], points[order], attrs, frames

    def in_frame(self, frame: int) -> np.ndarray:
        first, stop = np.searchsorted(self.t_index, [frame, frame + 1])
        return self.points[first:stop]


def _points(given: pd.DataFrame | xr.Dataset, name: str) -> _Points:
    if isinstance(given, xr.Dataset):
        tracks = neurons.require_tracks(given)
        position = tracks["position"].values
        here = tracks["observed"].values.astype(bool) & np.isfinite(position).all(axis=-1)
        t_index = np.nonzero(here)[0]
        return _Points(t_index, position[here].astype(np.float64), dict(tracks.attrs), tracks.sizes["t"])
    if not isinstance(given, pd.DataFrame):
        raise NiddlError(f"expected {name} as detections (a table) or tracks (a Dataset), got {type(given).__name__}")
    table = neurons.require_detections(given)
    points = table[list(neurons.POINT_COLUMNS[1:])].to_numpy(np.float64)
    stated = int(table.attrs["frames"]) if "frames" in table.attrs else None
    return _Points(table["t_index"].to_numpy().astype(int), points, dict(table.attrs), stated)


def _frames(found: _Points, true: _Points) -> np.ndarray:
    """Return the frames that count, in order."""
    names = {points.attrs["recording_id"] for points in (found, true) if "recording_id" in points.attrs}
    if len(names) > 1:
        raise NiddlError("expected points of one recording, got a recording_id in attrs that is not that of the truth")
    if found.frames is not None and true.frames is not None and found.frames != true.frames:
        raise NiddlError(
            f"expected as many frames in both, got {found.frames} in pred and {true.frames} in truth: "
            "compare the same recording, or crop the truth with isel(t=...)"
        )
    last = max((int(points.t_index[-1]) for points in (found, true) if len(points.t_index)), default=-1)
    count = next((points.frames for points in (true, found) if points.frames is not None), last + 1)
    frames = np.arange(max(count, last + 1))
    searched = found.attrs.get("t_index_searched")
    return frames if searched is None else frames[np.isin(frames, np.asarray(searched))]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _drift(frames: np.ndarray, counts: np.ndarray) -> float:
    """Return the change of points / true points from the first to the last frame with true points."""
    known = counts[:, 1] > 0
    if known.sum() < 2:
        return float("nan")
    at = frames[known]
    slope = np.polyfit(at - at.mean(), counts[known, 0] / counts[known, 1], 1)[0]
    return float(slope * (at[-1] - at[0]))
