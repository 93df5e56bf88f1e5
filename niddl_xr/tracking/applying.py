"""The verbs apply_edits and merge_edits: what humans have said, laid over tracks and over one another."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.neurons import AUTO, FILLED, PROVENANCE, TRACE_DIMS, TRACK_DIMS, require_tracks
from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.tracking._edit_conflicts import conflicts_of
from niddl_xr.tracking._edit_record import APPLIED, CONFLICTS, FORBIDDEN, GONE, ORPHANED, Before
from niddl_xr.tracking._edit_replay import Arrays, Context, Replayed, misfits, release, replay, sample_points
from niddl_xr.tracking._edit_rows import POINT_OPERATIONS, Edit, EditWarning, active_ids, as_table, edits_of, rows_of
from niddl_xr.tracking.edits import EditLog, read_edits

Edits: TypeAlias = EditLog | pd.DataFrame | str | os.PathLike[str]

_VARIABLES = ("position", "observed", "confidence", "provenance", "det_id", "edit")
_VERB = "apply_edits"
_FEW = 3


def apply_edits(tracks: xr.Dataset, edits: Edits, *, detections: pd.DataFrame | None = None) -> xr.Dataset:
    """Lay the corrections of a log over tracks.

    Parameters
    ----------
    tracks
        What :func:`track` or :func:`retrack` gave; it stays as it is. Tracks that are edited already get what is new.
    edits
        :class:`EditLog`, its folder, or its table. Edits that are undone do not count.
    detections
        The table that was tracked: the places of detections that are assigned to a neuron, where neither the edit nor
        the tracks hold them.

    Returns
    -------
    xarray.Dataset
        Tracks in which all edits stand: the same edits give the same tracks, and applying them again changes nothing.
        ``provenance`` is "manual" for points that were moved, added, assigned, swapped, split off or merged, and
        "anchor" for confirmed ones and the last before a split; both have ``confidence`` 1. A deleted point is NaN and
        not observed. Neurons that
        are rejected, or merged into another, are gone. The coordinate ``name`` (neuron) holds their names, "" for none.
        ``edit`` (t, neuron) is the place in ``attrs["edits_applied"]`` of the edit that decided the point, -1 for none.

        In ``attrs``, beside ``version_id`` and ``base_version`` (of the tracks before any edit), JSON lists:
        ``edits_applied`` (ids), ``edits_orphaned`` (edit_id, op, neuron, t_start, reason), and ``edits_conflicts``
        (frames in which both neurons of a merge were observed; the points of ``other`` there were given up).

    Raises
    ------
    NiddlError
        For edits of another recording; where three or more edits of points, and most of them, do not fit the tracks;
        and for edited tracks of which an edit has been undone, or has come in between, since.

    Warns
    -----
    EditWarning
        Where edits do not fit: their neuron or frame is not there, or the neuron stands more than 3 µm from where it
        stood when it was edited. They are listed, and not applied; they stay in the log.

    Notes
    -----
    Edits are played in the order of their times; of two that decide the same point the later one wins. An edit made on
    these very tracks (``base_version``) fits always. 3 µm is what tells nuclei of a worm's head apart, whose radii are
    1.3 to 2.8 µm. Two people who swap the same neurons, each on their own, have swapped them once.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from niddl_xr.simulation import whole_brain
    >>> tracks = whole_brain(shape=(5, 40, 64), frames=8, neurons=6)["tracks"].to_dataset()
    >>> with TemporaryDirectory() as folder:
    ...     log = EditLog(folder, author="first reader")
    ...     _ = log.append("name", neuron="n002", name="RID", tracks=tracks)
    ...     _ = log.append("move", neuron="n002", t=3, z=1.0, y=8.0, x=9.0, tracks=tracks)
    ...     edited = apply_edits(tracks, log)
    >>> edited.name.values.tolist()[:2], edited.position.sel(neuron="n002")[3].values.tolist()
    (['', 'RID'], [1.0, 8.0, 9.0])
    """
    tracks = require_tracks(tracks)
    listed = edits_of(read_edits(edits))
    _require_same_recording(tracks, listed)
    before = Before.of(tracks)
    active = active_ids(listed)
    undone = [edit_id for edit_id in before.applied if edit_id not in active]
    _require_playable(before, undone, [edit for edit in listed if edit.edit_id in active])
    due = [edit for edit in listed if edit.edit_id in active and edit.edit_id not in before.orphans]
    arrays = _arrays(tracks, due, before)
    release(arrays, undone)
    gone = set(undone)
    for edit in listed:
        if edit.edit_id in gone and edit.op == "name" and edit.neuron in arrays.names:
            arrays.names[edit.neuron] = ""
    context = _context(tracks, before, detections)
    replayed = replay(arrays, due, context, known=frozenset(before.applied))
    replayed.orphaned.extend(_stray_undos(listed, before))
    new_points = [edit for edit in due if edit.op in POINT_OPERATIONS and edit.edit_id not in before.applied]
    _report(replayed, len(new_points), listed)
    return _edited(tracks, arrays, replayed, before, listed)


def merge_edits(a: Edits, b: Edits) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Unite two logs, and list where their authors disagree.

    Parameters
    ----------
    a, b
        :class:`EditLog`, its folder, or its table, in any order. :meth:`EditLog.extend` copies one into another.

    Returns
    -------
    edits : pandas.DataFrame
        All edits of both, each once, in the order of time, as :meth:`EditLog.table` has them.
    conflicts : pandas.DataFrame
        A row for every neuron and run of frames that two authors have decided differently; undone edits do not count.
        ``neuron``, ``t_start``, ``t_end`` (frames, <NA> for all and for the end), of both edits the id, author and
        operation (``earlier_id``, ``earlier_author``, ``earlier_op``, ``later_id``, …), ``wins`` (the id of the one
        that counts: the later, but a rejected neuron stays rejected) and ``distance_um`` between the places that they
        give, NaN where they do not give places.

    Raises
    ------
    NiddlError
        For edits of two recordings, and where an id stands for two different edits.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as mine, TemporaryDirectory() as yours:
    ...     first = EditLog(mine, author="first reader")
    ...     second = EditLog(yours, author="second reader")
    ...     _ = first.append("move", neuron="n004", t=2, z=1.0, y=8.0, x=5.0)
    ...     _ = second.append("move", neuron="n004", t=2, z=1.0, y=8.0, x=9.0)
    ...     edits, conflicts = merge_edits(first, second)
    >>> len(edits), conflicts[["neuron", "t_start", "t_end", "distance_um"]].values.tolist()
    (2, [['n004', 2, 2, 4.0]])
    """
    found: dict[str, dict[str, Any]] = {}
    for table in (read_edits(a), read_edits(b)):
        for row in rows_of(table):
            if found.setdefault(row["edit_id"], row) != row:
                raise NiddlError(f"expected an edit an id, got two different ones of the id {row['edit_id']}")
    recordings = sorted({row["recording_id"] for row in found.values() if row["recording_id"]})
    if len(recordings) > 1:
        raise NiddlError(f"expected edits of one recording, got edits of {', '.join(recordings)}")
    edits = as_table(found.values())
    return edits, conflicts_of(edits_of(edits))


