"""A dataset of an HDF5 file, or a variable of a MATLAB 7.3 file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._axis_names import axes_of, coordinate, letter_of
from niddl_xr.recordings.readers._chunked import lazy_chunked
from niddl_xr.recordings.readers._hdf5 import (
    SIGNATURE,
    attribute,
    datasets,
    follow,
    holds_counts,
    is_hdf5,
    number,
    numbers,
    opened,
    small,
    source,
    text,
)
from niddl_xr.recordings.readers._hdf5_series import Hdf5Series, known_pattern, named_by
from niddl_xr.recordings.readers._lazy import choose_channel, default_axes, lazy
from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.schema import MissingMetadataWarning, NiddlError

if TYPE_CHECKING:
    import h5py
    import xarray as xr

READER = Reader(
    "a dataset of an HDF5 file, a variable of a MATLAB 7.3 file",
    suffixes=(".h5", ".hdf5", ".hdf", ".he5", ".mat"),
    magic=(SIGNATURE,),
    needs=("h5py",),
    options=("dataset",),
    general=True,
)
_MATLAB = b"MATLAB 7.3 MAT-file"
_COMPONENTS = {"estimates": "CaImAn", "extractAnalysisOutput": "EXTRACT"}  # root groups of results of other tools


@dataclass(frozen=True)
class _Stated:
    """What a layout that we know says about its dataset."""

    axes: str | None = None
    voxel_um: Mapping[str, float] = field(default_factory=dict)
    dt_s: float | None = None
    channels: tuple[str, ...] = ()
    coords: Mapping[str, xr.Variable] = field(default_factory=dict)


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is HDF5, also behind a block of 512 bytes or more, as in MATLAB's files of version 7.3."""
    return is_hdf5(head)


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, dataset: str | None = None) -> Opened:
    """Open a dataset of an HDF5 file lazily.

    Parameters
    ----------
    path
        The file.
    axes
        Letters of the dims of the dataset. By default what the file says: labels or scales of its dims, the
        ``axistags`` of ilastik, (t, y, x) of the dataset ``mov`` of CaImAn and of the masks of Tierpsy; else
        ``"tyx"`` for 3 dims and ``"tzyx"`` for 4, with a warning. MATLAB writes the last dim of an array first, so
        that its (y, x, t) is ``"txy"`` and its (y, x, z, t) ``"tzxy"``: these are taken, with a warning.
    channel, chunks
        See :func:`niddl_xr.open_recording`. Blocks of ``"auto"`` hold whole chunks of the file along t.
    dataset
        Its name (in a MATLAB file, the name of the variable); by default the only one of numbers with three dims
        or more, or the only dataset of the file if it has two. Of ``mask`` and ``full_data`` of Tierpsy, ``mask``.
        Where every frame is a dataset, their names with ``{t}`` for the number of the frame, and ``{c}`` for that
        of the channel where these are datasets, too; then ``axes`` begins with t: ``dataset="{t}/frame"`` with
        ``axes="tcxyz"``. Those of Fiji's HDF5 plugin (``t{t}/channel{c}``) and of BigDataViewer
        (``t{t}/s{c}/0/cells``, a channel for every view; uint16 stored as int16) are known.

    Returns
    -------
    Opened
        With the voxel size of ``element_size_um`` (z, y, x; of sima, ImageJ and others) and ``microns_per_pixel``
        (Tierpsy), the frame rate of ``fr`` (CaImAn) and ``expected_fps`` (Tierpsy), the names of
        ``channel_names``, and dimension scales with a known unit as coordinates.

    Raises
    ------
    NiddlError
        Where the choice is not clear; for components of CaImAn or EXTRACT; for tables, texts, truth values; for
        links and datasets that lead to other files; for filters that are not installed; for a damaged file.
    """
    with opened(path) as file:
        pattern = known_pattern(file) if dataset is None else dataset
        if pattern is not None and "{t}" in pattern:
            return _read_series(path, file, pattern, axes, channel, chunks, stated=dataset is None)
        matlab = file.userblock_size >= len(_MATLAB) and _is_matlab(path)
        chosen = _choose(path, file, dataset)
        found, notes = source(path, chosen)
        stated = _stated(chosen)
    where = f"dataset {found.name} of {path}"
    if axes is None and stated.axes is not None and len(stated.axes) == len(found.shape):
        letters = stated.axes
    elif axes is None and matlab and len(found.shape) in (3, 4):
        letters = {3: "txy", 4: "tzxy"}[len(found.shape)]
        written = letters[::-1]
        notes += (MissingMetadataWarning(f"{where} is taken as MATLAB's ({', '.join(written)}): axes={letters!r}"),)
    else:
        letters, warned = default_axes(axes, found.shape, where)
        notes += warned
    number_of, label = choose_channel(channel, letters, found.shape, stated.channels, path)
    data, slow = lazy_chunked(found, found.chunk, letters, chunks, number_of, where)
    kept = axes is None
    return Opened(
        data,
        voxel_um=stated.voxel_um,
        dt_s=stated.dt_s,
        channel=label,
        coords=stated.coords if kept else {},
        attrs={"dataset": found.name, **({"channels": list(stated.channels)} if stated.channels else {})},
        notes=(*notes, *slow),
    )


