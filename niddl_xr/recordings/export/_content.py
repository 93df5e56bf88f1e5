"""What the caller gives, sorted: recordings by channel, a Dataset of results, or a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from niddl_xr.schema import HISTORY, RECORDING_DIMS, NiddlError, require_recording

Kind = Literal["recording", "dataset", "table"]
_EXPECTED = "a recording, recordings by channel, traces, tracks or another Dataset, or a pandas table"


def content_of(obj: Any) -> tuple[Kind, Any]:
    """Return what kind of object this is, and in the form that writers take.

    A recording becomes ``{channel: recording}``, with an empty name where it has none; a DataArray of results becomes
    a Dataset; a pandas Series becomes a table.
    """
    import pandas as pd

    if isinstance(obj, pd.Series):
        obj = obj.to_frame()
    if isinstance(obj, pd.DataFrame):
        if obj.columns.empty:
            raise NiddlError("expected a table with columns, got one without")
        return "table", obj
    if isinstance(obj, xr.DataTree):
        raise NiddlError(f'expected {_EXPECTED}, got a DataTree: choose a node, such as tree["traces"].to_dataset()')
    if isinstance(obj, xr.DataArray):
        return _array_content(obj)
    if isinstance(obj, xr.Dataset):
        return _dataset_content(obj)
    if isinstance(obj, Mapping) and obj and all(isinstance(item, xr.DataArray) for item in obj.values()):
        return "recording", _same_field({str(name): _recording(item) for name, item in obj.items()})
    raise NiddlError(f"expected {_EXPECTED}, got {type(obj).__name__}")


def _array_content(array: xr.DataArray) -> tuple[Kind, Any]:
    if {"y", "x"} <= set(array.dims) or set(array.dims) == set(RECORDING_DIMS):
        return "recording", {str(array.attrs.get("channel", "")): _recording(array)}
    named = array if array.name is not None else array.rename("value")
    dataset = named.to_dataset()
    return "dataset", dataset.assign_attrs({HISTORY: array.attrs[HISTORY]}) if HISTORY in array.attrs else dataset


def _dataset_content(dataset: xr.Dataset) -> tuple[Kind, Any]:
    if not dataset.data_vars:
        raise NiddlError("the Dataset has no variables; nothing can be exported")
    images = [str(name) for name, item in dataset.data_vars.items() if {"y", "x"} <= set(item.dims)]
    if not images:
        return "dataset", dataset
    if len(images) < len(dataset.data_vars) or any(dataset[name].dims != RECORDING_DIMS for name in images):
        dims = {name: dataset[name].dims for name in images}
        raise NiddlError(f"expected images with dims {RECORDING_DIMS} and nothing else in a Dataset, got {dims}")
    attrs = {key: value for key, value in dataset.attrs.items() if key == HISTORY}
    if len(images) == 1:
        only = dataset[images[0]]
        return "recording", {str(only.attrs.get("channel", "")): _recording(only).assign_attrs(attrs)}
    return "recording", _same_field({name: _recording(dataset[name]).assign_attrs(attrs) for name in images})


def _recording(array: xr.DataArray) -> xr.DataArray:
    """Return a recording whose attributes can be encoded: the name of a file need not be UTF-8."""
    texts = {name: value for name, value in require_recording(array).attrs.items() if isinstance(value, str)}
    return array.assign_attrs({name: text.encode("utf-8", "replace").decode() for name, text in texts.items()})


def _same_field(channels: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Return the channels if their shapes and coordinates are equal, else raise."""
    (first_name, first), *others = channels.items()
    for name, other in others:
        if other.shape != first.shape:
            raise NiddlError(
                f"expected channels of one shape, got {first.shape} for {first_name!r} and {other.shape} for {name!r}"
            )
        for dim in RECORDING_DIMS:
            same = np.array_equal(first[dim].values, other[dim].values)
            if not same or first[dim].attrs.get("units") != other[dim].attrs.get("units"):
                raise NiddlError(
                    f"expected channels with equal coordinates, but {dim} of {name!r} is not that of {first_name!r}; "
                    "export them one by one, or give them one coordinate with assign_coords"
                )
    return channels