def _require_same_recording(tracks: xr.Dataset, edits: Iterable[Edit]) -> None:
    mine = str(tracks.attrs.get("recording_id") or "")
    others = sorted({edit.recording_id for edit in edits} - {"", mine})
    if mine and others:
        raise NiddlError(
            f"expected edits of the recording {mine}, as the tracks, got edits of {', '.join(others)}: "
            "is this the log of another recording?"
        )


def _require_playable(before: Before, undone: list[str], active: list[Edit]) -> None:
    """Raise where the outcome would depend on what edited tracks do not hold any more: the points before an edit."""
    remedy = "apply all edits to the tracks as they were before, of track or retrack"
    known = set(before.known)
    lost = [edit_id for edit_id in undone if edit_id not in known]
    if lost:
        raise NiddlError(f"the edit {lost[0]} stands in these tracks, but is undone in the log, or not in it: {remedy}")
    here = {*before.applied, *before.orphans}
    last = max((number for number, edit in enumerate(active) if edit.edit_id in here - known), default=-1)
    late = [edit.edit_id for edit in active[: last + 1] if edit.edit_id not in here]
    if late:
        raise NiddlError(f"the edit {late[0]} is older than others that stand in these tracks: {remedy}")


def _arrays(tracks: xr.Dataset, edits: Iterable[Edit], before: Before) -> Arrays:
    """Copy tracks into arrays with room for the neurons that the edits may add."""
    names = [str(name) for name in tracks["neuron"].values.tolist()]
    new = {name for edit in edits for name in (edit.neuron, edit.other) if name} - set(names)

    def with_room(name: str, dtype: Any, empty: Any, default: np.ndarray | None = None) -> np.ndarray:
        if default is None or name in tracks:
            default = tracks[name].transpose("t", "neuron", ...).values
        room = np.full((len(default), len(new), *default.shape[2:]), empty, dtype)
        return np.concatenate([default.astype(dtype), room], axis=1)

    observed = tracks["observed"].transpose(*TRACE_DIMS).values.astype(bool)
    nothing = np.full(observed.shape, -1)
    known = tracks["name"].values.tolist() if "name" in tracks.coords else [""] * len(names)
    arrays = Arrays(
        position=with_room("position", np.float32, np.nan),
        observed=with_room("observed", bool, False),
        confidence=with_room("confidence", np.float32, 0, observed),
        provenance=with_room("provenance", np.uint8, AUTO, np.where(observed, AUTO, FILLED)),
        det_id=with_room("det_id", np.int32, -1, nothing),
        edit=with_room("edit", np.int32, -1, nothing),
        place={name: number for number, name in enumerate(names)},
        names={name: str(given) for name, given in zip(names, known, strict=True)},
        ids=list(before.applied),
    )
    arrays.forbidden, arrays.conflicts = list(before.forbidden), list(before.conflicts)
    return arrays


