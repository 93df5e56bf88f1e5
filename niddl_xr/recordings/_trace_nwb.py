"""Traces in NWB files, read with h5py: series of several regions, or one series a neuron."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from niddl_xr.neurons import neuron_names
from niddl_xr.recordings._trace_parts import CONTRACT, UNNAMED, Parts, chosen_by, listed
from niddl_xr.recordings.readers._hdf5 import (
    attribute,
    follow,
    holds_counts,
    names_of,
    number,
    opened,
    small,
    source,
    text,
)
from niddl_xr.recordings.readers._nwb_metadata import kind_of, leaf
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import h5py

_REGIONS = "RoiResponseSeries"
_NAME_COLUMNS = ("neuron", "name", "label", "cell_name", "ID_labels", "id")
_UNSTATED = ("none", "n.a.", "n/a", "unknown", "")
_HOLDERS = ("Position", "CompassDirection", "BehavioralTimeSeries")  # a single series in one is called like it
_MOST_COLUMNS = 4  # of a series that becomes coordinates
_MOST_REGIONS = 100_000
_SAME_TIME = 1e-6


@dataclass(frozen=True)
class _Series:
    """A time series: ``values`` (t,) or (t, column), ``t`` in s or None, and what says where it belongs."""

    group: h5py.Group
    kind: str
    values: np.ndarray
    t: np.ndarray | None
    unit: str

    @property
    def name(self) -> str:
        parent = self.group.parent
        alone = kind_of(parent) in _HOLDERS and len(parent) == 1
        return leaf(parent if alone else self.group)


def read_nwb(path: Path, neurons: str | Iterable[str] | None) -> Parts:
    """Return the traces of an NWB file."""
    with opened(path) as file:
        series = _all_series(path, file)
        regions = [item for item in series if item.kind == _REGIONS]
        if regions and neurons is None:
            parts = _of_regions(path, regions)
            used = {item.group.name for item in regions}
        else:
            members = _members(path, series, neurons)
            parts = _of_members(path, members, series)
            used = {item.group.name for item in members}
        for item in series:
            if item.group.name not in used:
                _add_beside(parts, item)
        started = text(small(follow(file, "session_start_time")))
        if started:
            parts.attrs["acquired"] = started
    return parts


def _all_series(path: Path, file: h5py.File) -> list[_Series]:
    import h5py

    found = []
    for name in names_of(file, h5py.h5o.TYPE_GROUP):
        if name.startswith(b"specifications"):
            continue
        group = file[name]
        data = follow(group, "data")
        if not isinstance(data, h5py.Dataset) or not holds_counts(data) or not kind_of(group).endswith("Series"):
            continue
        if data.ndim not in (1, 2) or 0 in data.shape:
            continue
        source(path, data)
        values = np.asarray(data[()])
        factor, offset = number(attribute(data, "conversion")), number(attribute(data, "offset"))
        if factor not in (None, 1.0) or offset not in (None, 0.0):
            values = values * (1.0 if factor is None else factor) + (offset or 0.0)
        unit = (text(attribute(data, "unit")) or "").replace("seconds", "s")
        t = _times(path, group, len(values))
        found.append(_Series(group, kind_of(group), values, t, "" if unit in _UNSTATED else unit))
    return found


def _times(path: Path, group: h5py.Group, frames: int) -> np.ndarray | None:
    """Return the times in s, which NWB defines, or None where there are none."""
    import h5py

    stamps = follow(group, "timestamps")
    if isinstance(stamps, h5py.Dataset):
        source(path, stamps)
        return np.asarray(stamps[()], dtype=float).ravel()
    start = follow(group, "starting_time")
    if not isinstance(start, h5py.Dataset):
        return None
    rate = number(attribute(start, "rate"))
    return None if not rate or rate <= 0 else (number(small(start)) or 0.0) + np.arange(frames) / rate


def _of_regions(path: Path, regions: list[_Series]) -> Parts:
    first = regions[0]
    names, values = _regions_of(path, first)
    parts = Parts(names, len(values), t=first.t, in_s=first.t is not None)
    described = _region_columns(first)
    parts.over_neurons = {name: values for name, values in described.items() if name not in ("id", "neuron")}
    for item in regions:
        theirs, table = _regions_of(path, item)
        if theirs != names or not _same_times(first.t, item.t) or len(table) != len(values):
            raise NiddlError(
                f"{path} has traces of different neurons or times: {listed(other.group.name for other in regions)}; "
                "choose the series of one with neurons="
            )
        name = _variable_of(item)
        if name in parts.values:
            name = item.name
        parts.values[name] = table
        if unit := CONTRACT.get(name) or item.unit:
            parts.units[name] = unit
    return parts


def _variable_of(item: _Series) -> str:
    """Return the name of what a series holds: its own where the contract knows it, else that of its container."""
    if item.name in CONTRACT:
        return item.name
    container = kind_of(item.group.parent)
    if container == "DfOverF":
        return "dff"
    return "F" if container == "Fluorescence" and item.name.startswith(_REGIONS) else item.name


def _regions_of(path: Path, item: _Series) -> tuple[list[str], np.ndarray]:
    """Return the names of the neurons and the values (t, neuron) of a series of regions."""
    import h5py

    values = item.values if item.values.ndim == 2 else item.values[:, None]
    rois = follow(item.group, "rois")
    rows = np.asarray(rois[()], dtype=int).ravel() if isinstance(rois, h5py.Dataset) else None
    count = values.shape[1] if rows is None else len(rows)
    if values.shape[1] != count:
        stamps = follow(item.group, "timestamps")
        if values.shape[0] != count or (isinstance(stamps, h5py.Dataset) and stamps.size != values.shape[1]):
            raise NiddlError(f"{item.group.name} of {path} has shape {values.shape} for {count} regions")
        raise NiddlError(
            f"{item.group.name} of {path} is stored as (neuron, t), {values.shape}, where NWB defines (t, neuron): "
            "read it with h5py and build the Dataset with xarray"
        )
    return _region_names(_region_columns(item), count), values


def _region_columns(item: _Series) -> dict[str, np.ndarray]:
    """Return the columns of one number or text a region of the table that a series refers to, in its order."""
    import h5py

    rois = follow(item.group, "rois")
    reference = rois.attrs.get("table") if isinstance(rois, h5py.Dataset) else None
    table = rois.file[reference] if isinstance(reference, h5py.Reference) and reference else None
    if not isinstance(table, h5py.Group):
        return {}
    rows = np.asarray(rois[()], dtype=int).ravel()
    columns = {}
    for name in table:
        values = small(follow(table, name), most=_MOST_REGIONS)
        stored = np.atleast_1d(values) if values is not None else np.empty(0)
        described = name.endswith("_index") or f"{name}_index" in table  # of several values a region
        if not described and stored.ndim == 1 and stored.dtype.kind in "uifO" and rows.max(initial=-1) < len(stored):
            taken = stored[rows]
            columns[name] = taken if taken.dtype.kind != "O" else np.asarray([str(one) for one in taken], dtype=str)
    return columns


def _region_names(columns: dict[str, np.ndarray], count: int) -> list[str]:
    for column in _NAME_COLUMNS:
        names = [str(name) for name in columns.get(column, ())]
        if names and "" not in names and len(set(names)) == len(names):
            return [f"n{int(name):03d}" if name.isdigit() else name for name in names]
    return neuron_names(count)


def _members(path: Path, series: list[_Series], neurons: str | Iterable[str] | None) -> list[_Series]:
    """Return the series that are a neuron each: those named, or the largest family that differs by a number alone."""
    single = {item.name: item for item in series if item.values.ndim == 1}
    if neurons is not None:
        patterns = [neurons] if isinstance(neurons, str) else list(neurons)
        return [single[name] for name in chosen_by(patterns, single, path)] if patterns else []
    families: dict[str, list[_Series]] = {}
    for name, item in single.items():
        if match := re.fullmatch(r"(.*?)(\d+)", name):
            families.setdefault(match[1], []).append(item)
    largest = max(families.values(), key=len, default=[])
    if len(largest) < 2:
        there = listed(f"{item.name} {item.values.shape}" for item in series)
        raise NiddlError(
            f"{path} holds no traces of neurons that can be told from others; its time series: {there}. Name them with "
            'neurons= ("Activity_*"), or neurons=[] for what else there is'
        )
    return largest


def _of_members(path: Path, members: list[_Series], series: list[_Series]) -> Parts:
    if not members and not series:
        raise NiddlError(f"{path} holds no time series")
    first = members[0] if members else series[0]
    for item in members:
        if item.values.shape != first.values.shape or not _same_times(first.t, item.t):
            raise NiddlError(
                f"{path} has neurons at different times: {first.name} {first.values.shape} and {item.name} "
                f"{item.values.shape}; choose some with neurons="
            )
    parts = Parts([item.name for item in members], len(first.values), t=first.t, in_s=first.t is not None)
    if members:
        parts.values[UNNAMED] = np.stack([item.values for item in members], axis=1)
        if first.unit:
            parts.units[UNNAMED] = first.unit
    return parts


def _same_times(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=_SAME_TIME))


def _add_beside(parts: Parts, item: _Series) -> None:
    """Add a series at the same times as coordinates, a column each; others are left out, which attrs name."""
    columns = item.values if item.values.ndim == 2 else item.values[:, None]
    if parts.t is None or not _same_times(parts.t, item.t) or columns.shape[1] > _MOST_COLUMNS:
        parts.attrs.setdefault("series_left_out", []).append(item.group.name)
        return
    for index, column in enumerate(columns.T):
        name = item.name if item.values.ndim == 1 else f"{item.name}_{index}"
        if name in parts.over_time:
            name = str(item.group.name).strip("/").replace("/", "_")
        parts.over_time[name] = column
        if item.unit:
            parts.units[name] = item.unit
