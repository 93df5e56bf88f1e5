"""The verb retrack: tracking again with what humans have said."""

from __future__ import annotations

import json
from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from niddl_xr import neurons, schema
from niddl_xr.neurons import ANCHOR, AUTO, MANUAL, TRACE_DIMS, Frames
from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.tracking._edit_record import APPLIED, FORBIDDEN, GONE, KNOWN, listed
from niddl_xr.tracking._edit_replay import SAME_POINT_UM, sample_points
from niddl_xr.tracking.applying import Edits, apply_edits
from niddl_xr.tracking.edits import read_edits
from niddl_xr.tracking.tracking import track

LINEAGE = "retracked_from"
_SHARED = ("reference", "gate_um", "min_fraction", "fill", "seed")
_GIVEN = ("anchors", "forbidden", "former")
_MARK = "@"  # before a name that a method is told


def retrack(detections: pd.DataFrame, tracks: xr.Dataset, edits: Edits, **track_kw: Any) -> xr.Dataset:
    """Track again, with the corrections as what is known.

    Points that are moved, added, assigned, swapped or confirmed are anchors, which the method keeps and from which it
    learns about all other frames; points that are deleted or moved away are forbidden. Beside them it is told, in
    one frame, who the neurons with anchors are. The corrections stand in the result.

    Parameters
    ----------
    detections
        The table that was tracked, or another of the same recording.
    tracks
        What :func:`track` gave, or a former :func:`retrack`, edited or not.
    edits
        :class:`EditLog`, its folder, or its table.
    **track_kw
        Parameters of :func:`track` that shall differ from those by which ``tracks`` came about; ``method`` is one.

    Returns
    -------
    xarray.Dataset
        Tracks as of :func:`apply_edits`, of the new version. Neurons keep their ids, and with them their names: those
        that a human has anchored, and those that share detections with a neuron of ``tracks``, each with the one that
        makes the sum of shared detections largest. Others get ids that were never used. Rejected neurons stay
        rejected. A neuron that has a name, and is not found again, stays with positions NaN.
        ``attrs["retracked_from"]``, a JSON list, holds the versions from which these tracks descend, oldest first.

    Raises
    ------
    NiddlError
        For detections of another number of frames, ``anchors`` or ``forbidden`` among the parameters, and all that
        :func:`apply_edits` and :func:`track` raise for.

    Warns
    -----
    EditWarning
        As of :func:`apply_edits`.

    Notes
    -----
    An edit that is undone after a re-tracking lets go of its points: they count as the tracker's, where they are, until
    the next re-tracking. A neuron whose rejection is undone comes back with the next re-tracking. Sharing is counted by
    detections within 3 µm of a neuron's observed points; the assignment is the Hungarian method's.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from niddl_xr.simulation import detections, whole_brain
    >>> from niddl_xr.tracking import EditLog
    >>> found = detections(whole_brain(shape=(8, 60, 90), frames=12, neurons=10, motion="semi"))
    >>> tracks = track(found, method="template")
    >>> with TemporaryDirectory() as folder:
    ...     log = EditLog(folder, author="first reader")
    ...     _ = log.append("confirm", t=5, tracks=tracks)
    ...     again = retrack(found, tracks, log)
    >>> bool((again.provenance[5] == 2).any()), again.neuron.values.tolist() == tracks.neuron.values.tolist()
    (True, True)
    """
    detections = neurons.require_detections(detections)
    table = read_edits(edits)
    edited = apply_edits(tracks, table, detections=detections)
    if neurons.number_of_frames(detections) != edited.sizes["t"]:
        raise NiddlError(
            f"expected detections of the {edited.sizes['t']} frames of the tracks, got "
            f"{neurons.number_of_frames(detections)}: are they of this recording?"
        )
    given = sorted(set(track_kw) & set(_GIVEN))
    if given:
        raise NiddlError(f"expected parameters of track without {given}: the edits say what is known")
    frames = neurons.frames_of(detections)
    anchors, forbidden = _anchors(edited), _forbidden(edited)
    parameters = _parameters(edited, track_kw)
    least = float(parameters.pop("min_fraction", signature(track).parameters["min_fraction"].default))
    # Neurons that there are stay, however rarely they are seen now: who is dropped is decided when all have their ids.
    found = track(
        detections,
        anchors=_told(anchors),
        forbidden=_told(forbidden),
        former=edited.assign_coords(neuron=[f"{_MARK}{name}" for name in edited["neuron"].values]),
        min_fraction=0.0,
        **parameters,
    )
    found = _with_old_names(found, edited, frames, anchors, _taken(table))
    found = _often_seen(found, edited, anchors, least)
    found = _standing(found, edited, forbidden)
    origin = str(edited.attrs["base_version"])
    found = found.assign_attrs(
        {
            **{key: edited.attrs[key] for key in (APPLIED, FORBIDDEN)},
            GONE: json.dumps(_gone(found, edited)),
            KNOWN: edited.attrs[APPLIED],
            LINEAGE: json.dumps([*listed(edited, LINEAGE), origin]),
            "version_id": neurons.version_id(found),
        }
    )
    found = found.assign_attrs(base_version=found.attrs["version_id"])
    if "recording_id" in edited.attrs:  # which detections of another tool do not state
        found.attrs.setdefault("recording_id", edited.attrs["recording_id"])
    counts: dict[str, Any] = {"min_fraction": least}
    counts |= {"edits": len(listed(edited, APPLIED)), "anchors": len(anchors), "forbidden": len(forbidden)}
    found = schema.with_history(found, "retrack", {**counts, "version_id": origin})
    return apply_edits(found, table, detections=detections)