def _read_series(
    path: Path, file: h5py.File, pattern: str, axes: str | None, channel: int | str | None, chunks: Any, *, stated: bool
) -> Opened:
    """Open the datasets that a pattern names; a pattern that the file ``stated`` means volumes (z, y, x) or planes."""
    all_of_them = named_by(file, pattern)
    number_of, label = choose_channel(channel if len(all_of_them) > 1 else None, "c", (len(all_of_them),), (), path)
    before, digits, after, numbers = all_of_them[number_of]
    first = follow(file, f"{before}{numbers[0]:0{digits}}{after}", strict=True)
    found, notes = source(path, first)
    shape = (len(numbers), *found.shape)
    assumed = "t" + "zyx"[-len(found.shape) :] if axes is None and stated else axes
    letters, warned = default_axes(assumed, shape, f"{pattern} of {path}")
    if len(all_of_them) == 1:
        number_of, label = choose_channel(channel, letters, shape, (), path)
    image = Hdf5Series(
        *(str(path), before, digits, after, numbers, shape, found.stored, found.modified_ns),
        unsigned=after.endswith("/cells") and stated,
    )
    return Opened(
        lazy(image, letters, chunks, number_of if "c" in letters else 0),
        voxel_um=_stated(first).voxel_um,
        channel=label,
        attrs={"dataset": pattern},
        notes=(*notes, *warned),
    )


def _is_matlab(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MATLAB)) == _MATLAB


def _choose(path: Path, file: h5py.File, name: str | None) -> h5py.Dataset:
    import h5py

    if name is not None:
        item = follow(file, name, strict=True)
        if not isinstance(item, h5py.Dataset) or not holds_counts(item):
            raise NiddlError(f"{path} has no dataset {name!r} of numbers; its datasets: {datasets(file)}")
        return item
    for group, tool in _COMPONENTS.items():
        if group in file:
            raise NiddlError(f"{path} holds components that {tool} found, not a movie{_movie_of(file)}")
    found = datasets(file)
    images = [item for item in found.arrays if len(item.shape) >= 3 and holds_counts(item) and not _is_text(item)]
    if len(images) == 2 and {item.name for item in images} == {"/mask", "/full_data"}:
        images = [item for item in images if item.name == "/mask"]
    if not images and found.count == 1 and found.arrays and holds_counts(found.arrays[0]):
        images = found.arrays  # a single picture
    if len(images) != 1:
        raise NiddlError(
            f"expected one dataset of numbers with 3 dims or more in {path}, found {len(images)}; choose one with "
            f"dataset=. Its datasets: {found}"
        )
    return images[0]


def _movie_of(file: h5py.File) -> str:
    name = text(small(follow(file, "mmap_file"))) or text(small(follow(file, "params/data/fnames")))
    return f"; the movie was {name}: open that" if name else ": open the movie that it was given"


def _is_text(dataset: h5py.Dataset) -> bool:
    """Say whether MATLAB wrote a text or truth values as whole numbers."""
    return attribute(dataset, "MATLAB_class") in ("char", "logical")


