"""What a human has said about points, matched to the detections of their frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from niddl_xr.neurons import ANCHOR, MANUAL, POINT_COLUMNS, Frames, require_tracks
from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.tracking.methods import Anchors, Former

COLUMNS = ("t_index", "neuron", *SPACE_DIMS)
SAME_POINT_UM = 3.0  # an edit and a detection nearer than this are the same nucleus (its radius is 1.3 to 2.8 µm)


def anchors_of(
    anchors: Any, frames: Frames, *, forbidden: pd.DataFrame | None = None, former: xr.Dataset | None = None
) -> Anchors | None:
    """Match anchors to detections, one to one and within 3 µm.

    ``anchors`` is a table with the columns t_index, neuron, z, y, x [µm], or tracks, whose points of provenance anchor
    and manual count. ``forbidden`` has the same columns: points that are not that neuron, any number in a frame.
    ``former`` are tracks that say who is meant by the names.
    """
    table = None if anchors is None else _table(anchors, len(frames))
    if (table is None or not len(table)) and (forbidden is None or not len(forbidden)):
        return None
    given = pd.DataFrame(columns=list(COLUMNS)) if table is None else table
    frame, name, points, detection = _matched(given, frames, one_to_one=True)
    if forbidden is None or not len(forbidden):
        away, away_name = np.empty((0, 2), int), np.empty(0, object)
    else:
        ruled_out = _table(forbidden, len(frames), "forbidden")
        away_frame, away_name, _, away_detection = _matched(ruled_out, frames, one_to_one=False)
        known = away_detection >= 0
        away, away_name = np.stack([away_frame, away_detection], axis=1)[known], away_name[known]
    meant = None if former is None else _former(require_tracks(former), frames)
    return Anchors(frame, name, points, detection, away, away_name, meant)


def _former(tracks: xr.Dataset, frames: Frames) -> Former:
    """Return whom tracks take the points for: of those within 3 µm of an observed one, the nearest."""
    if tracks.sizes["t"] != len(frames):
        raise NiddlError(f"expected former tracks of {len(frames)} frames, as the detections, got {tracks.sizes['t']}")
    position, observed = tracks["position"].values.astype(float), tracks["observed"].values
    names = tracks["neuron"].values.astype(str).astype(object)
    frame, detection, neuron = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0, object)]
    for t, points in enumerate(frames.points):
        seen = np.flatnonzero(observed[t] & np.isfinite(position[t]).all(axis=-1))
        if len(points) and len(seen):
            away, nearest = KDTree(points).query(position[t, seen])
            near = away <= SAME_POINT_UM
            frame.append(np.full(int(near.sum()), t))
            detection.append(nearest[near])
            neuron.append(names[seen[near]])
    return Former(np.concatenate(frame), np.concatenate(detection), np.concatenate(neuron))


def _table(anchors: Any, frames: int, word: str = "anchors") -> pd.DataFrame:
    if isinstance(anchors, xr.Dataset):
        tracks = require_tracks(anchors)
        if "provenance" not in tracks:
            raise NiddlError(f"expected {word} with the variable provenance: points that are anchor or manual count")
        said = np.isin(tracks["provenance"].values, (ANCHOR, MANUAL)) & tracks["observed"].values
        frame, neuron = np.nonzero(said)
        points = tracks["position"].values[frame, neuron]
        anchors = pd.DataFrame(
            {
                "t_index": frame,
                "neuron": tracks["neuron"].values[neuron],
                **dict(zip(SPACE_DIMS, points.T, strict=True)),
            }
        )
    if not isinstance(anchors, pd.DataFrame) or not set(COLUMNS) <= set(anchors):
        got = list(anchors.columns) if isinstance(anchors, pd.DataFrame) else type(anchors).__name__
        raise NiddlError(f"expected {word} as tracks or as a table with the columns {COLUMNS}, got {got}")
    kinds = anchors[list(POINT_COLUMNS)].dtypes
    if len(anchors) and not all(kind.kind in "uif" for kind in kinds):
        raise NiddlError(f"expected numbers in the columns {POINT_COLUMNS} of {word}, got {kinds.map(str).to_dict()}")
    numbers = anchors[list(POINT_COLUMNS)].to_numpy(float)
    if not np.all(np.isfinite(numbers)):
        raise NiddlError(f"expected finite t_index, z, y, x in {word}; drop rows that are NaN with dropna()")
    beyond = (numbers[:, 0] < 0) | (numbers[:, 0] >= frames) | (numbers[:, 0] != np.floor(numbers[:, 0]))
    if beyond.any():
        raise NiddlError(
            f"expected t_index of {word} as whole numbers from 0 to {frames - 1}, got {numbers[beyond][0, 0]:g}: "
            "are they of this recording?"
        )
    nameless = anchors["neuron"].isna() | (anchors["neuron"].astype(str) == "")
    if nameless.any():
        raise NiddlError(
            f"expected a name for every anchor, got none in frame {numbers[nameless.to_numpy()][0, 0]:g}: a point that "
            "is some neuron and says not which is no anchor"
        )
    if word == "anchors" and anchors.duplicated(["t_index", "neuron"]).any():
        twice = anchors[anchors.duplicated(["t_index", "neuron"])].iloc[0]
        raise NiddlError(f"expected one place a neuron and frame, got two of {twice.neuron} in frame {twice.t_index}")
    return anchors


def _matched(
    table: pd.DataFrame, frames: Frames, *, one_to_one: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return frame, name, position and number of the detection of every row."""
    frame = table["t_index"].to_numpy(dtype=int)
    name = table["neuron"].astype(str).to_numpy(dtype=object)
    points = table[list(SPACE_DIMS)].to_numpy(dtype=float)
    detection = np.full(len(table), -1)
    for t in np.unique(frame):
        rows = np.flatnonzero(frame == t)
        if not len(frames.points[t]):
            continue
        distance = cdist(points[rows], frames.points[t])
        if one_to_one:
            here, there = linear_sum_assignment(np.minimum(distance, 2 * SAME_POINT_UM))
        else:
            here, there = np.arange(len(rows)), distance.argmin(axis=1)
        near = distance[here, there] <= SAME_POINT_UM
        detection[rows[here[near]]] = there[near]
    return frame, name, points, detection
