"""Edits played one after the other on arrays of tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from niddl_xr.neurons import ANCHOR, AUTO, FILLED, MANUAL
from niddl_xr.tracking._edit_rows import POINT_OPERATIONS, Edit

# Two places nearer than this are of the same nucleus: nuclei of a worm's head have radii of 1.3 to 2.8 µm.
SAME_POINT_UM = 3.0
_SAME_DETECTION_UM = 0.05  # positions are kept as float32
_SAMPLES = 50
_UNSURE = 0.5  # confidence in a point that the tracker took from a human who has taken it back


class Orphaned(Exception):
    """An edit whose neuron, frame or point is not there; the text is the reason."""


@dataclass
class Arrays:
    """Tracks as arrays that are changed in place: (t, neuron), ``position`` (t, neuron, 3) in µm.

    There are more columns than neurons at first: those in ``place`` are in use. ``edit`` is the number, in ``ids``, of
    the edit that decided a point, -1 for none. ``automatic`` (t, neuron, 3) is where the neurons stood before any edit.
    """

    position: np.ndarray
    observed: np.ndarray
    confidence: np.ndarray
    provenance: np.ndarray
    det_id: np.ndarray
    edit: np.ndarray
    place: dict[str, int]
    names: dict[str, str]
    ids: list[str]
    automatic: np.ndarray = field(init=False)
    rejected: dict[str, str] = field(default_factory=dict)
    forbidden: list[list[object]] = field(default_factory=list)
    conflicts: list[dict[str, object]] = field(default_factory=list)
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        self.automatic = self.position.copy()
        self.columns = len(self.place)

    def column(self, neuron: str) -> int:
        if neuron in self.rejected:
            raise Orphaned(f"{neuron} is rejected by {self.rejected[neuron]}")
        if neuron not in self.place:
            raise Orphaned(f"there is no neuron {neuron}")
        return self.place[neuron]

    def new_column(self, neuron: str) -> int:
        self.place[neuron] = self.columns
        self.names[neuron] = ""
        self.columns += 1
        return self.place[neuron]

    def number(self, edit: Edit) -> int:
        if edit.edit_id not in self.ids:
            self.ids.append(edit.edit_id)
        return self.ids.index(edit.edit_id)

    def stand(self, t: int, column: int, place: tuple[float, float, float], det_id: int, number: int) -> None:
        """Put a neuron where a human says it is."""
        self.position[t, column] = place
        self.observed[t, column], self.confidence[t, column] = True, 1
        self.provenance[t, column], self.det_id[t, column], self.edit[t, column] = MANUAL, det_id, number

    def clear(self, t: int | slice | np.ndarray, column: int, number: int) -> None:
        """Say that a neuron is not known to be anywhere."""
        self.position[t, column] = np.nan
        self.observed[t, column], self.confidence[t, column] = False, 0
        self.provenance[t, column], self.det_id[t, column], self.edit[t, column] = MANUAL, -1, number

    def forbid(self, edit: Edit, t: int, column: int) -> None:
        """Remember that a neuron is not where it is now."""
        if np.isfinite(self.position[t, column]).all():
            self.forbidden.append([edit.edit_id, t, edit.neuron, *self.position[t, column].astype(float).tolist()])

    def copy_points(self, frames: np.ndarray, source: int, target: int, number: int) -> None:
        """Give the points of a column to another, observed ones as said by a human."""
        for values in (self.position, self.observed, self.confidence, self.provenance, self.det_id):
            values[frames, target] = values[frames, source]
        self.provenance[frames[self.observed[frames, target]], target] = MANUAL
        self.edit[frames, target] = number


@dataclass(frozen=True)
class Replayed:
    """What came of edits: the ids of those that stand now, and those that do not, with the reason."""

    applied: list[str]
    orphaned: list[tuple[Edit, str]]


@dataclass(frozen=True)
class Context:
    """What else the edits need: ``versions`` that these tracks are, and the place of detections by row and frame."""

    versions: frozenset[str]
    exact_versions: frozenset[str]
    detection: Callable[[int, int], tuple[float, float, float] | None]


def replay(arrays: Arrays, edits: Iterable[Edit], context: Context, *, known: frozenset[str]) -> Replayed:
    """Play edits, in their order. Those that are ``known`` stand in the arrays already."""
    applied, orphaned = [], []
    for edit in edits:
        try:
            if edit.edit_id in known:
                _recall(arrays, edit)
            else:
                _require_there(arrays, edit, context)
                _PLAY[edit.op](arrays, edit, context)
        except Orphaned as reason:
            orphaned.append((edit, str(reason)))
        else:
            arrays.number(edit)
            applied.append(edit.edit_id)
    return Replayed(applied, orphaned)


def release(arrays: Arrays, undone: Iterable[str]) -> None:
    """Let go of points that undone edits decided before the tracks were made: they are the tracker's again."""
    numbers = [arrays.ids.index(edit_id) for edit_id in undone if edit_id in arrays.ids]
    free = np.isin(arrays.edit, numbers)
    arrays.edit[free] = -1
    arrays.provenance[free] = np.where(arrays.observed[free], AUTO, FILLED)
    arrays.confidence[free] = np.where(arrays.observed[free], _UNSURE, 0)
    gone = {arrays.ids[number] for number in numbers}
    arrays.forbidden = [entry for entry in arrays.forbidden if entry[0] not in gone]


