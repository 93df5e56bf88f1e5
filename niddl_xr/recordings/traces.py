"""The verb open_traces: traces of neurons from files of other tools, and from those of export."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.recordings._trace_nwb import read_nwb
from niddl_xr.recordings._trace_parts import CONTRACT, Parts, contract_name, dataset_of, listed, one_variable
from niddl_xr.recordings._trace_tables import attributes_of, read_csv, read_parquet
from niddl_xr.schema import NiddlError, history, with_history

_SUFFIXES = (".csv", ".parquet", ".nwb", ".mat", ".zarr")
_STRUCT = ("dims", "units")  # of every struct that export writes


def open_traces(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    dt_s: float | None = None,
    time: str | None = None,
    neurons: str | Sequence[str] | None = None,
) -> xr.Dataset:
    """Open traces of neurons, whatever tool wrote them.

    ============  ==========================================================================================
    suffix        what it holds
    ============  ==========================================================================================
    ``.csv``      a row for each neuron and frame, with a column ``neuron``, as :func:`niddl_xr.export` writes
                  it; or a column for each neuron, and a row for each frame
    ``.parquet``  the same
    ``.nwb``      series of regions (RoiResponseSeries), named by their table; or a TimeSeries for each neuron
    ``.mat``      the struct that :func:`niddl_xr.export` writes
    ``.zarr``     a Dataset with dims t and neuron, as xarray writes it; lazy
    ============  ==========================================================================================

    Parameters
    ----------
    path
        The file, or the folder of a zarr store.
    variable
        Of a file that names its variables, the one to take; None: all. Of one that does not (a column or a series for
        each neuron) the name to give, such as "dff"; None: "activity".
    dt_s
        Time between two frames in s, in place of what the file states.
    time
        Column of a table that holds the time in s. Without it "t_s" and "time_s" are in s, because they say so; a
        column "time" is not taken for seconds.
    neurons
        Which columns, or which series of an NWB file, are neurons: names, or patterns such as "Activity_*". The others
        become coordinates over t. None: all columns of numbers of a table; of an NWB file its series of regions, else
        the largest family of names that differ by a number alone. An empty list: none, for behaviour alone.

    Returns
    -------
    xarray.Dataset
        Variables (t, neuron) of the file's dtype (NaN where a table has no row; tables with a column for each neuron
        in float64), with ``units`` where the file states them, or where niddl_xr defines them by name. Coordinate ``t``
        in s, or numbers of frames where the time is not known, with a warning; ``neuron``, the names. What else there
        is at the same times (states, speed) are coordinates over t, and what belongs to neurons coordinates over
        neuron. Series at other times are left out; attrs ``series_left_out`` name them. attrs: ``source``, and those of
        the file, the history among them.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        For another format, a damaged or empty file, no neurons, names that stand twice, several rows of one neuron and
        time, times that do not rise, and arguments that do not fit. The message names the file.

    Warns
    -----
    MissingMetadataWarning
        Where the file does not state the time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "worm.csv")
    ...     _ = file.write_text("time_s,AVAL,RIML,state\\n0.0,1.5,0.5,forward\\n0.5,2.0,1.0,reversal\\n")
    ...     traces = open_traces(file, variable="dff")
    >>> traces["dff"].sel(neuron="AVAL").values.tolist(), traces["state"].values.tolist()
    ([1.5, 2.0], ['forward', 'reversal'])
    """
    file = Path(path).expanduser().absolute()
    if not file.exists():
        raise FileNotFoundError(f"there is nothing at {file}")
    _require_arguments(file, dt_s, time, neurons)
    said = {"variable": variable, "dt_s": dt_s, "time": time, "neurons": neurons}
    said = {name: value for name, value in said.items() if value is not None}
    suffix = file.suffix.lower()
    if suffix == ".zarr":
        traces = _read_zarr(file, variable, dt_s)
    else:
        if not file.is_file():
            raise NiddlError(f"expected a file with traces, got the folder {file}")
        parts = one_variable(_read(file, suffix, time, neurons), variable, file)
        traces = dataset_of(parts, file, dt_s)
    try:
        history(traces)
    except NiddlError as error:
        raise NiddlError(f"{file}: {error}") from error
    return with_history(traces, "open_traces", said)


def _require_arguments(file: Path, dt_s: float | None, time: str | None, neurons: str | Sequence[str] | None) -> None:
    if file.suffix.lower() not in _SUFFIXES:
        raise NiddlError(
            f"expected traces in a file that ends with {', '.join(_SUFFIXES)}, got {file.name}; recordings are opened "
            "with niddl_xr.open_recording"
        )
    if dt_s is not None and (
        isinstance(dt_s, bool) or not isinstance(dt_s, int | float | np.number) or not 0 < dt_s < np.inf
    ):
        raise NiddlError(f"expected dt_s, the time between frames, as a positive number of seconds, got {dt_s!r}")
    if dt_s is not None and time is not None:
        raise NiddlError("expected dt_s= or time=, got both")
    table = file.suffix.lower() in (".csv", ".parquet")
    if time is not None and not table:
        raise NiddlError(f"time= names a column of a table, which {file.name} is not; see dt_s=")
    if neurons is not None and not (table or file.suffix.lower() == ".nwb"):
        raise NiddlError(f"neurons= chooses columns or series, which {file.name} does not have; see sel(neuron=...)")


def _read(file: Path, suffix: str, time: str | None, neurons: str | Sequence[str] | None) -> Parts:
    if suffix == ".csv":
        return read_csv(file, time, neurons)
    if suffix == ".parquet":
        return read_parquet(file, time, neurons)
    return read_nwb(file, neurons) if suffix == ".nwb" else _read_matlab(file)


def _read_matlab(file: Path) -> Parts:
    """Return the traces of the struct that export writes."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(file, simplify_cells=True)
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError, KeyError, IndexError) as error:
        raise NiddlError(f"{file} is no MATLAB file of version 5 that can be read: {error}") from error
    structs = {name: item for name, item in content.items() if isinstance(item, dict) and set(_STRUCT) <= set(item)}
    found = [item for item in structs.values() if isinstance(item["dims"], dict) and "neuron" in item]
    if len(found) != 1:
        there = listed(name for name in content if not name.startswith("__"))
        raise NiddlError(
            f"expected one struct of traces as niddl_xr.export writes it in {file}, got {len(found)}; it has {there}: "
            "write other matrices as a table with a column for each neuron, or build the Dataset with xarray"
        )
    return _of_struct(found[0], file)


