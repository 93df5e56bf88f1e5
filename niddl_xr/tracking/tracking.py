"""The verb track: points of all frames become neurons that are followed."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.neurons import ANCHOR, AUTO, FILLED, Frames
from niddl_xr.schema import NiddlError
from niddl_xr.tracking._anchors import anchors_of
from niddl_xr.tracking._kernels.filling import filled_positions
from niddl_xr.tracking.methods import Anchors, Linked, find_method

if TYPE_CHECKING:
    import pandas as pd


def track(
    detections: pd.DataFrame,
    *,
    method: str = "vote",
    reference: int | None = None,
    anchors: pd.DataFrame | xr.Dataset | None = None,
    gate_um: float = 8.0,
    min_fraction: float = 0.5,
    fill: bool = True,
    seed: int = 0,
    forbidden: pd.DataFrame | None = None,
    former: xr.Dataset | None = None,
    **options: Any,
) -> xr.Dataset:
    """Follow neurons through a recording of detections.

    Parameters
    ----------
    detections
        Table with the columns ``t_index`` and ``z``, ``y``, ``x`` [µm], a row a point: of :func:`detect`, or your own.
    method
        "vote": every frame is matched to many others in the order of their similarity, which vote; for brains that
        move and deform. "template": one template follows the deformation; for worms that hardly move. "body": order
        along the body, for neurons on a cord. "laptrack": linking of neighbouring frames (extra ``tracking``).
    reference
        Frame (from 0) whose points become the neurons. The default leaves the choice to the method.
    anchors
        What a human knows: a table with the columns t_index, neuron, z, y, x [µm], or corrected tracks, whose points of
        provenance "anchor" and "manual" count. They are kept as they are and help all other frames.
    gate_um
        A point farther than this from where a neuron is expected is not that neuron.
    min_fraction
        Neurons that are observed in a smaller part of the frames are dropped, unless an anchor names them.
    fill
        Give neurons that are not detected in a frame the place that their neighbours' motion predicts
        (``observed`` False, provenance "filled"). Without it these positions are NaN.
    seed
        Of the methods that draw random numbers.
    forbidden
        Points that a human has said not to be a neuron; columns as in ``anchors``.
    former
        Tracks of the same recording that say who is meant by the names of ``anchors``: a neuron is the one with which
        it shares most points. Without them it is where the anchors stand that tells.
    **options
        Of the method; a wrong one names those that there are.

    Returns
    -------
    xarray.Dataset
        Dims t, neuron, space = [z, y, x]: ``position`` (float32, µm), ``observed``, ``confidence`` (0 to 1; 0 where
        nothing was detected), ``provenance`` (auto, filled, anchor, manual, as flags), ``det_id`` (row of the table,
        -1 for none). A frame without detections has filled positions only. A table without rows gives no neurons.

    Raises
    ------
    NiddlError
        For missing columns, NaN, points that stand twice, anchors of other frames, an unknown method or option.

    Examples
    --------
    >>> from niddl_xr.simulation import detections, whole_brain
    >>> worm = whole_brain(shape=(8, 60, 90), frames=12, neurons=10, motion="semi")
    >>> tracks = track(detections(worm))
    >>> dict(tracks.sizes)
    {'t': 12, 'neuron': 10, 'space': 3}
    """
    detections = neurons.require_detections(detections)
    if not (np.isfinite(gate_um) and gate_um > 0):
        raise NiddlError(f"expected gate_um as a positive distance in µm, got {gate_um}")
    if not 0 <= min_fraction <= 1:
        raise NiddlError(f"expected min_fraction between 0 and 1, got {min_fraction}")
    frames = neurons.frames_of(detections)
    if reference is not None and not (isinstance(reference, Integral) and 0 <= reference < len(frames)):
        raise NiddlError(f"expected reference as a frame from 0 to {len(frames) - 1}, got {reference}")
    link = find_method(method, options)
    known = anchors_of(anchors, frames, forbidden=forbidden, former=former)
    linked = link(frames, anchors=known, reference=reference, gate_um=gate_um, seed=seed, **options)
    linked = _often_seen(linked, min_fraction, known)
    tracks = _labelled(detections, frames, linked, known, fill)
    parameters = {
        "method": method,
        "reference": reference,
        "anchors": 0 if known is None else len(known.frame),
        "gate_um": gate_um,
        "min_fraction": min_fraction,
        "fill": fill,
        "seed": seed,
        **options,
    }
    return schema.with_history(tracks, "track", parameters)


def _often_seen(linked: Linked, min_fraction: float, anchors: Anchors | None) -> Linked:
    """Drop neurons that are hardly ever observed, and keep those that anchors name."""
    frames_with_points = np.maximum((linked.detection >= 0).any(axis=1).sum(), 1)
    often = (linked.detection >= 0).sum(axis=0) >= min_fraction * frames_with_points
    named = np.isin(np.asarray(linked.names, dtype=object), [] if anchors is None else anchors.names)
    kept = np.flatnonzero(often | named)
    return Linked(
        detection=linked.detection[:, kept],
        confidence=linked.confidence[:, kept],
        names=[linked.names[number] for number in kept],
        position_um=None if linked.position_um is None else linked.position_um[:, kept],
        attrs=linked.attrs,
    )


def _labelled(
    detections: pd.DataFrame, frames: Frames, linked: Linked, anchors: Anchors | None, fill: bool
) -> xr.Dataset:
    names = _all_named(linked.names)
    shape = (len(frames), len(names))
    position, det_id = np.full((*shape, 3), np.nan), np.full(shape, -1)
    for t, numbers in enumerate(linked.detection):
        seen = np.flatnonzero(numbers >= 0)
        position[t, seen] = frames.points[t][numbers[seen]]
        det_id[t, seen] = frames.rows[t][numbers[seen]]
    observed = det_id >= 0
    provenance = np.full(shape, AUTO)
    if anchors is not None:
        place = {name: number for number, name in enumerate(names)}
        for t, name, point, number in zip(
            anchors.frame, anchors.neuron, anchors.position_um, anchors.detection, strict=True
        ):
            column = place[name]
            if number >= 0:  # nobody else's, whatever the method made of it
                others = det_id[t] == frames.rows[t][number]
                position[t, others], observed[t, others], det_id[t, others] = np.nan, False, -1
            position[t, column], observed[t, column], provenance[t, column] = point, True, ANCHOR
            det_id[t, column] = frames.rows[t][number] if number >= 0 else -1
    missing = ~observed
    if fill and len(names):
        predicted = filled_positions(position, observed)
        if linked.position_um is not None:
            known = np.isfinite(linked.position_um).all(axis=-1)
            predicted = np.where(known[..., None], linked.position_um, predicted)
        position[missing] = predicted[missing]
        provenance[missing] = FILLED
    confidence = np.where(missing, 0.0, np.where(provenance == ANCHOR, 1.0, linked.confidence))
    attrs = {
        **(linked.attrs or {}),
        **{key: detections.attrs[key] for key in ("recording_id", schema.HISTORY) if key in detections.attrs},
    }
    return neurons.make_tracks(
        position,
        observed,
        confidence=confidence,
        provenance=provenance,
        det_id=det_id,
        t=neurons.frame_coordinate(detections),
        neurons=names,
        attrs=attrs,
    )


def _all_named(names: list[str]) -> list[str]:
    """Give neurons without a name n001, n002, …, leaving out names that are taken."""
    taken = {name for name in names if name}
    free = iter(name for name in neurons.neuron_names(len(names) + len(taken)) if name not in taken)
    return [name or next(free) for name in names]