def sample_points(position: np.ndarray, observed: np.ndarray) -> list[list[float]]:
    """Return [t, z, y, x] of a neuron, (t, 3) and (t,), in some of the frames where it is observed, over all time."""
    seen = np.flatnonzero(observed)
    if len(seen):
        seen = seen[np.unique(np.linspace(0, len(seen) - 1, min(len(seen), _SAMPLES)).astype(int))]
    return [[int(t), *np.round(position[t].astype(float), 2).tolist()] for t in seen]


def _recall(arrays: Arrays, edit: Edit) -> None:
    """Play of a known edit what the arrays do not hold: names, and points that a later, undone edit had decided."""
    if edit.op == "name":
        if edit.neuron in arrays.place:
            arrays.names[edit.neuron] = edit.name
    elif edit.op in ("move", "add", "assign") and edit.place is not None and edit.t_start is not None:
        column = arrays.place.get(edit.neuron)
        if column is not None and arrays.edit[edit.t_start, column] < 0:
            arrays.stand(edit.t_start, column, edit.place, -1, arrays.number(edit))


def _require_there(arrays: Arrays, edit: Edit, context: Context) -> None:
    """Raise :class:`Orphaned` where the neuron, the frame or the point of an edit is not there."""
    if edit.op == "comment":
        return
    frames = len(arrays.position)
    last = edit.t_end if edit.t_end is not None else edit.t_start
    if last is not None and last >= frames:
        raise Orphaned(f"frame {last} is beyond the {frames} frames")
    if edit.neuron and edit.op != "add":
        arrays.column(edit.neuron)
    if edit.origin is None or edit.t_start is None or edit.base_version in context.exact_versions:
        return
    if edit.neuron not in arrays.place:  # a new one
        return
    column, t = arrays.column(edit.neuron), edit.t_start
    places = np.stack([arrays.position[t, column], arrays.automatic[t, column]]).astype(float)
    away = np.linalg.norm(places - np.asarray(edit.origin), axis=1)
    if edit.place is not None:  # it may stand where the edit puts it already
        away = np.append(away, np.linalg.norm(places[0] - np.asarray(edit.place)))
    away = away[np.isfinite(away)]
    if not len(away):
        raise Orphaned(f"{edit.neuron} is not there in frame {t}")
    if away.min() > SAME_POINT_UM:
        raise Orphaned(f"{edit.neuron} stands {away.min():.1f} µm from where it was edited in frame {t}")


def _frames(arrays: Arrays, edit: Edit) -> np.ndarray:
    start = 0 if edit.t_start is None else edit.t_start
    return np.arange(start, len(arrays.position) if edit.t_end is None else edit.t_end + 1)


def _frame(edit: Edit) -> int:
    if edit.t_start is None:
        raise Orphaned("it names no frame")
    return edit.t_start


def _move(arrays: Arrays, edit: Edit, context: Context) -> None:
    column = arrays.column(edit.neuron)
    _put(arrays, edit, column, edit.place, -1)


def _add(arrays: Arrays, edit: Edit, context: Context) -> None:
    known = edit.neuron in arrays.place or edit.neuron in arrays.rejected
    _put(arrays, edit, arrays.column(edit.neuron) if known else arrays.new_column(edit.neuron), edit.place, -1)


def _put(arrays: Arrays, edit: Edit, column: int, place: tuple[float, float, float] | None, det_id: int) -> None:
    t = _frame(edit)
    if place is None:
        raise Orphaned("it names no place")
    arrays.forbid(edit, t, column)
    arrays.stand(t, column, place, det_id, arrays.number(edit))


def _assign(arrays: Arrays, edit: Edit, context: Context) -> None:
    column, t = arrays.column(edit.neuron), _frame(edit)
    det_id = -1 if edit.det_id is None else edit.det_id
    holds = arrays.observed[t] & (arrays.det_id[t] == det_id)
    place = edit.place or context.detection(t, det_id)
    if place is None and holds.any():
        first, second, third = arrays.position[t, np.flatnonzero(holds)[0]].astype(float).tolist()
        place = (first, second, third)
    if place is None:
        raise Orphaned(f"the place of detection {det_id} in frame {t} is not known: give z, y, x, or detections=")
    away = np.linalg.norm(arrays.position[t].astype(float) - np.asarray(place), axis=1)
    for other in np.flatnonzero(arrays.observed[t] & (away <= _SAME_DETECTION_UM)):
        if other != column:
            arrays.clear(t, int(other), arrays.number(edit))
    _put(arrays, edit, column, place, det_id)