def _anchors(edited: xr.Dataset) -> pd.DataFrame:
    """Return the points that a human has decided, in the order of the edits: t_index, neuron, z, y, x [µm]."""
    said = np.isin(edited["provenance"].values, (ANCHOR, MANUAL)) & edited["observed"].values
    frame, neuron = np.nonzero(said & np.isfinite(edited["position"].values).all(axis=-1))
    order = np.lexsort([frame, neuron, edited["edit"].values[frame, neuron]])
    frame, neuron = frame[order], neuron[order]
    points = edited["position"].values[frame, neuron].astype(float)
    names = edited["neuron"].values[neuron].astype(object)
    return pd.DataFrame({"t_index": frame, "neuron": names, **dict(zip(SPACE_DIMS, points.T, strict=True))})


def _told(points: pd.DataFrame) -> pd.DataFrame:
    """Mark names, lest a method takes them for those that it gives itself: its n007 need not be the n007 of before."""
    return points.assign(neuron=_MARK + points["neuron"].astype(str))


def _point_table(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["t_index", "neuron", *SPACE_DIMS])
    return table.astype({"t_index": int, "neuron": object, **dict.fromkeys(SPACE_DIMS, float)})


def _often_seen(found: xr.Dataset, edited: xr.Dataset, anchors: pd.DataFrame, least: float) -> xr.Dataset:
    """Drop new neurons that are hardly seen, as track does; those that there were, or that a human named, stay."""
    seen = found["observed"].values
    often = seen.sum(axis=0) >= least * max(seen.any(axis=1).sum(), 1)
    known = {*edited["neuron"].values.tolist(), *anchors["neuron"]}
    kept = often | np.isin(found["neuron"].values.astype(object), list(known))
    return found.isel(neuron=np.flatnonzero(kept))


def _gone(found: xr.Dataset, edited: xr.Dataset) -> list[list[Any]]:
    """Return neurons that there were, with points by which they are recognised should they come back."""
    present = set(found["neuron"].values.tolist())
    gone = [entry for entry in listed(edited, GONE) if entry[0] not in present]
    for neuron in edited["neuron"].values.tolist():
        if neuron not in present:
            former = edited.sel(neuron=neuron)
            gone.append([neuron, "", sample_points(former["position"].values, former["observed"].values)])
    return gone


def _given_names(edited: xr.Dataset) -> dict[str, str]:
    return dict(zip(edited["neuron"].values.tolist(), edited["name"].values.tolist(), strict=True))


