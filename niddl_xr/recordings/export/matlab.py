"""MATLAB: a struct of matrices in a .mat file of version 5."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._tidy import flags_of, with_unit
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

WRITER = Writer("MATLAB file", suffixes=(".mat",), takes=("dataset", "table"), needs=("scipy",), options=("name",))
_LARGEST_BYTES = 2**31 - 2**20  # of a variable in this version of the format
_LONGEST_NAME = 63
_KEYWORDS = frozenset(
    (
        *("break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function", "global"),
        *("if", "otherwise", "parfor", "persistent", "return", "spmd", "switch", "try", "while"),
    )
)


def write(content: xr.Dataset | pd.DataFrame, path: Path, *, progress: bool, name: str | None = None) -> None:
    """Write results as one struct.

    Its fields are the coordinates and variables with their unit in the name (``t_s``, ``F_counts``), matrices with the
    dims in their order, t first; ``dims`` and ``units`` say of every field what they are. Names are a cell of text;
    numbers that stand for words come with a cell of these words, in order, in ``<field>_meanings`` and
    ``<field>_values``. Attributes, the history among them, are text in ``attributes``. NaN stay NaN.

    Parameters
    ----------
    content
        Results over named dims, or a table.
    path
        File to make.
    progress
        Without effect: the format is written in one go.
    name
        Of the struct; default "tracks", "traces", "table" or "data", as the content is.
    """
    import pandas as pd
    from scipy.io import savemat

    struct: dict[str, Any]
    if isinstance(content, pd.DataFrame):
        struct, default = _of_table(content), "table"
    else:
        struct, default = _of_dataset(content)
    struct["attributes"] = json.dumps({str(key): value for key, value in content.attrs.items()}, default=str)
    if name is not None and name != _legal(name, ()):
        raise NiddlError(f"expected name as a name that MATLAB takes, got {name!r}; {_legal(name, ())!r} would do")
    total = sum(value.nbytes for value in struct.values() if isinstance(value, np.ndarray))
    if total > _LARGEST_BYTES:
        raise NiddlError(
            f"a .mat file of version 5 holds up to 2 GB a variable, but these are {total / 2**30:.1f} GB; "
            "export fewer variables or neurons, or .parquet"
        )
    with path.open("wb") as file:
        savemat(file, {name or default: struct}, do_compression=True, oned_as="column", long_field_names=True)


def _of_dataset(dataset: xr.Dataset) -> tuple[dict[str, Any], str]:
    struct: dict[str, Any] = {}
    dims: dict[str, str] = {}
    units: dict[str, str] = {}
    for original, item in [*dataset.coords.items(), *dataset.data_vars.items()]:
        order = sorted((str(dim) for dim in item.dims), key=lambda dim: dim != "t")
        field = _legal(with_unit(str(original), item.attrs.get("units")), struct)
        struct[field] = _matlab(np.asarray(item.transpose(*order).values))
        dims[field], units[field] = " ".join(order), str(item.attrs.get("units", ""))
        values, meanings = flags_of(item)
        if values:
            struct[_legal(f"{field}_values", struct)] = np.asarray(values, dtype=float)
            struct[_legal(f"{field}_meanings", struct)] = _matlab(np.asarray(meanings))
    struct["dims"], struct["units"] = dims, units
    kind = "tracks" if "position" in dataset else "traces" if "neuron" in dataset.dims else "data"
    return struct, kind


def _of_table(table: pd.DataFrame) -> dict[str, Any]:
    from niddl_xr.recordings.export._tidy import tidy

    content = tidy(table)
    rows = list(content.blocks)
    struct: dict[str, Any] = {}
    units: dict[str, str] = {}
    for column in rows[0].columns:
        field = _legal(str(column), struct)
        struct[field] = _matlab(np.concatenate([block[column].to_numpy() for block in rows]))
        units[field] = content.units.get(str(column), "")
    struct["units"] = units
    return struct


def _matlab(values: np.ndarray) -> np.ndarray:
    """Return numbers as they are (times as ISO 8601), and text as an object array, which becomes a cell."""
    if values.dtype.kind in "biufc":
        return values.astype(np.float32) if values.dtype == np.float16 else values
    if values.dtype.kind in "mM":
        values = values.astype(str)
    cells = np.empty(values.shape, dtype=object)
    flat = ["" if value is None or value != value else str(value) for value in values.ravel().tolist()]
    cells.ravel()[:] = flat
    return cells


def _legal(name: str, taken: Iterable[str]) -> str:
    """Return a name that MATLAB takes and that is not taken yet: ASCII letters, digits, underscores."""
    legal = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not re.match(r"[A-Za-z]", legal) or legal in _KEYWORDS:
        legal = f"x_{legal.lstrip('_')}"
    legal = legal[:_LONGEST_NAME]
    used, number = set(taken), 2
    unique = legal
    while unique in used:
        unique = f"{legal[: _LONGEST_NAME - len(str(number)) - 1]}_{number}"
        number += 1
    return unique
