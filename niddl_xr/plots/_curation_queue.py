"""The list of what to look at, and what has been said about each of its rows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from niddl_xr.plots._planes import number
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from niddl_xr.curation import Curation

QUEUE_COLUMNS = ("t_index", "neuron")


def require_queue(queue: pd.DataFrame, tracks: xr.Dataset) -> pd.DataFrame:
    """Return the queue with t_start, t_end, suspicion and reason, in its order, if it is of these tracks."""
    if not isinstance(queue, pd.DataFrame) or not set(QUEUE_COLUMNS) <= set(queue):
        got = list(queue.columns) if isinstance(queue, pd.DataFrame) else type(queue).__name__
        raise NiddlError(f"expected a queue with the columns {QUEUE_COLUMNS}, got {got}; see niddl_xr.track_quality")
    frames = tracks.sizes["t"]
    at = pd.to_numeric(queue["t_index"], errors="coerce")
    if not ((at >= 0) & (at < frames) & (at == np.floor(at))).all():
        raise NiddlError(f"expected frames of the queue from 0 to {frames - 1}: is it of other tracks?")
    known = set(tracks["neuron"].values.tolist())
    strangers = [name for name in queue["neuron"].dropna().astype(str).unique() if name and name not in known]
    if strangers:
        raise NiddlError(f"expected neurons of these tracks in the queue, got {strangers[:5]}: is it of other tracks?")
    items = queue.reset_index(drop=True).assign(t_index=at.to_numpy(int))
    items["neuron"] = items["neuron"].fillna("").astype(str)  # empty: the whole frame
    defaults = {"t_start": items["t_index"], "t_end": items["t_index"], "suspicion": np.nan, "reason": ""}
    return items.assign(**{name: value for name, value in defaults.items() if name not in items})


def queue_states(items: pd.DataFrame, active: pd.DataFrame) -> np.ndarray:
    """Return for each row of the queue "confirmed", "corrected" or "": what the active edits say about it.

    A row is confirmed by the confirmation of its neuron, of its frame, or of both; it is corrected by any other edit
    but a remark that touches its neuron in its frames.
    """
    states = np.full(len(items), "", dtype=object)
    neuron = items["neuron"].to_numpy(object)
    at, first, last = (items[name].to_numpy(float) for name in ("t_index", "t_start", "t_end"))
    for edit in active.itertuples():
        if edit.op in ("comment", "name"):
            continue
        start, end = _frames_of(edit)
        named = {name for name in (edit.neuron, edit.other) if isinstance(name, str) and name}
        about = np.isin(neuron, list(named)) if named else np.ones(len(items), dtype=bool)
        if edit.op == "confirm":
            states[about & (at >= start) & (at <= end)] = "confirmed"
        else:
            states[about & (first <= end) & (last >= start) & (states == "")] = "corrected"
    return states


def _frames_of(edit: Any) -> tuple[float, float]:
    """Return the first and the last frame that an edit is about; infinite for all."""
    if edit.op == "reject":
        return -np.inf, np.inf
    start = _number(edit.t_start, -np.inf)
    open_end = edit.op in ("swap", "split", "merge") or not np.isfinite(start)
    return start, _number(edit.t_end, np.inf if open_end else start)


def _number(value: Any, missing: float) -> float:
    return missing if pd.isna(value) else float(value)


def queue_lines(model: Curation, most: int = 300) -> dict[str, int]:
    """Return the lines of the queue and the rows that they stand for; open ones first after a long way."""
    mark = {"": "○", "corrected": "✎", "confirmed": "✓"}
    lines: dict[str, int] = {}
    for row, item in enumerate(model.queue.head(most).itertuples()):
        what = model.label(item.neuron) if item.neuron else "whole frame"
        suspicion = "" if np.isnan(item.suspicion) else f" {item.suspicion:.2f}"
        lines[f"{mark[item.state]} {row + 1}. frame {item.t_index} · {what}{suspicion} · {shortened(item.reason)}"] = (
            row
        )
    return lines


def shortened(reason: str, most: int = 34) -> str:
    """Return the beginning of a reason; the whole is shown where the row is looked at."""
    return reason if len(reason) <= most else f"{reason[: most - 1].rstrip()}…"


def edit_lines(model: Curation, most: int = 100) -> dict[str, str]:
    """Return the last edits, the last one first, and their numbers."""
    lines: dict[str, str] = {}
    for edit in model.active.tail(most).iloc[::-1].itertuples():
        frames = "" if np.isnan(_or_nan(edit.t_start)) else f" frame {int(edit.t_start)}"
        if frames and not np.isnan(_or_nan(edit.t_end)) and edit.t_end != edit.t_start:
            frames += f"–{int(edit.t_end)}"
        parts = [
            edit.op,
            *(str(part) for part in (edit.neuron, edit.other, edit.name, edit.note) if isinstance(part, str) and part),
        ]
        place = "" if np.isnan(_or_nan(edit.x)) else f" to z {number(edit.z)} y {number(edit.y)} x {number(edit.x)} µm"
        lines[f"{' '.join(parts)}{frames}{place} [{edit.edit_id[-4:]}]"] = str(edit.edit_id)
    return lines


def _or_nan(value: Any) -> float:
    with suppress(TypeError, ValueError):
        return float(value)
    return float("nan")
