"""WCON, the Worm tracker Commons Object Notation: JSON with units (openworm/tracker-commons)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.behaviour.readers import Lines, chosen_worm
from niddl_xr.schema import NiddlError

LENGTHS_UM = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "micrometers": 1.0, "micrometres": 1.0, "nm": 1e-3, "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "millimeters": 1e3, "millimetres": 1e3, "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4, "m": 1e6, "meter": 1e6,
    "metre": 1e6,
}  # fmt: skip
TIMES_S = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip
PIXELS = {"pixel", "pixels", "px"}
MOST_BYTES = 2**30


def read(path: Path, worm: str | int | None) -> Lines:
    """Read the lines of one worm; offsets ``ox`` and ``oy`` are added, and lines that begin at the tail turned."""
    document = _document(path)
    units = document.get("units")
    if not isinstance(units, dict) or not {"t", "x", "y"} <= set(units):
        raise NiddlError(f"{path}: expected units of t, x and y, as WCON asks for, got {units!r:.80}")
    records = document.get("data")
    records = [records] if isinstance(records, dict) else records
    if not isinstance(records, list) or not all(isinstance(record, dict) and "id" in record for record in records):
        raise NiddlError(f"{path}: expected data as a list of records with an id")
    names = list(dict.fromkeys(str(record["id"]) for record in records))
    name = chosen_worm(names, worm, path)
    scale, in_um = _scales(units, path)
    time_scale = TIMES_S.get(str(units["t"]))
    if time_scale is None:
        raise NiddlError(f"{path}: expected t in one of {', '.join(TIMES_S)}, got {units['t']!r}")
    found: dict[float, np.ndarray | None] = {}
    for record in records:
        if str(record["id"]) == name:
            _add(found, record, scale, time_scale, path)
    times = sorted(found)
    return Lines(np.array(times), [found[time] for time in times], in_um=in_um, in_s=True, attrs={"worm": name})


def _document(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MOST_BYTES:
        raise NiddlError(f"{path}: expected at most {MOST_BYTES} bytes of WCON, got {path.stat().st_size}: split it")
    try:
        document = json.loads(path.read_text("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise NiddlError(f"{path} is no WCON file: it is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise NiddlError(
            f"{path} is no WCON file: expected an object with units and data, got a {type(document).__name__}"
        )
    return document


def _scales(units: dict[str, Any], path: Path) -> tuple[dict[str, float], bool]:
    """Return the factor of y, x and their offsets, and whether the result is in µm, else in pixels."""
    names = [name for name in ("y", "x", "oy", "ox") if name in units]
    if all(str(units[name]) in PIXELS for name in names):
        return dict.fromkeys(names, 1.0), False
    unknown = {name: units[name] for name in names if str(units[name]) not in LENGTHS_UM}
    if unknown:
        raise NiddlError(f"{path}: expected lengths in µm, mm, cm, m or pixels, got {unknown}")
    return {name: LENGTHS_UM[str(units[name])] for name in names}, True


def _add(
    found: dict[float, np.ndarray | None],
    record: dict[str, Any],
    scale: dict[str, float],
    time_scale: float,
    path: Path,
) -> None:
    """Add the lines of a record by their times in s."""
    times = _numbers(record.get("t"), "t", path)
    lines = {name: _rows(record.get(name), len(times), name, path) for name in ("y", "x")}
    for axis in ("y", "x"):
        if f"o{axis}" in record:
            if f"o{axis}" not in scale:
                raise NiddlError(f"{path}: expected units of o{axis}, which the data hold")
            offset = _numbers(record[f"o{axis}"], f"o{axis}", path) * scale[f"o{axis}"]
            offset = np.broadcast_to(offset, len(times)) if len(offset) in (1, len(times)) else offset
            if len(offset) != len(times):
                raise NiddlError(f"{path}: expected one o{axis} for each of {len(times)} times, got {len(offset)}")
        else:
            offset = np.zeros(len(times))
        lines[axis] = [row * scale[axis] + start for row, start in zip(lines[axis], offset, strict=True)]
    heads = record.get("head", "?")
    heads = heads if isinstance(heads, list) else [heads] * len(times)
    if len(heads) != len(times):
        raise NiddlError(f"{path}: expected one head for each of {len(times)} times, got {len(heads)}")
    for time, y, x, head in zip(times * time_scale, lines["y"], lines["x"], heads, strict=True):
        if len(y) != len(x):
            raise NiddlError(f"{path}: expected as many x as y at t = {time:g} s, got {len(x)} and {len(y)}")
        line = np.stack([y, x], axis=1)[:: -1 if head == "R" else 1]
        known = np.isfinite(line).all(axis=1)
        # Without its ends a line is of another length.
        new = line[known] if known.sum() > 1 and known[0] and known[-1] else None
        old = found.get(float(time))
        if old is not None and new is not None and not (old.shape == new.shape and np.allclose(old, new)):
            raise NiddlError(f"{path}: expected one line at t = {time:g} s, got two that differ")
        found[float(time)] = old if new is None else new


def _numbers(value: Any, name: str, path: Path) -> np.ndarray:
    """Return a number or a list of numbers as an array (t,)."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in values):
        raise NiddlError(f"{path}: expected {name} as numbers, got {value!r:.60}")
    return np.array(values, dtype=np.float64)


def _rows(value: Any, count: int, name: str, path: Path) -> list[np.ndarray]:
    """Return the points of each time, NaN for null; a flat list is one point a time, or the points of the only time."""
    rows = value if isinstance(value, list) else [value]
    if not any(isinstance(row, list) for row in rows):
        rows = [rows] if count == 1 else [[item] for item in rows]
    if len(rows) != count:
        raise NiddlError(f"{path}: expected {name} of {count} times, got {len(rows)}")
    result = []
    for row in rows:
        row = row if isinstance(row, list) else [row]
        if not all(item is None or (isinstance(item, int | float) and not isinstance(item, bool)) for item in row):
            raise NiddlError(f"{path}: expected {name} as numbers or null, got {row!r:.60}")
        result.append(np.array([np.nan if item is None else item for item in row], dtype=np.float64))
    return result
