"""Where two people have decided the same point differently."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from niddl_xr.tracking._edit_rows import OPERATIONS, Edit, active_ids

_END = 2**62
_COLUMNS = {
    "neuron": "string",
    "t_start": "Int64",
    "t_end": "Int64",
    **{f"{when}_{what}": "string" for when in ("earlier", "later") for what in ("id", "author", "op")},
    "wins": "string",
    "distance_um": "float64",
}


def conflicts_of(edits: list[Edit]) -> pd.DataFrame:
    """Return a row for every neuron and run of frames on whose state the last words of two authors differ."""
    active = active_ids(edits)
    counted = [edit for edit in edits if edit.edit_id in active and edit.op != "comment"]
    neurons = sorted({name for edit in counted for name in (edit.neuron, edit.other) if name})
    rows = [row for neuron in neurons for row in (*_of_points(neuron, counted), *_of_names(neuron, counted))]
    table = pd.DataFrame({column: [row[column] for row in rows] for column in _COLUMNS})
    return table.astype(_COLUMNS).sort_values(["later_id", "neuron", "t_start"], ignore_index=True)


def _of_names(neuron: str, edits: Iterable[Edit]) -> list[dict[str, Any]]:
    last = {edit.author: edit for edit in edits if edit.op == "name" and edit.neuron == neuron}
    return [
        _row(neuron, None, None, earlier, later)
        for earlier, later in itertools.combinations(_by_time(last.values(), edits), 2)
        if earlier.name != later.name
    ]


def _of_points(neuron: str, edits: list[Edit]) -> list[dict[str, Any]]:
    """Cut time where any edit begins or ends; between two cuts the last word of every author is one."""
    touching = [edit for edit in edits if _touches(edit, neuron)]
    if len({edit.author for edit in touching}) < 2:
        return []
    spans = {edit.edit_id: _span(edit) for edit in touching}
    cuts = sorted({cut for start, end in spans.values() for cut in (start, min(end + 1, _END))})
    runs: dict[tuple[str, str], list[list[int]]] = {}
    for start, end in itertools.pairwise(cuts):
        last: dict[str, Edit] = {}
        for edit in touching:
            if spans[edit.edit_id][0] <= start and end - 1 <= spans[edit.edit_id][1]:
                last[edit.author] = edit
        for earlier, later in itertools.combinations(_by_time(last.values(), touching), 2):
            if _same(earlier, later, neuron):
                continue
            found = runs.setdefault((earlier.edit_id, later.edit_id), [])
            if found and found[-1][1] == start - 1:
                found[-1][1] = end - 1
            else:
                found.append([start, end - 1])
    by_id = {edit.edit_id: edit for edit in touching}
    return [
        _row(neuron, start, None if end >= _END - 1 else end, by_id[earlier], by_id[later])
        for (earlier, later), found in runs.items()
        for start, end in found
    ]


def _touches(edit: Edit, neuron: str) -> bool:
    if edit.op == "name":
        return False
    return neuron in (edit.neuron, edit.other) or (edit.op == "confirm" and not edit.neuron)


def _span(edit: Edit) -> tuple[int, int]:
    if edit.op == "reject" or edit.t_start is None:
        return 0, _END
    if edit.t_end is None:
        return edit.t_start, _END if OPERATIONS[edit.op].to_end else edit.t_start
    return edit.t_start, edit.t_end


def _by_time(edits: Iterable[Edit], order: Iterable[Edit]) -> list[Edit]:
    place = {edit.edit_id: number for number, edit in enumerate(order)}
    return sorted(edits, key=lambda edit: place[edit.edit_id])


def _same(first: Edit, second: Edit, neuron: str) -> bool:
    """Whether two edits mean the same state of a neuron. What a confirmed point is, its row says only of one point."""
    here, there = _state(first, neuron), _state(second, neuron)
    return here == there


def _state(edit: Edit, neuron: str) -> tuple[Any, ...]:
    if edit.op in ("move", "add", "assign"):
        return ("at", edit.place) if edit.place is not None else ("detection", edit.det_id)
    if edit.op == "confirm":
        return ("at", edit.origin) if edit.origin is not None else ("confirmed",)
    if edit.op == "swap":  # which of the two was named first says nothing
        return ("swap", frozenset((edit.neuron, edit.other)), _span(edit))
    if edit.op in ("split", "merge"):
        return (edit.op, edit.neuron, edit.other, _span(edit))
    return (edit.op,)


def _row(neuron: str, start: int | None, end: int | None, earlier: Edit, later: Edit) -> dict[str, Any]:
    places = [edit.origin if edit.op == "confirm" else edit.place for edit in (earlier, later)]
    distance = np.nan
    if places[0] is not None and places[1] is not None:
        distance = float(np.linalg.norm(np.subtract(places[0], places[1])))
    rejected = earlier.op == "reject"
    return {
        "neuron": neuron,
        "t_start": start,
        "t_end": end,
        **{
            f"{when}_{what}": value
            for when, edit in (("earlier", earlier), ("later", later))
            for what, value in (("id", edit.edit_id), ("author", edit.author), ("op", edit.op))
        },
        "wins": earlier.edit_id if rejected else later.edit_id,
        "distance_um": distance,
    }
