"""The verb track_quality: which points of tracks are likely wrong, and what to look at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.neurons import TRACE_DIMS
from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError
from niddl_xr.tracking._quality_measures import Measures, measured
from niddl_xr.tracking._quality_queue import frame_table, review_queue

if TYPE_CHECKING:
    import pandas as pd

_LEAST = 0.2  # suspicion of what is worth a look
_RUN_FRAMES = 8.0
_CHANGE = 3.0  # times the usual change of brightness or size

# Logistic regressions (weights of 0 or more) of wrong points, fitted on twelve simulated heads: six of motion "free"
# and "hard" tracked by method="template" (3 to 64 % wrong), six of motion "fixed", "semi" and "free" with near neurons
# exchanged (5 % wrong, random confidences). Brightness and radius of the detections had errors of 20 and 15 %. For each
# measure, mapped to 0..1: its weight, and its mean at right points, which stands in where a measure is not known.
_Weights = Mapping[str, tuple[float, float]]
_OFFSET = -6.95
_OBSERVED: _Weights = {
    "residual": (2.55, 0.24),
    "lasting": (2.4, 0.24),
    "usual": (1.1, 0.25),
    "jump": (1.45, 0.35),
    "ambiguity": (3.15, 0.16),
    "disagreement": (0.8, 0.39),
    "intensity": (1.8, 0.18),
    "radius": (0.65, 0.18),
    "unassigned": (0.65, 0.09),
    "frame": (1.85, 0.25),
}
# The same of tracks alone, without the detections.
_ALONE_OFFSET = -6.5
_ALONE: _Weights = {
    "residual": (4.3, 0.24),
    "lasting": (3.1, 0.24),
    "usual": (0.9, 0.25),
    "jump": (1.8, 0.35),
    "disagreement": (1.0, 0.39),
    "unassigned": (0.6, 0.09),
    "frame": (1.8, 0.25),
}
# The same of positions where nothing was detected, of the six tracked ones.
_FILLED_OFFSET = -3.1
_FILLED: _Weights = {"residual": (4.6, 0.30), "frame": (4.4, 0.28), "unassigned": (1.8, 0.13), "run": (0.1, 0.27)}


class TrackQuality(NamedTuple):
    """What :func:`track_quality` gives: see there."""

    suspicion: xr.Dataset
    queue: pd.DataFrame
    frames: pd.DataFrame


def track_quality(tracks: xr.Dataset, detections: pd.DataFrame | None = None) -> TrackQuality:
    """Find the points of tracks that are likely wrong, and put them in the order in which to look at them.

    Parameters
    ----------
    tracks
        Tracks in µm, of :func:`track` or your own. Points that a human has set or confirmed (provenance "manual" and
        "anchor") are beyond suspicion, and their neighbours are judged by them.
    detections
        The table that the tracks were made of. With it, three more signs count: another detection that fits as well,
        and jumps of brightness and of size. None leaves these out.

    Returns
    -------
    TrackQuality
        A named tuple of three.

        ``suspicion``, a Dataset of float32 (t, neuron):

        - ``suspicion``, 0 to 1: how likely the point is wrong, judged by simulated worms (see Notes). 0 where a human
          has spoken; NaN where there is no position.
        - ``residual_um``: distance to where the neighbours expect the point. NaN without neighbours.
        - ``jump_um``: how far it moved against its neighbours since the frame before, or until the one after.
        - ``disagreement``: 1 less ``confidence``; NaN where nothing was detected.
        - ``ambiguity``: residual over the sum of it and the distance from the expected place to the nearest other
          detection; above 0.5 the other one is nearer. NaN without ``detections``.
        - ``intensity_jump``, ``radius_jump``: distance of the logarithm to its running median of 15 frames, in units
          of the usual spread. NaN without ``detections``.
        - ``unobserved_run``: for how many frames in a row, this one among them, the neuron is not detected.
        - ``exchange_with``: number of the neighbour with which it fits better after an exchange of the two, else -1
          (int32).

        ``queue``, a table with a row for each run of suspicious frames of one neuron, the worst first: ``t_index`` (the
        worst frame), ``t_start`` and ``t_end`` (first and last frame), ``frames`` (how many), ``neuron``,
        ``suspicion``, ``reason`` (in words), ``z``, ``y``, ``x`` and ``expected_z``, ``expected_y``, ``expected_x`` in
        µm, ``confidence``, ``exchange_with`` (a name, or ""). Items less suspicious than 0.2 are left out; equal ones
        are in the order of their length.

        ``frames``, a table with a row a frame: ``t_index``, ``t``, ``observed_fraction`` (of the neurons),
        ``used_fraction`` (of the detections; NaN without), ``residual_um`` (median) and ``expected_wrong``, the sum of
        the suspicion.

    Raises
    ------
    NiddlError
        For what are no tracks, positions that are not in µm, and detections of other tracks.

    Notes
    -----
    *Expected place*: a weighted mean of the 12 nearest neurons, with weights of sum 1 learned from the whole recording
    by robust ridge regression. It is exact where a neighbourhood moves, turns and stretches as one, so that a neuron
    that is wrong for a minority of the frames is found in all of them, not only where it jumps. *Suspicion* is a
    logistic regression of all measures, each saturating at about half the distance between neurons, which was fitted on
    simulated heads, tracked by ``method="template"`` or with exchanged neurons; other recordings have other errors, so
    take it for an order rather than a probability.

    Examples
    --------
    >>> from niddl_xr.simulation import detections, whole_brain
    >>> from niddl_xr.tracking import track
    >>> worm = whole_brain(shape=(8, 60, 90), frames=12, neurons=10, motion="semi")
    >>> points = detections(worm)
    >>> quality = track_quality(track(points), points)
    >>> quality.suspicion.suspicion.dims, list(quality.frames.columns)[:3]
    (('t', 'neuron'), ['t_index', 't', 'observed_fraction'])
    """
    given, tracks = tracks, neurons.require_tracks(tracks)
    units = tracks["position"].attrs.get("units")
    if units not in MICROMETRE:
        raise NiddlError(
            f"expected position in µm along {SPACE_DIMS}, got units {units!r}: "
            "convert it, then set tracks['position'].attrs['units'] = 'µm'"
        )
    measures = measured(tracks, detections)
    signs = _signs(measures)
    offset, weights = (_OFFSET, _OBSERVED) if detections is not None else (_ALONE_OFFSET, _ALONE)
    added = _added(signs, weights)
    odds = np.where(
        measures.observed,
        _odds(added, offset, weights),
        _odds(_added(signs, _FILLED), _FILLED_OFFSET, _FILLED),
    )
    suspicion = 1 / (1 + np.exp(-odds))
    suspicion[measures.trusted] = 0.0
    suspicion[~np.isfinite(measures.position).all(axis=-1)] = np.nan
    result = _dataset(tracks, measures, suspicion)
    kept = {name: given.attrs[name] for name in ("recording_id", "version_id", schema.HISTORY) if name in given.attrs}
    result = schema.with_history(
        result.assign_attrs(kept), "track_quality", {"detections": None if detections is None else len(detections)}
    )
    queue = review_queue(tracks, measures, suspicion, added, least=_LEAST)
    frames = frame_table(tracks, measures, suspicion)
    for table in (queue, frames):
        table.attrs[schema.HISTORY] = result.attrs[schema.HISTORY]
    return TrackQuality(result, queue, frames)


def _signs(measures: Measures) -> dict[str, np.ndarray]:
    """Return the measures (t, neuron), mapped to 0..1 so that more is worse; NaN where not known."""
    half = measures.spacing_um / 2
    residual = _saturating(measures.residual_um / half)
    shape = residual.shape
    return {
        "residual": residual,
        "lasting": np.where(np.isfinite(residual), _saturating(measures.lasting_um / half), np.nan),
        "usual": np.broadcast_to(_saturating(measures.usual_um / half), shape),
        "jump": _saturating(measures.jump_um / half),
        "ambiguity": measures.ambiguity,
        "disagreement": measures.disagreement,
        "intensity": _saturating(measures.intensity_jump / _CHANGE),
        "radius": _saturating(measures.radius_jump / _CHANGE),
        "unassigned": np.broadcast_to(measures.unassigned[:, None], shape),
        "frame": np.broadcast_to(_saturating(measures.frame_residual)[:, None], shape),
        "run": _saturating(measures.unobserved_run / _RUN_FRAMES),
    }


def _added(signs: Mapping[str, np.ndarray], weights: _Weights) -> dict[str, np.ndarray]:
    """Return what each measure adds to the log odds (t, neuron), beyond what it adds at right points."""
    return {name: weight * np.nan_to_num(signs[name] - mean, nan=0.0) for name, (weight, mean) in weights.items()}


def _odds(added: Mapping[str, np.ndarray], offset: float, weights: _Weights) -> np.ndarray:
    usual = offset + sum(weight * mean for weight, mean in weights.values())
    return np.asarray(usual + np.sum(list(added.values()), axis=0))


def _saturating(values: np.ndarray) -> np.ndarray:
    """Map 0 to 0, 1 to a half and infinity to 1."""
    return np.asarray(1 - 1 / (1 + values))


def _dataset(tracks: xr.Dataset, measures: Measures, suspicion: np.ndarray) -> xr.Dataset:
    names = ("disagreement", "ambiguity", "intensity_jump", "radius_jump", "unobserved_run")
    variables = {
        "suspicion": (TRACE_DIMS, suspicion.astype(np.float32)),
        "residual_um": (TRACE_DIMS, measures.residual_um.astype(np.float32), {"units": "µm"}),
        "jump_um": (TRACE_DIMS, measures.jump_um.astype(np.float32), {"units": "µm"}),
        **{name: (TRACE_DIMS, getattr(measures, name).astype(np.float32)) for name in names},
        "exchange_with": (TRACE_DIMS, measures.exchange_with.astype(np.int32)),
    }
    return xr.Dataset(variables, coords={"t": tracks["t"], "neuron": tracks["neuron"]})