def _delete(arrays: Arrays, edit: Edit, context: Context) -> None:
    column = arrays.column(edit.neuron)
    for t in _frames(arrays, edit):
        arrays.forbid(edit, int(t), column)
    arrays.clear(_frames(arrays, edit), column, arrays.number(edit))


def _swap(arrays: Arrays, edit: Edit, context: Context) -> None:
    first, second, frames = arrays.column(edit.neuron), arrays.column(edit.other), _frames(arrays, edit)
    if edit.origin is not None:
        here, there = arrays.position[_frame(edit), [first, second]].astype(float)
        to_here, to_there = (np.linalg.norm(place - np.asarray(edit.origin)) for place in (here, there))
        if to_there < to_here:  # two people have swapped the same: once is enough
            return
    kept = [values[frames, first].copy() for values in _values(arrays)]
    arrays.copy_points(frames, second, first, arrays.number(edit))
    for values, before in zip(_values(arrays), kept, strict=True):
        values[frames, second] = before
    arrays.provenance[frames[arrays.observed[frames, second]], second] = MANUAL
    arrays.edit[frames, second] = arrays.number(edit)


def _values(arrays: Arrays) -> tuple[np.ndarray, ...]:
    return arrays.position, arrays.observed, arrays.confidence, arrays.provenance, arrays.det_id


def _split(arrays: Arrays, edit: Edit, context: Context) -> None:
    column, frames = arrays.column(edit.neuron), _frames(arrays, edit)
    if edit.other in arrays.place or edit.other in arrays.rejected:
        raise Orphaned(f"there is a neuron {edit.other} already")
    arrays.copy_points(frames, column, arrays.new_column(edit.other), arrays.number(edit))
    arrays.clear(frames, column, arrays.number(edit))
    before = np.flatnonzero(arrays.observed[: frames[0], column])[-1:]
    _say(arrays, edit, np.ix_(before, np.array([column])))  # else a tracker would give all to the new neuron


def _merge(arrays: Arrays, edit: Edit, context: Context) -> None:
    column, other, frames = arrays.column(edit.neuron), arrays.column(edit.other), _frames(arrays, edit)
    taken = frames[arrays.observed[frames, other] & ~arrays.observed[frames, column]]
    both = frames[arrays.observed[frames, other] & arrays.observed[frames, column]]
    arrays.copy_points(taken, other, column, arrays.number(edit))
    if len(both):
        arrays.conflicts.append({"edit_id": edit.edit_id, "neuron": edit.neuron, "frames": both.tolist()})
    arrays.clear(frames, other, arrays.number(edit))
    if not np.isfinite(arrays.position[:, other]).any():
        del arrays.place[edit.other]


def _reject(arrays: Arrays, edit: Edit, context: Context) -> None:
    arrays.column(edit.neuron)
    arrays.rejected[edit.neuron] = edit.edit_id


def _name(arrays: Arrays, edit: Edit, context: Context) -> None:
    arrays.column(edit.neuron)
    arrays.names[edit.neuron] = edit.name


def _confirm(arrays: Arrays, edit: Edit, context: Context) -> None:
    # What was confirmed cannot be seen from the row: it counts for the version that was looked at.
    if edit.base_version and edit.base_version not in context.versions and edit.origin is None:
        raise Orphaned(f"it confirms another version of the tracks, {edit.base_version}")
    alive = [arrays.place[name] for name in arrays.place if name not in arrays.rejected]
    columns = [arrays.column(edit.neuron)] if edit.neuron else alive
    part = np.ix_(_frames(arrays, edit), np.array(columns, dtype=int))
    _say(arrays, edit, part)


def _say(arrays: Arrays, edit: Edit, part: tuple[np.ndarray, ...]) -> None:
    """Say that observed points are right. What was put by hand stays so."""
    said = arrays.observed[part] & (arrays.provenance[part] != MANUAL)
    arrays.provenance[part] = np.where(said, ANCHOR, arrays.provenance[part])
    arrays.confidence[part] = np.where(said, 1, arrays.confidence[part])
    arrays.edit[part] = np.where(said, arrays.number(edit), arrays.edit[part])


def _comment(arrays: Arrays, edit: Edit, context: Context) -> None:
    """A remark changes nothing."""


_PLAY = {
    "move": _move,
    "add": _add,
    "assign": _assign,
    "delete": _delete,
    "swap": _swap,
    "split": _split,
    "merge": _merge,
    "reject": _reject,
    "name": _name,
    "confirm": _confirm,
    "comment": _comment,
}


def misfits(orphaned: Iterable[tuple[Edit, str]]) -> int:
    """Return how many of the orphaned edits are of single points."""
    return sum(edit.op in POINT_OPERATIONS for edit, _ in orphaned)