def _of_struct(struct: dict[str, Any], file: Path) -> Parts:
    dims, units = struct["dims"], struct["units"]
    clock = next((name for name in ("t_s", "t_frame", "t") if name in struct), None)
    names = [str(name) for name in np.atleast_1d(struct["neuron"]).ravel()]
    frames = max(
        (np.size(item) // len(names) for name, item in struct.items() if dims.get(name) == "t neuron"), default=0
    )
    t = None if clock is None else np.atleast_1d(struct[clock]).astype(float)
    parts = Parts(names, frames, t=t, in_s=clock == "t_s", attrs=attributes_of(struct.get("attributes")))
    sizes = {"t": (frames,), "neuron": (len(names),), "t neuron": (frames, len(names))}
    places = {"t": parts.over_time, "neuron": parts.over_neurons, "t neuron": parts.values}
    for field, along in dims.items():
        if field in ("neuron", clock) or along not in sizes or field not in struct:
            continue
        values = np.asarray(struct[field])
        if values.size != np.prod(sizes[along]):
            raise NiddlError(f"{field} of {file} has {values.size} values, where {along} have {sizes[along]}")
        name = contract_name(str(field))
        kept = values.reshape(sizes[along])
        if kept.dtype.kind in "OU":  # a cell of texts, of which an empty one is an array of nothing
            texts = [item if isinstance(item, str) else "" for item in kept.ravel().tolist()]
            kept = np.asarray(texts, dtype=str).reshape(kept.shape)
        places[along][name] = kept
        stated = units.get(field)
        if unit := stated if isinstance(stated, str) and stated else CONTRACT.get(name, ""):
            parts.units[name] = unit
    return parts


def _read_zarr(file: Path, variable: str | None, dt_s: float | None) -> xr.Dataset:
    import zarr

    try:
        traces: xr.Dataset = xr.open_zarr(file)
    except (OSError, KeyError, ValueError, zarr.errors.BaseZarrError) as error:
        raise NiddlError(f"{file} is no zarr store that xarray can open: {error}") from error
    there = [str(name) for name, item in traces.data_vars.items() if set(item.dims) == {"t", "neuron"}]
    if not there or (variable is not None and variable not in there):
        wanted = "a variable" if variable is None else f"the variable {variable}"
        raise NiddlError(f"expected {wanted} with dims t and neuron in {file}, got {listed(there or traces.sizes)}")
    traces = traces if variable is None else traces[[variable]]
    if dt_s is not None:
        traces = traces.assign_coords(t=("t", np.arange(traces.sizes["t"]) * float(dt_s), {"units": "s"}))
    return traces.assign_attrs(source=str(file))
