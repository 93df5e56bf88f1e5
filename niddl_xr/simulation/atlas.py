"""Positions of real neurons, from the user's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import KDTree

from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.simulation._checks import shown

_LEAST_GAP_UM = 1.0  # less than half of this is the radius of no nucleus: positions so near are in another unit
Positions: TypeAlias = str | os.PathLike[str] | pd.DataFrame | xr.DataArray | np.ndarray


def read_atlas(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of neuron positions from a text file.

    Parameters
    ----------
    path
        Text with one neuron a row, separated by commas, semicolons, tabs or spaces: ``name, x, y, z`` or ``x, y, z``,
        numbers in µm, x along the body. The columns are taken in this order unless a first row names them. A first
        line that starts with # may list the names. Quotes around names are taken off.

    Returns
    -------
    pandas.DataFrame
        Columns ``z``, ``y``, ``x`` in µm, indexed by ``name`` ("n001", … where the file has none).

    Raises
    ------
    NiddlError
        If the rows are not three numbers with or without a name, a number is missing, or the file is no text.
    FileNotFoundError
        If there is no such file.

    Notes
    -----
    No atlas ships with this package: those in use come under other licences. Files that can be used as they are come
    with Skuhersky et al. (BMC Bioinformatics 23:195, 2022). Others have to be brought into µm, x along the body, first:
    that of Randi et al. (Nature 623:406, 2023) has its y along the body and a unit of its own.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "atlas.csv").write_text("AVAL,52.1,-3.0,6.5\\nAVAR,51.8,-3.1,-6.4\\n")
    ...     read_atlas(Path(folder, "atlas.csv")).loc["AVAR"].to_dict()
    {'z': -6.4, 'y': -3.1, 'x': 51.8}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of neuron positions at {path.absolute()}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NiddlError(
            f"expected text in {path}, got other bytes ({error.reason}): read it with the program that wrote it, and "
            "pass a DataFrame with the columns z, y, x in µm"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    listed = [name for line in lines if line.startswith("#") for name in line[1:].replace(",", " ").split()]
    rows = [
        [cell.strip("\"'") for cell in line.replace(",", " ").replace(";", " ").split()]
        for line in lines
        if line and not line.startswith("#")
    ]
    widths = {len(row) for row in rows}
    if not rows or len(widths) != 1 or not widths <= {3, 4}:
        raise NiddlError(
            f"expected rows of name, x, y, z or x, y, z in {path}, got {len(rows)} rows of {sorted(widths)} columns: "
            "pass a DataFrame with the columns z, y, x in µm instead"
        )
    columns = ["name", "x", "y", "z"][-len(rows[0]) :]
    if set("xyz") <= {cell.lower() for cell in rows[0]}:
        columns = [cell.lower() if cell.lower() in "xyz" else "name" for cell in rows.pop(0)]
    table = pd.DataFrame(rows, columns=columns)
    for column in SPACE_DIMS:
        table[column] = pd.to_numeric(table[column], errors="coerce")
    broken = table[list(SPACE_DIMS)].isna().any(axis=1)
    if broken.any():
        raise NiddlError(f"expected numbers in {path}, got row {int(broken.idxmax()) + 1}: {rows[broken.idxmax()]}")
    if "name" not in table:
        table["name"] = listed if len(listed) == len(table) else [f"n{n:03d}" for n in range(1, len(table) + 1)]
    return table.set_index("name")[list(SPACE_DIMS)]


def positions_of(positions: Positions) -> pd.DataFrame:
    """Return the positions as a table of ``z``, ``y``, ``x`` in µm by name, else raise; see ``whole_brain``."""
    if isinstance(positions, str | os.PathLike):
        table = read_atlas(positions)
    elif isinstance(positions, pd.DataFrame):
        missing = [column for column in SPACE_DIMS if column not in positions]
        if missing:
            raise NiddlError(f"expected positions with columns z, y, x in µm, got {list(positions)}: missing {missing}")
        table = (positions.set_index("name") if "name" in positions else positions)[list(SPACE_DIMS)].copy()
    elif isinstance(positions, xr.DataArray):
        if set(positions.dims) != {"neuron", "space"}:
            raise NiddlError(f"expected positions with dims neuron and space, got {positions.dims}: choose one frame")
        if "space" not in positions.coords or set(positions["space"].values.tolist()) != set(SPACE_DIMS):
            raise NiddlError("expected positions whose coordinate space names the axes z, y and x, got none or others")
        values = positions.sel(space=list(SPACE_DIMS)).transpose("neuron", "space")
        table = pd.DataFrame(values.values, index=np.asarray(values["neuron"]), columns=list(SPACE_DIMS))
    else:
        array = _array(positions)
        if array.ndim != 2 or array.shape[1] != 3:
            raise NiddlError(f"expected positions as an array (neuron, 3) of z, y, x in µm, got shape {array.shape}")
        table = pd.DataFrame(array, columns=list(SPACE_DIMS))
    table = table.apply(pd.to_numeric, errors="coerce").astype(float)
    if pd.api.types.is_integer_dtype(table.index):
        table.index = pd.Index([f"n{n:03d}" for n in range(1, len(table) + 1)])
    table.index = pd.Index([str(name) for name in table.index])
    if table.empty or not np.isfinite(table.to_numpy()).all():
        raise NiddlError("expected finite numbers as positions of at least one neuron: drop rows with NaN")
    if table.index.has_duplicates:
        twice = sorted(set(table.index[table.index.duplicated()]))
        raise NiddlError(f"expected a name for each neuron, got {twice[:5]} more than once: rename or drop them")
    return table


def _array(positions: Any) -> np.ndarray:
    try:
        return np.asarray(positions, dtype=float)
    except (TypeError, ValueError) as error:
        raise NiddlError(
            "expected positions as a path, a DataFrame, a DataArray (neuron, space) or an array of numbers "
            f"(neuron, 3), got {shown(positions)}"
        ) from error


def positions_in_field(
    table: pd.DataFrame, field_um: np.ndarray, neurons: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """Return positions (neuron, 3) in µm that lie in a field of ``field_um`` (3,), and their names.

    They are centred along z and y and begin near the left edge; of those in the field ``neurons`` are drawn. A field
    without depth takes all into its plane.
    """
    points = table.to_numpy(float)
    gap_um = np.median(KDTree(points).query(points, 2)[0][:, 1]) if len(points) > 1 else np.inf
    if gap_um < _LEAST_GAP_UM:
        raise NiddlError(
            f"expected positions in µm, got neurons whose nearest neighbour is only {gap_um:.2g} away (median): scale "
            "them to µm, x along the body"
        )
    shift = field_um / 2 - np.median(points, axis=0)
    shift[2] = 0.03 * field_um[2] - points[:, 2].min()
    points = points + shift
    if field_um[0] == 0:
        points[:, 0] = 0.0
    inside = np.flatnonzero(np.all((points >= 0) & (points <= field_um), axis=1))
    if len(inside) < (neurons or 1):
        raise NiddlError(
            f"expected {neurons or 'some'} of the {len(points)} positions inside the field of "
            f"{' x '.join(f'{extent:.4g}' for extent in field_um)} µm (z, y, x), got {len(inside)}: lower neurons=, "
            "enlarge shape= or voxel_um=, and check that positions are in µm with x along the body"
        )
    if neurons is not None:
        inside = np.sort(rng.choice(inside, neurons, replace=False))
    return points[inside], [str(name) for name in table.index[inside]]
