"""What a file of traces holds, whatever its format, and how it becomes a Dataset."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.schema import MissingMetadataWarning, NiddlError

# Variables of traces, with the unit that the contract gives them; everything else keeps the name it has.
CONTRACT = {
    "F": "counts",
    "F_var": "counts²",
    "background": "counts",
    "F0": "counts",
    "red": "counts",
    "bleach": "1",
    "dff": "1",
    "dff_lo": "1",
    "dff_hi": "1",
    "ratio": "1",
    "valid": "",
    "observed": "",
}
UNNAMED = "activity"  # of values that neither the file nor the caller names
_MOST_NAMES = 8
_SUFFIXES = ("counts", "s", "um", "px", "per_mm")  # that niddl_xr.export puts behind names for a unit


@dataclass
class Parts:
    """Traces as a file holds them: variables (t, neuron), what is known of frames, and of neurons.

    ``t`` are times in s, or numbers of frames where ``in_s`` is False; None: the file has neither. ``doubt`` says what
    the file has in place of times in s.
    """

    names: list[str]
    frames: int
    values: dict[str, np.ndarray] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    t: np.ndarray | None = None
    in_s: bool = False
    doubt: str = ""
    over_time: dict[str, np.ndarray] = field(default_factory=dict)
    over_neurons: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)


def contract_name(column: str) -> str:
    """Return the name of a column without the unit that an export put behind it, where the contract knows the name."""
    for suffix in _SUFFIXES:
        bare = column.removesuffix(f"_{suffix}")
        if bare != column and bare in CONTRACT:
            return bare
    return column


def chosen_by(patterns: str | Iterable[str], names: Iterable[str], path: Path) -> list[str]:
    """Return the names that fit one of several patterns (``*``, ``?``), in their order; a pattern that fits none is
    an error."""
    known = list(names)
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise NiddlError(f"{path} has nothing called {pattern!r} for neurons=; there is {listed(known)}")
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in wanted)]


def listed(names: Iterable[object]) -> str:
    """Return names for a message, eight at most."""
    known = [str(name) for name in names]
    more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    return (", ".join(known[:_MOST_NAMES]) or "nothing") + more


def one_variable(parts: Parts, variable: str | None, path: Path) -> Parts:
    """Return the parts with the variable asked for alone; values without a name get it as theirs."""
    if variable is None or not parts.values:
        return parts
    if set(parts.values) == {UNNAMED}:
        parts.values = {variable: parts.values[UNNAMED]}
        if UNNAMED in parts.units:
            parts.units[variable] = parts.units.pop(UNNAMED)
        return parts
    if variable not in parts.values:
        raise NiddlError(f"{path} has no variable {variable!r}; it has {listed(parts.values)}")
    parts.values = {variable: parts.values[variable]}
    return parts


def dataset_of(parts: Parts, path: Path, dt_s: float | None) -> xr.Dataset:
    """Return the parts as a Dataset with a checked time axis."""
    if parts.frames == 0:
        raise NiddlError(f"{path} holds no frame")
    if twice := sorted({name for name in parts.names if parts.names.count(name) > 1}):
        raise NiddlError(f"{path} has neurons of the same name: {listed(twice)}")
    coords: dict[str, Any] = {"t": _time_axis(parts, path, dt_s)}
    if parts.values:
        coords["neuron"] = np.asarray(parts.names, dtype=str)
    taken = {*parts.values, "t", "neuron"}
    for dim, items in (("t", parts.over_time), ("neuron", parts.over_neurons)):
        for name, values in items.items():
            free = name if name not in taken else f"{name}_{dim}"
            taken.add(free)
            coords[free] = (dim, values, _unit_attrs(name, parts.units))
    variables = {
        name: (("t", "neuron"), values, _unit_attrs(name, parts.units)) for name, values in parts.values.items()
    }
    return xr.Dataset(variables, coords, {**parts.attrs, "source": str(path)})


def _unit_attrs(name: str, units: dict[str, str]) -> dict[str, str]:
    return {"units": units[name]} if units.get(name) else {}


def _time_axis(parts: Parts, path: Path, dt_s: float | None) -> tuple[str, np.ndarray, dict[str, str]]:
    if dt_s is not None:
        return "t", np.arange(parts.frames) * float(dt_s), {"units": "s"}
    if parts.t is not None and parts.in_s:
        times = np.asarray(parts.t, dtype=np.float64)
        if times.shape != (parts.frames,) or not np.isfinite(times).all() or np.any(np.diff(times) <= 0):
            raise NiddlError(
                f"expected {parts.frames} times in s that rise, got others in {path}: set dt_s= where they are wrong"
            )
        return "t", times, {"units": "s"}
    if parts.frames > 1:
        warnings.warn(
            f"{path} does not state its time step (set dt_s={', or ' + parts.doubt if parts.doubt else ''}); "
            "t is the number of the frame",
            MissingMetadataWarning,
            stacklevel=4,
        )
    number = parts.t if parts.t is not None else np.arange(parts.frames)
    return "t", np.asarray(number), {"units": "frame"}
