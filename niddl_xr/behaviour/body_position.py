"""The verb assign_body_position: where along the body neurons lie."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels.nearest import nearest_on_line
from niddl_xr.behaviour._time_base import times_of
from niddl_xr.neurons import require_tracks
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError, with_history


def assign_body_position(tracks: xr.Dataset, posture: xr.Dataset) -> xr.DataArray:
    """Say where along the body each neuron lies: a fixed address, the median over frames.

    Parameters
    ----------
    tracks
        ``position`` (t, neuron, space) in µm and ``observed`` (t, neuron), in the image that the posture was found in.
    posture
        ``centerline`` (t, s, space) in µm, with s from 0 (head) to 1 (tail). Frames are matched by their times.

    Returns
    -------
    xarray.DataArray
        ``body_position`` (neuron), float64, 0 to 1: the median over frames of the place of the nearest point on the
        centreline, between its points too. Coordinates (neuron): ``body_position_spread``, half the range that the
        middle 68 % of the frames take (0.02 and more says that a neuron is mistracked, or far from the line);
        ``distance_um``, the median distance to the centreline; ``frames``, how many frames this rests on. NaN, and 0
        frames, where a neuron never has a position together with a centreline. Neurons before the head or behind the
        tail get 0 or 1.

    Raises
    ------
    NiddlError
        Where tracks or posture do not keep the contract, times are not in s, or none of their frames are of one time.

    Notes
    -----
    Observed positions are taken; where a neuron has none, all of its positions. Frames of a centreline with gaps
    (NaN) are not used. A track whose times lie between those of the posture takes the nearest frame, if that is less
    than half a frame of the slower one away: the place along the body does not change, so that it need not be
    interpolated.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> truth = nx.simulate.freely_moving(frames=20, neurons=4, seed=3)
    >>> found = assign_body_position(truth["tracks"].to_dataset(), truth["posture"].to_dataset())
    >>> float(abs(found - truth["tracks"]["body_position"]).max().round(3))
    0.001
    """
    tracks, posture = require_tracks(tracks), require_posture(posture, "centerline")
    places = _matching_frames(tracks, posture)
    position = tracks["position"].values[places >= 0].astype(float)
    observed = tracks["observed"].values[places >= 0]
    # A line with gaps may lack the very part that a neuron lies at.
    lines = posture["centerline"].values[places[places >= 0]].astype(float)
    along, distance = nearest_on_line(position, lines, posture["s"].values.astype(float))
    known = np.isfinite(along)
    used = known & np.where((known & observed).any(axis=0), observed, True)
    columns = [_summary(along[use, n], distance[use, n]) for n, use in enumerate(used.T)]
    place, spread, far, frames = (np.asarray(column) for column in zip(*columns, strict=True))
    result = xr.DataArray(
        place,
        dims="neuron",
        coords={
            "neuron": tracks["neuron"],
            "body_position_spread": ("neuron", spread),
            "distance_um": ("neuron", far, {"units": "µm"}),
            "frames": ("neuron", frames.astype(int)),
        },
        name="body_position",
        attrs={"long_name": "place along the body, 0 is the head"},
    )
    return with_history(result, "assign_body_position", {})


def _summary(along: np.ndarray, distance: np.ndarray) -> tuple[float, float, float, int]:
    if not along.size:
        return float("nan"), float("nan"), float("nan"), 0
    low, middle, high = np.quantile(along, [0.16, 0.5, 0.84])
    return float(middle), float(high - low) / 2, float(np.median(distance)), along.size


def _matching_frames(tracks: xr.Dataset, posture: xr.Dataset) -> np.ndarray:
    """Return for every frame of the tracks that of the posture (t,), -1 where it has none of that time."""
    if tracks["t"].attrs.get("units") == "frame" and posture["t"].attrs.get("units") == "frame":
        times, others, reach = tracks["t"].values.astype(float), posture["t"].values.astype(float), 0.5
    elif tracks.sizes["t"] == 1 or posture.sizes["t"] == 1:
        times, others, reach = tracks["t"].values.astype(float), posture["t"].values.astype(float), 0.0
    else:
        times, others = times_of(tracks, "tracks"), times_of(posture, "posture")
        reach = max(float(np.median(np.diff(times))), float(np.median(np.diff(others)))) / 2
    right = np.clip(np.searchsorted(others, times), 0, others.size - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(others[left] - times) <= np.abs(others[right] - times), left, right)
    matched = np.abs(others[nearest] - times) <= reach + 1e-9
    if not matched.any():
        raise NiddlError(
            f"expected tracks and posture of one time, got tracks from {times[0]:g} to {times[-1]:g} and posture from "
            f"{others[0]:g} to {others[-1]:g}: give both the same clock"
        )
    return np.where(matched, nearest, -1)