def _context(tracks: xr.Dataset, before: Before, detections: pd.DataFrame | None) -> Context:
    stated = {str(tracks.attrs.get(key) or "") for key in ("version_id", "base_version")} - {""}
    now = neurons.version_id(tracks) if {"observed", "provenance"} <= set(tracks.data_vars) else ""
    exact = {now}
    if before.applied and now == tracks.attrs.get("version_id"):  # edited tracks, as they left here
        exact |= stated
    return Context(frozenset(stated | exact) - {""}, frozenset(exact) - {""}, _places_of(detections))


def _places_of(detections: pd.DataFrame | None) -> Callable[[int, int], tuple[float, float, float] | None]:
    if detections is None:
        return lambda t, det_id: None
    table = neurons.require_detections(detections)
    points, frame = table[list(SPACE_DIMS)].to_numpy(float), table["t_index"].to_numpy(int)

    def place(t: int, det_id: int) -> tuple[float, float, float] | None:
        if det_id < 0 or det_id >= len(points) or frame[det_id] != t:
            return None
        first, second, third = points[det_id].tolist()
        return first, second, third

    return place


def _stray_undos(edits: list[Edit], before: Before) -> list[tuple[Edit, str]]:
    ids = {edit.edit_id for edit in edits}
    stray = (
        edit for edit in edits if edit.op == "undo" and edit.target not in ids and edit.edit_id not in before.orphans
    )
    return [(edit, f"the edit that it undoes, {edit.target}, is not in the log") for edit in stray]


def _report(replayed: Replayed, points: int, edits: list[Edit]) -> None:
    lost = misfits(replayed.orphaned)
    reasons = "; ".join(f"{edit.op} {edit.edit_id}: {reason}" for edit, reason in replayed.orphaned[:_FEW])
    if lost >= _FEW and 2 * lost > points:
        raise NiddlError(
            f"expected edits of these tracks, got {lost} of {points} edits of points that do not fit ({reasons}): are "
            "they of another recording, or of tracks in which the neurons have other ids? retrack keeps the ids"
        )
    if replayed.orphaned:
        more = "; …" if len(replayed.orphaned) > _FEW else ""
        warnings.warn(
            f"edits that do not fit these tracks and are not applied: {len(replayed.orphaned)} ({reasons}{more}); "
            f"see attrs[{ORPHANED!r}]",
            EditWarning,
            stacklevel=3,
        )