def _stated(dataset: h5py.Dataset) -> _Stated:
    names, scales = _dim_names(dataset)
    axes = axes_of(names) or _ilastik_axes(dataset)
    sizes = numbers(attribute(dataset, "element_size_um"))
    voxel = {dim: size for dim, size in zip("zyx", sizes, strict=False) if size > 0} if len(sizes) == 3 else {}
    listed = attribute(dataset, "channel_names")
    channels = (
        tuple(str(name) for name in listed) if isinstance(listed, (list, tuple)) or hasattr(listed, "shape") else ()
    )
    coords = _coords(dataset, names, scales) if axes == axes_of(names) else {}
    leaf, rate = dataset.name.rpartition("/")[2], number(attribute(dataset, "fr"))
    if leaf == "mov" and rate is not None and len(dataset.shape) == 3:  # caiman.base.movies.movie.save
        return _Stated(axes or "tyx", voxel, 1 / rate if rate > 0 else None, channels, coords)
    rate = number(attribute(dataset, "expected_fps"))
    if leaf in ("mask", "full_data") and rate is not None and len(dataset.shape) == 3:
        return _tierpsy(dataset, rate if leaf == "mask" else None)
    return _Stated(axes, voxel, None, channels, coords)


def _tierpsy(dataset: h5py.Dataset, frames_per_s: float | None) -> _Stated:
    """Return what Tierpsy states of its masked movie (t, y, x); sizes of 1 pixel are what it writes for unknown."""
    pixel = number(attribute(dataset, "microns_per_pixel"))
    known = pixel is not None and pixel > 0 and um_per(text(attribute(dataset, "xy_units"))) is not None
    timed = frames_per_s is not None and frames_per_s > 0 and s_per(text(attribute(dataset, "time_units"))) is not None
    return _Stated(
        "tyx",
        {"y": float(pixel), "x": float(pixel)} if known and pixel is not None else {},
        1 / frames_per_s if timed and frames_per_s is not None else None,
    )


def _ilastik_axes(dataset: h5py.Dataset) -> str | None:
    """Return the axes that vigra and ilastik write as JSON: {"axes": [{"key": "t", …}, …]}."""
    tags = text(attribute(dataset, "axistags"))
    if tags is None:
        return None
    try:
        listed = json.loads(tags)["axes"]
        return axes_of([str(axis["key"]) for axis in listed])
    except (ValueError, TypeError, KeyError) as error:
        raise NiddlError(f"the axistags of {dataset.name} of {dataset.file.filename} make no sense: {error}") from error


def _dim_names(dataset: h5py.Dataset) -> tuple[list[str], list[h5py.Dataset | None]]:
    """Return the labels of the dims, or the names of their scales, and the scales.

    The attributes of the Dimension Scale specification are read as such: the functions of the HDF5 library for them
    crash the interpreter where a byte of a label is damaged.
    """
    import h5py

    dims = len(dataset.shape)
    labels = attribute(dataset, "DIMENSION_LABELS")
    names = [str(label) for label in labels] if np.shape(labels) == (dims,) else [""] * dims
    listed = _references(dataset, "DIMENSION_LIST")
    scales: list[h5py.Dataset | None] = [None] * dims
    for at, references in enumerate(listed if np.shape(listed) == (dims,) else ()):
        first = references[0] if len(references) else None
        item = dataset.file[first] if isinstance(first, h5py.Reference) and first else None
        if isinstance(item, h5py.Dataset) and item.name:
            scales[at] = item
            names[at] = names[at] or str(item.name).rpartition("/")[2]
    return names, scales


def _references(dataset: h5py.Dataset, name: str) -> Any:
    """Return an attribute that is a list of references a dim, empty where it is anything else."""
    import h5py

    kind = dataset.attrs.get_id(name).get_type() if name in dataset.attrs else None
    if not isinstance(kind, h5py.h5t.TypeVlenID) or not isinstance(kind.get_super(), h5py.h5t.TypeReferenceID):
        return ()
    # Lists of any length are of type 0 in the bit field of their datatype, texts of type 1: for others, which are
    # damage, the library jumps to an address that it never set (HDF5 File Format Specification, IV.A.2.d).
    return dataset.attrs[name] if kind.encode()[3] & 0x0F == 0 else ()


def _coords(dataset: h5py.Dataset, names: list[str], scales: list[h5py.Dataset | None]) -> dict[str, xr.Variable]:
    """Return the dimension scales that have a unit as coordinates."""
    coords = {}
    for name, scale, size in zip(names, scales, dataset.shape, strict=True):
        values = small(scale, most=10_000_000) if scale is not None and scale.shape == (size,) else None
        if scale is not None and isinstance(values, np.ndarray):
            made = coordinate(letter_of(name), name, values, attribute(scale, "units"))
            if made is not None:
                coords[letter_of(name)] = made
    return coords