def _forbidden(edited: xr.Dataset) -> pd.DataFrame:
    """Return the points that a human has taken from neurons, one a neuron and frame: the first, which was tracked.

    Where the neuron still stands within 3 µm, the point has only been put right.
    """
    place = {name: number for number, name in enumerate(edited["neuron"].values.tolist())}
    position = edited["position"].values
    rows: dict[tuple[int, str], list[float]] = {}
    for _, t, neuron, *point in listed(edited, FORBIDDEN):
        if neuron in place:
            away = np.linalg.norm(position[t, place[neuron]] - np.asarray(point))
            if not away <= SAME_POINT_UM:
                rows.setdefault((t, neuron), point)
    return _point_table([(t, neuron, *point) for (t, neuron), point in rows.items()])


def _parameters(tracks: xr.Dataset, track_kw: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters by which tracks came about, as their history says, with others in their place."""
    stored: dict[str, Any] = {}
    for entry in schema.history(tracks):
        if entry["verb"] == "track":
            stored = dict(entry["parameters"])
        elif entry["verb"] == "retrack" and "min_fraction" in entry["parameters"]:
            stored["min_fraction"] = entry["parameters"]["min_fraction"]
    stored.pop("anchors", None)
    if "method" in track_kw and track_kw["method"] != stored.get("method"):
        stored = {key: value for key, value in stored.items() if key in _SHARED}
    return {**stored, **track_kw}


def _taken(table: pd.DataFrame) -> set[str]:
    """Return the ids of neurons that edits speak of."""
    return {str(name) for column in ("neuron", "other") for name in table[column] if name}


def _with_old_names(
    found: xr.Dataset, edited: xr.Dataset, frames: Frames, anchors: pd.DataFrame, taken: set[str]
) -> xr.Dataset:
    """Give neurons the ids of those with which they share most detections; anchored ones have theirs already."""
    marked = {_MARK + name: name for name in anchors["neuron"]}
    names = [marked.get(str(name), "") for name in found["neuron"].values.tolist()]
    anchored = set(marked.values())
    fixed = {number for number, name in enumerate(names) if name}
    old, owner = _old_owners(edited, frames)
    free = [number for number, name in enumerate(old) if name not in anchored]
    loose = [number for number in range(len(names)) if number not in fixed]
    shared = _shared(found, owner, len(old))[np.ix_(loose, free)]
    renamed = dict.fromkeys(loose, "")
    for row, column in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[row, column] > 0:
            renamed[loose[row]] = old[free[column]]
    used = {*old, *anchored, *taken, *edited["neuron"].values.tolist()}
    unused = (name for name in neurons.neuron_names(len(used) + 2 * len(names) + 1) if name not in used)
    new = [names[number] if number in fixed else renamed[number] or next(unused) for number in range(len(names))]
    rank = {name: number for number, name in enumerate(edited["neuron"].values.tolist())}
    order = sorted(range(len(new)), key=lambda number: (rank.get(new[number], len(rank)), new[number]))
    applied = set(listed(edited, APPLIED))
    rejected = {name for name, edit_id, _ in listed(edited, GONE) if edit_id in applied}
    order = [number for number in order if new[number] not in rejected]
    return found.assign_coords(neuron=np.array(new, dtype=str)).isel(neuron=order)


def _old_owners(edited: xr.Dataset, frames: Frames) -> tuple[list[str], np.ndarray]:
    """Return the old neurons, rejected ones among them, and for every row of the detections whose it was, or -1."""
    names = [str(name) for name in edited["neuron"].values.tolist()]
    owner = np.full(sum(len(rows) for rows in frames.rows), -1)
    trees = [KDTree(points) if len(points) else None for points in frames.points]

    def own(t: int, points: np.ndarray, numbers: np.ndarray) -> None:
        tree = trees[t]
        if tree is not None and len(points):
            away, nearest = tree.query(points)
            near = away <= SAME_POINT_UM
            owner[frames.rows[t][nearest[near]]] = numbers[near]

    for neuron, _, samples in listed(edited, GONE):
        if neuron not in names:
            names.append(neuron)
        for t, *point in samples:
            own(int(t), np.array([point]), np.array([names.index(neuron)]))
    position, observed = edited["position"].values.astype(float), edited["observed"].values
    for t in range(len(frames)):
        seen = np.flatnonzero(observed[t] & np.isfinite(position[t]).all(axis=-1))
        own(t, position[t, seen], seen)
    return names, owner


def _shared(found: xr.Dataset, owner: np.ndarray, old: int) -> np.ndarray:
    """Return how many detections each new neuron shares with each old one."""
    det_id = found["det_id"].values
    _, neuron = np.nonzero(det_id >= 0)
    whose = owner[det_id[det_id >= 0]]
    shared = np.zeros((found.sizes["neuron"], old))
    np.add.at(shared, (neuron[whose >= 0], whose[whose >= 0]), 1)
    return shared


def _standing(found: xr.Dataset, edited: xr.Dataset, forbidden: pd.DataFrame) -> xr.Dataset:
    """Let every edit stand: decided points as they were decided, nothing where it was deleted, no name lost."""
    lost = _named_but_lost(found, edited)
    if lost:
        fill = {"position": np.nan, "observed": False, "confidence": 0, "provenance": 0, "det_id": -1}
        found = found.reindex(neuron=[*found["neuron"].values.tolist(), *lost], fill_value=fill)
    there = {name: number for number, name in enumerate(found["neuron"].values.tolist())}
    both = [(there[name], number) for number, name in enumerate(edited["neuron"].values.tolist()) if name in there]
    new, old = (
        (np.array(columns, dtype=int) for columns in zip(*both, strict=True)) if both else (np.empty(0, int),) * 2
    )
    values = {
        name: found[name].values.copy() for name in ("position", "observed", "confidence", "provenance", "det_id")
    }
    edit = np.full(values["observed"].shape, -1, np.int32)
    said = np.isin(edited["provenance"].values, (ANCHOR, MANUAL)) & edited["observed"].values
    for column, former in zip(new, old, strict=True):
        told = np.flatnonzero(values["provenance"][:, column] == ANCHOR)  # who is who, which no human has said
        values["confidence"][told, column] = edited["confidence"].values[told, former]
        values["provenance"][told, column] = AUTO
        t = np.flatnonzero(said[:, former])
        values["position"][t, column] = edited["position"].values[t, former]
        values["observed"][t, column], values["confidence"][t, column] = True, 1
        values["provenance"][t, column] = edited["provenance"].values[t, former]
        edit[t, column] = edited["edit"].values[t, former]
    _keep_deleted(values, edit, edited, forbidden, there)
    given = _given_names(edited)
    names = np.array([given.get(name, "") for name in there], dtype=str)
    changed = {name: (found[name].dims, array, found[name].attrs) for name, array in values.items()}
    return found.assign({**changed, "edit": (TRACE_DIMS, edit)}).assign_coords(name=("neuron", names))


def _named_but_lost(found: xr.Dataset, edited: xr.Dataset) -> list[str]:
    present = set(found["neuron"].values.tolist())
    return [neuron for neuron, name in _given_names(edited).items() if name and neuron not in present]


def _keep_deleted(
    values: dict[str, np.ndarray],
    edit: np.ndarray,
    edited: xr.Dataset,
    forbidden: pd.DataFrame,
    there: dict[str, int],
) -> None:
    """Take away points that the method has put, or filled, where a human has said that the neuron is not."""
    former = {name: number for number, name in enumerate(edited["neuron"].values.tolist())}
    for row in forbidden.itertuples(index=False):
        if row.neuron not in there or edited["observed"].values[row.t_index, former[row.neuron]]:
            continue
        t, column = row.t_index, there[row.neuron]
        if np.linalg.norm(values["position"][t, column] - np.array([row.z, row.y, row.x])) <= SAME_POINT_UM:
            values["position"][t, column] = np.nan
            values["observed"][t, column], values["confidence"][t, column] = False, 0
            values["provenance"][t, column], values["det_id"][t, column] = MANUAL, -1
            edit[t, column] = edited["edit"].values[t, former[row.neuron]]
