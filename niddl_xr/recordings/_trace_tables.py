"""Traces in tables: a row for each neuron and frame, as export writes them, or a column for each neuron."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings._trace_parts import CONTRACT, UNNAMED, Parts, chosen_by, contract_name, listed
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

_IN_SECONDS = ("t_s", "time_s")  # the names say so
_FRAME = "t_frame"
_OF_UNKNOWN_UNIT = ("t", "time", "times", "timestamp", "timestamps", "frame", "frames", "t_index", "index")


def read_csv(path: Path, time: str | None, neurons: str | Iterable[str] | None) -> Parts:
    """Return the traces of a CSV table."""
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise NiddlError(f"{path} has columns of the same name: {listed(twice)}")
        table = pd.read_csv(path, encoding="utf-8-sig", low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        raise NiddlError(f"{path} is no table of comma-separated values that can be read: {error}") from error
    return parts_of_table(table, {}, path, time, neurons)


def read_parquet(path: Path, time: str | None, neurons: str | Iterable[str] | None) -> Parts:
    """Return the traces of a Parquet table, with the units and attributes that an export put into it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # The file alone: columns that pandas stored as Python objects stay what they are in the file.
        arrow = pq.ParquetFile(path).read()
        table = arrow.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError) as error:
        raise NiddlError(f"{path} is no Parquet table that can be read: {error}") from error
    units = {
        item.name: item.metadata[b"units"].decode(errors="replace")
        for item in arrow.schema
        if item.metadata and b"units" in item.metadata
    }
    parts = parts_of_table(table, units, path, time, neurons)
    stored = (arrow.schema.metadata or {}).get(b"niddl_xr")
    parts.attrs |= attributes_of(stored.decode(errors="replace") if stored else None)
    return parts


def attributes_of(stored: Any) -> dict[str, Any]:
    """Return the attributes that an export wrote as JSON; none where it is something else."""
    try:
        attrs = json.loads(stored) if isinstance(stored, str) else {}
    except ValueError:
        return {}
    return attrs if isinstance(attrs, dict) else {}


def parts_of_table(
    table: pd.DataFrame, units: dict[str, str], path: Path, time: str | None, neurons: str | Iterable[str] | None
) -> Parts:
    """Return the traces of a long or a wide table."""
    table.columns = [str(name) for name in table.columns]
    if len(table) == 0:
        raise NiddlError(f"{path} holds no row")
    if time is not None and time not in table:
        raise NiddlError(f"{path} has no column {time!r} for time=; it has {listed(table.columns)}")
    clocks = [name for name in table.columns if _is_clock(name)]
    clock = time or next((name for name in (*_IN_SECONDS, _FRAME, *clocks) if name in table), None)
    if clock is not None and table[clock].dtype.kind not in "uif":
        raise NiddlError(f"expected the times in column {clock!r} of {path} as numbers, got {table[clock].iloc[0]!r}")
    parts = _long(table, clock, units, path) if "neuron" in table else _wide(table, clocks, clock, path, neurons)
    parts.in_s = clock is not None and (clock == time or clock in _IN_SECONDS)
    if clock is not None and not parts.in_s and clock != _FRAME:
        parts.t = None
        parts.doubt = f"time={clock!r} if its column is in s"
    return parts


def _is_clock(name: str) -> bool:
    return name in (*_IN_SECONDS, _FRAME) or name.lower() in _OF_UNKNOWN_UNIT or name.startswith("Unnamed: ")


def _wide(
    table: pd.DataFrame, clocks: list[str], clock: str | None, path: Path, neurons: str | Iterable[str] | None
) -> Parts:
    others = [name for name in table.columns if name not in clocks and name != clock]
    if neurons is None:
        names = [name for name in others if table[name].dtype.kind in "uif"]
    else:
        names = chosen_by(neurons, others, path)
        if wrong := [name for name in names if table[name].dtype.kind not in "uif"]:
            raise NiddlError(f"expected numbers in the columns of neurons of {path}, got others in {listed(wrong)}")
    parts = Parts(names, len(table), t=None if clock is None else table[clock].to_numpy())
    if names:
        parts.values[UNNAMED] = table[names].to_numpy(np.float64)
    elif neurons is None:
        raise NiddlError(f"{path} has no column of numbers for a neuron; its columns are {listed(table.columns)}")
    for name in others:
        if name not in names:
            parts.over_time[name] = _plain(table[name])
    return parts


def _long(table: pd.DataFrame, clock: str | None, units: dict[str, str], path: Path) -> Parts:
    import pandas as pd

    if clock is None:
        raise NiddlError(f"{path} has a column neuron but none of the time: name it with time=")
    times, frame = np.unique(table[clock].to_numpy(), return_inverse=True)
    code, names = pd.factorize(table["neuron"].astype(str))
    if pd.isna(table["neuron"]).any() or not np.isfinite(times.astype(float)).all():
        raise NiddlError(f"expected a time and a neuron in every row of {path}, got rows without")
    if len(np.unique(frame * len(names) + code)) < len(table):
        raise NiddlError(f"expected each neuron once at each time in {path}, got several rows of the same")
    parts = Parts([str(name) for name in names], len(times), t=times)
    for column in table.columns:
        if column not in ("neuron", clock):
            _place(parts, column, _plain(table[column]), frame, code, units)
    if not parts.values:
        raise NiddlError(f"{path} has no column of numbers that change over time; its columns are {listed(table)}")
    return parts


def _place(
    parts: Parts, column: str, values: np.ndarray, frame: np.ndarray, code: np.ndarray, units: dict[str, str]
) -> None:
    """Put a column where it belongs: what is the same at all times of a neuron, or for all neurons at a time, there."""
    name = contract_name(column)
    if unit := units.get(column) or CONTRACT.get(name):
        parts.units[name] = unit
    if name not in CONTRACT:
        of_neuron, of_time = (code, len(parts.names), parts.over_neurons), (frame, parts.frames, parts.over_time)
        # A column that never changes is a neuron's, but for the state of the worm.
        for groups, count, place in (of_time, of_neuron) if name == "state" else (of_neuron, of_time):
            first = np.empty(count, dtype=values.dtype)
            first[groups[::-1]] = values[::-1]
            same = first[groups] == values
            if values.dtype.kind == "f":
                same |= np.isnan(first[groups]) & np.isnan(values)
            if same.all():
                place[name] = first
                return
    whole: np.ndarray = np.full((parts.frames, len(parts.names)), "" if values.dtype.kind == "U" else np.nan)
    if values.dtype.kind == "U":
        whole = whole.astype(values.dtype)
    elif len(values) == whole.size:
        whole = np.empty(whole.shape, values.dtype)  # integers and truth values stay what they are without gaps
    whole[frame, code] = values
    parts.values[name] = whole


def _plain(column: pd.Series[Any]) -> np.ndarray:
    """Return a column as numbers, truth values or texts; a text that is missing is empty."""
    if column.dtype.kind in "uifb":
        return np.asarray(column.to_numpy())
    return np.asarray(column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=str))
