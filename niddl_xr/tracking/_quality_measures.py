"""The signs of a wrong point, measured on all points of tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.ndimage import median_filter

from niddl_xr import neurons
from niddl_xr.neurons import ANCHOR, MANUAL, Frames
from niddl_xr.schema import NiddlError
from niddl_xr.tracking._kernels import suspicion as kernel

if TYPE_CHECKING:
    import pandas as pd

SAME_POINT_UM = 0.5  # tracks without det_id stand at the detection that is nearer than this
_LASTING_FRAMES = 5
_USUAL_OVER_FRAMES = 15


@dataclass(frozen=True)
class Measures:
    """Arrays (t, neuron), NaN where a measure is not known; ``usual_um`` and ``spacing_um`` are (neuron,).

    ``position`` and ``expected`` are (t, neuron, 3) in µm, ``unassigned`` (the part of the neurons that is not
    observed), ``frame_residual`` (median over neurons, in halves of their spacing) and ``used`` (the part of the
    detections that is a neuron) are (t,). ``lasting_um`` is the residual's median over five frames.
    """

    position: np.ndarray
    observed: np.ndarray
    trusted: np.ndarray
    expected: np.ndarray
    residual_um: np.ndarray
    lasting_um: np.ndarray
    usual_um: np.ndarray
    spacing_um: np.ndarray
    jump_um: np.ndarray
    disagreement: np.ndarray
    ambiguity: np.ndarray
    intensity_jump: np.ndarray
    radius_jump: np.ndarray
    unobserved_run: np.ndarray
    exchange_with: np.ndarray
    unassigned: np.ndarray
    frame_residual: np.ndarray
    used: np.ndarray


def measured(tracks: xr.Dataset, detections: pd.DataFrame | None) -> Measures:
    """Measure checked tracks; without ``detections`` what needs them is NaN."""
    position = tracks["position"].values.astype(np.float64)
    observed = tracks["observed"].values.astype(bool) & np.isfinite(position).all(axis=-1)
    trusted = np.zeros(observed.shape, bool)
    if "provenance" in tracks:
        trusted = np.isin(tracks["provenance"].values, (ANCHOR, MANUAL)) & np.isfinite(position).all(axis=-1)
    seen = np.where(observed[..., None], position, np.nan)
    near, spacing = kernel.around(seen)
    expected, usual = kernel.expected_places(seen, trusted, near, spacing)
    residual = np.sqrt(((position - expected) ** 2).sum(axis=-1))
    gain, partner = kernel.exchanges(seen, expected, near)
    half = spacing / 2
    unknown = np.full(observed.shape, np.nan)
    ambiguity, intensity, radius, used = unknown, unknown, unknown, np.full(len(observed), np.nan)
    if detections is not None:
        frames = _frames_of(detections, tracks)
        own = _own_detections(tracks, frames, seen)
        other = kernel.nearest_others(expected, frames.points, own)
        with np.errstate(invalid="ignore"):
            ambiguity = np.where(observed, residual / (residual + other), np.nan)
        intensity, radius = (_changes(detections, name, frames, own) for name in ("intensity", "radius_um"))
        with np.errstate(invalid="ignore"):
            used = (own >= 0).sum(axis=1) / np.array([float(len(points)) for points in frames.points])
    confidence = tracks["confidence"].values.astype(np.float64) if "confidence" in tracks else unknown
    return Measures(
        position=position,
        observed=observed,
        trusted=trusted,
        expected=expected,
        residual_um=residual,
        lasting_um=median_filter(np.nan_to_num(residual, nan=0.0), size=(_LASTING_FRAMES, 1), mode="nearest"),
        usual_um=usual,
        spacing_um=spacing,
        jump_um=kernel.jumps_um(seen - expected),
        disagreement=np.where(observed, 1 - confidence, np.nan),
        ambiguity=ambiguity,
        intensity_jump=intensity,
        radius_jump=radius,
        unobserved_run=kernel.run_lengths(~observed).astype(float),
        exchange_with=np.where(gain > half, partner, -1),
        unassigned=1 - observed.mean(axis=1) if observed.shape[1] else np.full(len(observed), np.nan),
        frame_residual=kernel.nan_median(np.where(observed, residual, np.nan) / half, axis=1),
        used=used,
    )


def _frames_of(detections: pd.DataFrame, tracks: xr.Dataset) -> Frames:
    table = neurons.require_detections(detections)
    frames = neurons.frames_of(table)
    count = tracks.sizes["t"]
    if len(frames) > count:
        raise NiddlError(f"expected detections of the {count} frames of the tracks, got {len(frames)} frames")
    own, other = (item.attrs.get("recording_id") for item in (tracks, table))
    if own is not None and other is not None and own != other:
        raise NiddlError(f"expected detections of the recording {own} of the tracks, got those of {other}")
    missing = count - len(frames)  # frames at the end without points
    return Frames([*frames.points, *[np.zeros((0, 3))] * missing], [*frames.rows, *[np.zeros(0, int)] * missing], None)


def _own_detections(tracks: xr.Dataset, frames: Frames, seen: np.ndarray) -> np.ndarray:
    """Return the number (t, neuron) within its frame of the detection at which a neuron stands, -1 for none."""
    own = np.full(seen.shape[:2], -1)
    rows = tracks["det_id"].values if "det_id" in tracks else None
    for t, points in enumerate(frames.points):
        here = np.flatnonzero(np.isfinite(seen[t]).all(axis=-1))
        if not len(points) or not len(here):
            continue
        if rows is None:
            distance, number = kernel.nearest(seen[t, here], points)
            own[t, here] = np.where(distance <= SAME_POINT_UM, number, -1)
        else:
            own[t, here] = _numbers(rows[t, here], frames.rows[t])
    if rows is not None:
        _require_their_own(own, rows, frames, seen)
    return own


def _numbers(rows: np.ndarray, frame_rows: np.ndarray) -> np.ndarray:
    """Return where in ``frame_rows`` each of ``rows`` stands, -1 where it does not."""
    order = np.argsort(frame_rows)
    place = np.minimum(np.searchsorted(frame_rows, rows, sorter=order), len(frame_rows) - 1)
    return np.where(frame_rows[order[place]] == rows, order[place], -1)


def _require_their_own(own: np.ndarray, rows: np.ndarray, frames: Frames, seen: np.ndarray) -> None:
    frame, neuron = np.nonzero((rows >= 0) & np.isfinite(seen).all(axis=-1))
    number = own[frame, neuron]
    found = number >= 0
    places = np.array([frames.points[t][n] for t, n in zip(frame[found], number[found], strict=True)]).reshape(-1, 3)
    elsewhere = np.abs(places - seen[frame[found], neuron[found]]).max(axis=1, initial=0.0) > SAME_POINT_UM
    wrong = int((~found).sum() + elsewhere.sum())
    if 2 * wrong > len(frame):
        raise NiddlError(
            f"expected the detections that the tracks were made of, got a table in which {wrong} of {len(frame)} "
            "points stand elsewhere: give that table, or none"
        )


def _changes(detections: pd.DataFrame, column: str, frames: Frames, own: np.ndarray) -> np.ndarray:
    values = np.full(own.shape, np.nan)
    if column not in detections:
        return values
    all_values = detections[column].to_numpy(np.float64)
    for t, rows in enumerate(frames.rows):
        seen = np.flatnonzero(own[t] >= 0)
        values[t, seen] = all_values[rows[own[t, seen]]]
    return kernel.log_jumps(values, _USUAL_OVER_FRAMES)