def _edited(tracks: xr.Dataset, arrays: Arrays, replayed: Replayed, before: Before, edits: list[Edit]) -> xr.Dataset:
    names = [name for name in arrays.place if name not in arrays.rejected]
    columns = [arrays.place[name] for name in names]
    active = active_ids(edits)
    ids = [edit_id for edit_id in arrays.ids if edit_id in active]
    renumbered = np.array([ids.index(edit_id) if edit_id in active else -1 for edit_id in arrays.ids] + [-1], np.int32)
    arrays.edit = renumbered[arrays.edit]
    flags = {"flag_values": list(range(len(PROVENANCE))), "flag_meanings": " ".join(PROVENANCE)}
    attrs: dict[str, dict[str, Any]] = {
        "position": {"units": "µm"},
        "provenance": flags,
        "det_id": {"long_name": "row of the detections, -1 for none"},
        "edit": {"long_name": f"place in attrs {APPLIED}, -1 for none"},
    }
    edited = _for_neurons(tracks.drop_vars([*_VARIABLES, "name"], errors="ignore"), names).assign(
        {
            name: (
                TRACK_DIMS if name == "position" else TRACE_DIMS,
                getattr(arrays, name)[:, columns],
                dict(tracks[name].attrs) if name in tracks else attrs.get(name, {}),
            )
            for name in _VARIABLES
        }
    )
    given = [arrays.names[name] for name in names]
    edited = edited.assign_coords(name=("neuron", np.array(given, dtype=str)))
    twice = sorted({name for name in given if name and given.count(name) > 1})
    if twice:
        warnings.warn(f"two neurons have the name {', '.join(twice)}", EditWarning, stacklevel=3)
    gone = {name: entry for name, entry in before.gone.items() if name not in names}
    for name, edit_id in arrays.rejected.items():
        column = arrays.place[name]
        gone[name] = edit_id, sample_points(arrays.position[:, column], arrays.observed[:, column])
    kept = active | {edit.edit_id for edit in edits if edit.op == "undo"}
    orphaned = [entry for edit_id, entry in before.orphans.items() if edit_id in kept]
    orphaned += [
        {"edit_id": edit.edit_id, "op": edit.op, "neuron": edit.neuron, "t_start": edit.t_start, "reason": reason}
        for edit, reason in replayed.orphaned
    ]
    record = {
        APPLIED: ids,
        ORPHANED: orphaned,
        CONFLICTS: arrays.conflicts,
        FORBIDDEN: arrays.forbidden,
        GONE: [[name, *gone[name]] for name in sorted(gone)],
    }
    base = tracks.attrs.get("base_version") if before.applied else None
    edited = edited.assign_attrs(
        {key: json.dumps(value) for key, value in record.items()},
        base_version=base or tracks.attrs.get("version_id") or neurons.version_id(edited),
        version_id=neurons.version_id(edited),
    )
    return _with_history(edited, {"edits": len(ids), "orphaned": len(orphaned), "last": ids[-1] if ids else ""})


def _for_neurons(rest: xr.Dataset, names: list[str]) -> xr.Dataset:
    """Return what else goes with neurons, for these: nothing ("", NaN, False) for new ones."""
    new = set(names) - set(rest["neuron"].values.tolist())
    if not new:
        return rest.sel(neuron=names)
    fill = {
        str(name): {"U": "", "O": "", "b": False}.get(item.dtype.kind, np.nan)
        for name, item in rest.variables.items()
        if "neuron" in item.dims and name != "neuron"
    }
    return rest.reindex(neuron=names, fill_value=fill)


def _with_history(edited: xr.Dataset, parameters: dict[str, Any]) -> xr.Dataset:
    """Let the history end with this call; an earlier call on the same tracks is part of it."""
    entries = schema.history(edited)
    if entries and entries[-1]["verb"] == _VERB:
        if entries[-1]["parameters"] == parameters:
            return edited
        edited = edited.assign_attrs({schema.HISTORY: json.dumps(entries[:-1])})
    return schema.with_history(edited, _VERB, parameters)
