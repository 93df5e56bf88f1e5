"""The verbs that give a recording: from a file of any format, or from an array in memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.sessions import files_of, join
from niddl_xr.schema import (
    MICROMETRE,
    RECORDING_DIMS,
    SPACE_DIMS,
    NiddlError,
    make_recording,
    voxel_mapping,
    with_history,
)

if TYPE_CHECKING:
    from niddl_xr.recordings.readers import Opened


def open_recording(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    channel: int | str | None = None,
    axes: str | None = None,
    voxel_um: Sequence[float | None] | Mapping[str, float] | None = None,
    dt_s: float | None = None,
    chunks: int | str | Mapping[str, Any] = "auto",
    **options: Any,
) -> xr.DataArray:
    """Open a recording of any length without loading it.

    Parameters
    ----------
    path
        File, folder, or glob of numbered planes; :func:`niddl_xr.readers` lists the formats. A format is recognised
        by content first, by suffix second. A list of files, a glob of files that are no images, or a folder that is
        no recording itself but holds files of one format, is one session: they are joined along t, lists in their
        order, others in natural order (2 before 10), see :func:`niddl_xr.recordings.sessions.join`. Volumes of plain
        TIFF, one a time point, are opened by their folder or a glob, which read the numbers in the names.
    channel
        Which channel of a file with several (or which colour of an RGB image): its number from 0, or its name where
        the file has names.
    axes
        Letters of t, z, c, y, x, one for every dim of the file's array in its order, in place of what the file
        states. Where neither says, the pages of a plain TIFF are t; three dims of an array in HDF5, ``.npy`` or
        zarr are ``"tyx"`` and four ``"tzyx"``, with a warning. ``axes="tzyx", sizes={"z": 30}`` splits the pages of
        a plain TIFF into volumes of 30 planes.
    voxel_um
        Size of a voxel along (z, y, x) in µm, three numbers (None keeps what the file states) or a mapping of dims.
    dt_s
        Time between two frames (volumes) in s. Both are used in place of what the file states. Between the files of
        a session, pauses remain where the files state when they began.
    chunks
        ``"auto"`` (blocks of whole frames of about 16 MiB), a number of frames a block, or a mapping of dims to
        what dask takes.
    **options
        Of one format, as :func:`niddl_xr.readers` lists them: ``sizes`` and ``series`` (TIFF), ``gaps="error"`` or
        ``"skip"`` (numbered files), ``dataset`` (HDF5), ``variable`` (zarr), …

    Returns
    -------
    xarray.DataArray
        (t, z, y, x), named ``"F"``, lazy (dask), of the file's dtype, in the byte order of this machine. A slice
        reads the planes that it names, as far as the format allows. Coordinates are in s and µm where the file
        or an argument says so, else indices, with one warning that names the argument; nothing is guessed. Where
        numbered files were skipped, ``t`` keeps their numbers. ``attrs``: ``source``, the path (the first one
        of a list); ``channel``, where there are several; what the file states of microscope and camera; and
        ``niddl_history``, where the caller said something in place of the file. NaN in the file stay NaN.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        For a file that is empty, cut short, damaged or of an unknown format; for several channels without
        ``channel``; for axes that do not fit; for values that are no real numbers. A page that turns out to be
        damaged raises when it is computed; the message names file and page.

    Examples
    --------
    >>> recording = open_recording("worm7.tif", voxel_um=(1.5, 0.33, 0.33))  # doctest: +SKIP
    >>> recording[10].compute()  # reads the planes of frame 10  # doctest: +SKIP
    """
    named = _paths(path)
    if axes is not None and not isinstance(axes, str):
        raise NiddlError(f"expected axes as letters, such as 'tzyx', got {axes!r}")
    if dt_s is not None and (isinstance(dt_s, (bool, str)) or np.ndim(dt_s)):
        raise NiddlError(f"expected dt_s, the time between frames, as a number of seconds, got {dt_s!r}")
    sources = [file for item in named for file in files_of(Path(item).expanduser().resolve())]
    given = voxel_mapping(voxel_um)
    parts = [_read(source, axes=axes, channel=channel, chunks=chunks, **options) for source in sources]
    opened = parts[0] if len(parts) == 1 else join(parts, sources, given=given, dt_s=dt_s)
    data: Any = opened.data
    if opened.axes != "tzyx":
        data = data.transpose([opened.axes.index(dim) for dim in RECORDING_DIMS])
    chosen = {} if opened.channel is None else {"channel": opened.channel}
    for note in opened.notes:
        warnings.warn(note, stacklevel=2)
    source = str(Path(named[0]).expanduser().resolve() if len(named) == 1 else sources[0])
    try:
        recording = make_recording(
            data,
            voxel_um={**_stored_steps(opened), **opened.voxel_um, **given},
            **_times(opened, dt_s if len(parts) == 1 else None),
            attrs={**opened.attrs, "source": source, **chosen},
        )
    except NiddlError as error:  # what the file states is no voxel size or time
        raise NiddlError(f"{source}: {error}") from error
    kept = {dim: coord for dim, coord in opened.coords.items() if dim in SPACE_DIMS and dim not in given}
    if recording["t"].attrs["units"] == "frame" and "t" in opened.coords:
        kept["t"] = opened.coords["t"]
    said = {"axes": axes, "voxel_um": given or None, "dt_s": dt_s, **options}
    said = {name: value for name, value in said.items() if value is not None}
    recording = recording.assign_coords(kept)
    return with_history(recording, "open_recording", said) if said else recording


def reader_of(path: str | os.PathLike[str]) -> str:
    """Return the name of the reader that :func:`open_recording` takes for ``path``: of a session, for its first file.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        Where no reader recognises what is there.
    """
    from niddl_xr.recordings.readers import find_reader

    return find_reader(files_of(Path(path))[0])


def _paths(path: Any) -> list[str | os.PathLike[str]]:
    one = isinstance(path, (str, bytes, os.PathLike)) or not isinstance(path, Iterable)
    named = [path] if one else list(path)
    odd = {type(item).__name__ for item in named if not isinstance(item, (str, os.PathLike))}
    if odd or not named:
        raise NiddlError(
            "expected a path, or the paths of the files of one session in order, got "
            f"{', '.join(sorted(odd)) or 'none'}; an array in memory becomes a recording with niddl_xr.from_numpy"
        )
    return named


def _read(source: Path, **arguments: Any) -> Opened:
    from niddl_xr.recordings.readers import find_reader, load_reader

    options = {name: value for name, value in arguments.items() if name not in ("axes", "channel", "chunks")}
    opened: Opened = load_reader(find_reader(source), options, source).read(source, **arguments)
    _require_counts(opened, source)
    return opened


def _require_counts(opened: Opened, source: Path) -> None:
    if 0 in opened.data.shape:
        raise NiddlError(f"{source} is empty: its sizes are {dict(zip(opened.axes, opened.data.shape, strict=True))}")
    if opened.data.dtype.kind not in "uif":
        raise NiddlError(f"expected integer or floating-point counts, got dtype {opened.data.dtype} in {source}")


def _stored_steps(opened: Opened) -> dict[str, float]:
    """Return the voxel size in µm along the coordinates that the file stores in µm."""
    steps = {}
    for dim in SPACE_DIMS:
        coord = opened.coords.get(dim)
        if coord is not None and coord.attrs.get("units") in MICROMETRE and coord.size > 1:
            steps[dim] = abs(float(coord.values[1] - coord.values[0]))
    return {dim: step for dim, step in steps.items() if step > 0}


def _times(opened: Opened, dt_s: float | None) -> dict[str, Any]:
    """Return the time arguments of a recording: of the caller, else of the file; skipped frames keep their time."""
    stored = opened.coords.get("t")
    if dt_s is None and stored is not None and stored.attrs.get("units") == "s":
        return {"t_s": stored.values}
    interval = opened.dt_s if dt_s is None else dt_s
    if stored is not None and stored.attrs.get("units") == "frame" and interval is not None and interval > 0:
        return {"t_s": stored.values * interval}
    return {"dt_s": interval} if dt_s is not None or opened.t_s is None else {"t_s": opened.t_s}


def from_numpy(
    array: Any,
    *,
    dims: str | Sequence[str],
    voxel_um: Sequence[float | None] | Mapping[str, float] | None = None,
    dt_s: float | None = None,
) -> xr.DataArray:
    """Label an array in memory (or a dask array) as a recording.

    Parameters
    ----------
    array
        Numbers, with any order of dims; float16 to float64 and integers, the dtype is kept.
    dims
        Its dims in order, letters of t, z, y, x with y and x among them, such as ``"tyx"``. A dim that is not there
        gets size 1.
    voxel_um
        Size of a voxel along (z, y, x) in µm, as three numbers or a mapping of dims; None where unknown.
    dt_s
        Time between two frames in s.

    Returns
    -------
    xarray.DataArray
        (t, z, y, x), a view of ``array`` where its byte order is this machine's; coordinates as
        :func:`open_recording` gives them. NaN stay NaN.

    Raises
    ------
    NiddlError
        For dims that do not fit, an empty array, and values that are no real numbers.

    Examples
    --------
    >>> movie = from_numpy(np.zeros((5, 3, 4), "uint16"), dims="tyx", voxel_um=(None, 0.4, 0.4), dt_s=0.25)
    >>> movie.sizes["z"], float(movie.t[-1])
    (1, 1.0)
    """
    values = array if hasattr(array, "dask") else np.asarray(array)
    letters = [str(dim) for dim in dims]
    if (
        len(letters) != values.ndim
        or len(set(letters)) != len(letters)
        or not {"y", "x"} <= set(letters) <= set("tzyx")
    ):
        raise NiddlError(
            f"expected dims as letters of t, z, y, x, each at most once, with y and x, one for every dim of the "
            f"array of shape {tuple(values.shape)}, got {dims!r}; choose one channel by indexing the array"
        )
    if isinstance(values, np.ndarray) and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    present = [dim for dim in RECORDING_DIMS if dim in letters]
    values = values.transpose([letters.index(dim) for dim in present])
    values = values[tuple(slice(None) if dim in letters else None for dim in RECORDING_DIMS)]
    return make_recording(values, voxel_um=voxel_um, dt_s=dt_s)
