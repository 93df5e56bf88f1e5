"""Results over named dims as long tables: one row an element of the dims, units in the names of the columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.schema import MICROMETRE, NiddlError

if TYPE_CHECKING:
    import pandas as pd

ROWS_A_BLOCK = 200_000
SPACE = "space"  # the dim that becomes columns: z, y and x of a point
_SUFFIXES = {"s": "s", "counts": "counts", "frame": "frame", "pixel": "px", "1/mm": "per_mm", "1": "", "": ""}
_DETECTIONS = {
    "t": ("t_s", "s"),
    **{dim: (f"{dim}_um", "µm") for dim in "zyx"},
    "intensity": ("intensity_counts", "counts"),
}
_UNITS = {"radius_um": "µm", "snr": "1"}


@dataclass(frozen=True)
class Tidy:
    """A long table, that of a Dataset made block by block: ``units`` by column, ``rows`` in all."""

    blocks: Iterator[pd.DataFrame]
    units: Mapping[str, str]
    rows: int
    attrs: Mapping[str, Any]


def unit_suffix(units: Any) -> str:
    """Return what a unit becomes in a name: "um" for µm, nothing for pure numbers."""
    text = str(units or "")
    if text in MICROMETRE:
        return "um"
    return _SUFFIXES.get(text, re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_"))


def with_unit(name: str, units: Any) -> str:
    """Return a name that ends with its unit, once: "t" in s is "t_s", "radius_um" stays."""
    suffix = unit_suffix(units)
    return name if not suffix or name == suffix or name.endswith(f"_{suffix}") else f"{name}_{suffix}"


def tidy(content: xr.Dataset | pd.DataFrame) -> Tidy:
    """Return results or a table as a long table.

    Coordinates and variables of a Dataset become columns; a dim without coordinate becomes its index. A dim ``space``
    of points becomes a column each: ``position`` in µm gives ``z_um``, ``y_um``, ``x_um``, other variables keep their
    names before that. Numbers that stand for words (``flag_values``, ``flag_meanings``) become these words.
    """
    return _tidy_dataset(content) if isinstance(content, xr.Dataset) else _tidy_table(content)


def _tidy_table(table: pd.DataFrame) -> Tidy:
    import pandas as pd

    if not (isinstance(table.index, pd.RangeIndex) and table.index.name is None):
        _require_unique([str(name) for name in (*table.index.names, *table.columns) if name is not None])
        table = table.reset_index()
    table = table.infer_objects()  # a copy; numbers that lie in a column of objects are of one type
    table.columns = [str(name) for name in table.columns]
    units = {str(name): unit for name, unit in _UNITS.items() if name in table.columns}
    if {"t_index", "t", "z", "y", "x"} <= set(table.columns):  # detections, whose units the contract states
        known = {old: new for old, new in _DETECTIONS.items() if old in table.columns}
        table = table.rename(columns={old: name for old, (name, _) in known.items()})
        units |= {name: unit for name, unit in known.values()}
    _require_unique([str(name) for name in table.columns])
    return Tidy(iter([table]), units, len(table), dict(table.attrs))


def _tidy_dataset(dataset: xr.Dataset) -> Tidy:
    columns = _columns(dataset)
    dims = _order(dataset)
    units = {name: str(item.attrs["units"]) for name, item in columns.items() if item.attrs.get("units")}
    rows = int(np.prod([dataset.sizes[dim] for dim in dims], dtype=object))
    return Tidy(_blocks(columns, dims, dataset.sizes), units, rows, dataset.attrs)


def _order(dataset: xr.Dataset) -> list[str]:
    """Return the dims of the rows, t first."""
    used = {dim for item in dataset.data_vars.values() for dim in item.dims}
    dims = [str(dim) for dim in dataset.sizes if dim in used and dim != SPACE]
    return sorted(dims, key=lambda dim: dim != "t")


def _columns(dataset: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the columns by name: dims, coordinates beside them, variables."""
    dims = _order(dataset)
    found: list[tuple[str, xr.DataArray]] = []
    for dim in dims:
        found.append((with_unit(dim, dataset[dim].attrs.get("units")), dataset[dim]))
    for name, coordinate in dataset.coords.items():
        if name not in dims and name != SPACE and set(coordinate.dims) <= set(dims):
            found.append((with_unit(str(name), coordinate.attrs.get("units")), _words(coordinate)))
    for name, variable in dataset.data_vars.items():
        units = variable.attrs.get("units")
        if SPACE not in variable.dims:
            found.append((with_unit(str(name), units), _words(variable)))
            continue
        for place, axis in enumerate(np.asarray(dataset[SPACE].values).astype(str).tolist()):
            column = axis if name == "position" else f"{name}_{axis}"
            found.append((with_unit(column, units), variable.isel({SPACE: place}, drop=True)))
    _require_unique([name for name, _ in found])
    return dict(found)


def _require_unique(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NiddlError(f"expected columns of different names, got {', '.join(twice)} twice; rename variables")


def _words(variable: xr.DataArray) -> xr.DataArray:
    """Return a variable with flags as words, where its attributes say what they mean."""
    values, meanings = flags_of(variable)
    if not values:
        return variable
    stored = np.asarray(variable.values)
    words = np.full(stored.shape, "", dtype=object)
    for value, meaning in zip(values, meanings, strict=True):
        words[stored == value] = meaning
    kept = {key: item for key, item in variable.attrs.items() if key not in ("flag_values", "flag_meanings")}
    return variable.copy(data=words).assign_attrs(kept)


def flags_of(variable: xr.DataArray) -> tuple[list[Any], list[str]]:
    """Return the numbers and words of a variable that holds flags (CF conventions), else two empty lists."""
    values = np.atleast_1d(variable.attrs.get("flag_values", [])).tolist()
    meanings = str(variable.attrs.get("flag_meanings", "")).split()
    return (values, meanings) if values and len(values) == len(meanings) else ([], [])


def _blocks(columns: Mapping[str, xr.DataArray], dims: list[str], sizes: Mapping[Any, int]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    if not dims:
        yield pd.DataFrame({name: [item.values[()]] for name, item in columns.items()})
        return
    leading, others = dims[0], dims[1:]
    each = int(np.prod([sizes[dim] for dim in others], dtype=object))
    length = max(1, ROWS_A_BLOCK // max(1, each))
    for start in range(0, max(1, sizes[leading]), length):
        window = slice(start, min(start + length, sizes[leading]))
        shape = {leading: window.stop - window.start, **{dim: sizes[dim] for dim in others}}
        yield pd.DataFrame({name: _rows(item, window, dims, shape) for name, item in columns.items()})


def _rows(item: xr.DataArray, window: slice, dims: list[str], shape: Mapping[str, int]) -> np.ndarray:
    part = item.isel({dims[0]: window}) if dims[0] in item.dims else item
    present = [dim for dim in dims if dim in part.dims]
    values = np.asarray(part.transpose(*present).values)
    values = values[tuple(slice(None) if dim in present else None for dim in dims)]
    full: np.ndarray = np.broadcast_to(values, tuple(shape[dim] for dim in dims)).reshape(-1)
    return full
