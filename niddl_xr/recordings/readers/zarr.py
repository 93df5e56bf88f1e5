"""Zarr 2 and 3: our store, OME-Zarr 0.4 and 0.5, xarray's groups, and plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import (
    choose_channel,
    damage_named,
    default_axes,
    lazy,
    modified_ns,
    native,
    require_axes,
)
from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.schema import VARIABLE, NiddlError
from niddl_xr.store import FULL_SIZE, is_store, require_finished

if TYPE_CHECKING:
    import dask.array as da
    import zarr

READER = Reader(
    "zarr 2 and 3: our store, OME-Zarr, xarray's, plain arrays",
    suffixes=(".zarr",),
    needs=("zarr",),
    options=("variable",),
)
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_PACKED = ("scale_factor", "add_offset")


@dataclass(frozen=True)
class _Wanted:
    """What the caller says about a recording, whatever its layout."""

    axes: str | None
    channel: int | str | None
    chunks: Any


def recognises_folder(folder: Path) -> bool:
    """Say whether a folder is a zarr group or array."""
    return any((folder / name).is_file() for name in _METADATA)


@dataclass(frozen=True)
class ZarrSource:
    """An array of a zarr store by its path; missing chunks read as the fill value, as zarr has it."""

    path: str
    shape: tuple[int, ...]
    stored: str
    modified_ns: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in the byte order of this machine."""
        return native(self.stored)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        with damage_named(f"the zarr array {self.path} could not be read"):
            return np.asarray(_array(self.path, self.modified_ns)[key], dtype=self.dtype)


@lru_cache(maxsize=16)
def _array(path: str, modified: int) -> zarr.Array[Any]:
    import zarr

    return zarr.open_array(path, mode="r")


def read(
    path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, variable: str | None = None
) -> Opened:
    """Open a zarr store lazily; blocks are made of whole shards along t.

    Parameters
    ----------
    path
        Folder of the store, or of a group or array in it.
    axes
        Letters of the dims of the array, in place of what the store states; needed for a plain array without
        named dims.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    variable
        Name of the array within a group; by default the one that OME metadata name, or the only one that can be a
        recording.
    """
    import zarr

    wanted = _Wanted(axes, channel, chunks)
    with damage_named(f"{path} is not a zarr store that can be read"):
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            return _read_plain(path, node, wanted)
        for folder in (path, path.parent, path.parent.parent):  # the store, or a level of it, or its array
            if is_store(folder):
                require_finished(folder)
        scales = _multiscales(node)
        level = node.get(FULL_SIZE)
        if variable is None and isinstance(level, zarr.Group) and VARIABLE in level:
            return _read_xarray(path / FULL_SIZE, VARIABLE, wanted)
        if variable is None and scales is not None:
            return _read_ome(path, node, scales, wanted)
        return _read_group(path, node, wanted, variable)


def _source(folder: Path, array: zarr.Array[Any]) -> ZarrSource:
    if array.dtype.kind not in "uif":
        raise NiddlError(f"{folder} holds {array.dtype}; expected integer or floating-point counts")
    if 0 in array.shape:
        raise NiddlError(f"{folder} is empty: its shape is {array.shape}")
    metadata = next(folder / name for name in _METADATA if (folder / name).is_file())
    return ZarrSource(str(folder), tuple(array.shape), array.dtype.str, modified_ns(metadata))


def _dim_names(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return the names of the dims of an array of zarr 3, or as xarray writes them in zarr 2."""
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(str(name) for name in names) if names and all(names) else None


def _letters(names: tuple[str, ...] | None) -> str | None:
    """Return axes for dims that are called t, z, c, y, x, or by the whole word."""
    words = {"time": "t", "frame": "t", "depth": "z", "channel": "c"}
    letters = [words.get(name.lower(), name.lower()) for name in names or ()]
    known = len(set(letters)) == len(letters) and {"y", "x"} <= set(letters) <= set("tzcyx")
    return "".join(letters) if known else None


def _read_plain(path: Path, array: zarr.Array[Any], wanted: _Wanted) -> Opened:
    source = _source(path, array)
    letters, notes = default_axes(wanted.axes or _letters(_dim_names(array)), source.shape, str(path))
    data, label = _one_channel(path, array, letters, (), wanted)
    return Opened(data, channel=label, notes=notes)


def _one_channel(
    path: Path, array: zarr.Array[Any], letters: str, names: tuple[str, ...], wanted: _Wanted
) -> tuple[da.Array, int | str | None]:
    """Return the channel that the caller wants, lazily, in blocks of whole shards along t, and what it is called."""
    number, label = choose_channel(wanted.channel, letters, array.shape, names, path)
    stored: tuple[int, ...] = array.shards or array.chunks
    frames = min(stored[letters.index("t")], array.shape[letters.index("t")]) if "t" in letters else 1
    return lazy(_source(path, array), letters, wanted.chunks, number, frames_a_unit=frames), label


def _read_group(path: Path, group: zarr.Group, wanted: _Wanted, variable: str | None) -> Opened:
    arrays = {name: array for name, array in group.arrays()}
    listed = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items()) or "none"
    images = [name for name, array in arrays.items() if len(array.shape) >= 3 and array.dtype.kind in "uif"]
    if variable is not None:
        if variable not in arrays:
            raise NiddlError(f"{path} has no array {variable!r}; its arrays: {listed}")
        images = [variable]
    if len(images) != 1:
        groups = ", ".join(sorted(name for name, _ in group.groups())) or "none"
        raise NiddlError(
            f"expected one array of numbers with 3 dims or more in {path}, found {len(images)}; choose one with "
            f"variable=, or open a group in it. Its arrays: {listed}; its groups: {groups}"
        )
    if _dim_names(arrays[images[0]]) is None:
        return _read_plain(path / images[0], arrays[images[0]], wanted)
    return _read_xarray(path, images[0], wanted)


def _read_xarray(path: Path, variable: str, wanted: _Wanted) -> Opened:
    """Open a variable of a group that xarray reads, with its coordinates and attributes."""
    import zarr

    array = zarr.open_array(path / variable, mode="r")
    with xr.open_zarr(
        path, chunks=None, consolidated=False, decode_times=False, decode_timedelta=False, mask_and_scale=False
    ) as group:
        stored = group[variable]
        attrs, coords = dict(stored.attrs), {str(name): coord.variable.load() for name, coord in stored.coords.items()}
        names = tuple(str(dim) for dim in stored.dims)
    packed = [name for name in _PACKED if name in attrs]
    if packed:
        raise NiddlError(f"{path / variable} is packed with {packed}: decode it with xarray, then use from_numpy")
    letters, notes = default_axes(wanted.axes or _letters(names), array.shape, str(path / variable))
    kept = {
        letter: converted
        for letter, name in zip(letters, names, strict=True)
        if letter != "c" and name in coords and (converted := _coordinate(letter, coords[name])) is not None
    }
    labels = coords.get(names[letters.index("c")]) if "c" in letters else None
    channels = tuple(str(label) for label in labels.values) if labels is not None else ()
    data, label = _one_channel(path / variable, array, letters, channels, wanted)
    return Opened(data, channel=label, coords=kept, attrs=attrs, notes=notes)


def _coordinate(letter: str, stored: xr.Variable) -> xr.Variable | None:
    """Return a coordinate in s or µm, or in frames or pixels as stored; None where its unit is unknown."""
    unit = stored.attrs.get("units")
    scale = s_per(unit) if letter == "t" else um_per(unit)
    if stored.ndim != 1 or stored.dtype.kind not in "uif":
        return None
    if scale is not None:
        return xr.Variable(letter, stored.values * scale, {"units": "s" if letter == "t" else "µm"})
    return xr.Variable(letter, stored.values, {"units": unit}) if unit in ("frame", "pixel") else None


def _multiscales(group: zarr.Group) -> Mapping[str, Any] | None:
    """Return the first image that OME metadata name, of version 0.5 (under "ome") or older."""
    attrs = dict(group.attrs)
    ome = attrs.get("ome")
    found = (ome if isinstance(ome, Mapping) else attrs).get("multiscales")
    first = found[0] if isinstance(found, list) and found else None
    return first if isinstance(first, Mapping) and first.get("datasets") else None


def _read_ome(path: Path, group: zarr.Group, scales: Mapping[str, Any], wanted: _Wanted) -> Opened:
    import zarr

    level = scales["datasets"][0]
    array = group.get(str(level["path"]))
    if not isinstance(array, zarr.Array):
        raise NiddlError(f"the OME metadata of {path} name the array {level['path']!r}, which is not in the store")
    folder = path / str(level["path"])
    stated = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in scales.get("axes", [])]
    letters = _letters(tuple(str(axis.get("name")) for axis in stated))
    if letters is None or len(letters) != len(array.shape):
        letters, notes = default_axes(wanted.axes, array.shape, str(folder))
        stated = [{} for _ in letters]
    else:
        letters, notes = (require_axes(wanted.axes, len(array.shape), str(folder)) if wanted.axes else letters), ()
    coords = {}
    if wanted.axes is None:
        scale, shift = _scale_and_shift([level, scales], len(array.shape))
        for letter, axis, size, step, start in zip(letters, stated, array.shape, scale, shift, strict=True):
            unit = str(axis.get("unit"))
            factor = s_per(unit) if letter == "t" else um_per(unit)
            if letter != "c" and factor is not None and step > 0:
                values = (start + step * np.arange(size)) * factor
                coords[letter] = xr.Variable(letter, values, {"units": "s" if letter == "t" else "µm"})
    data, label = _one_channel(folder, array, letters, _channel_names(group), wanted)
    return Opened(data, channel=label, coords=coords, notes=notes)


def _scale_and_shift(holders: list[Mapping[str, Any]], dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of a step and the place of the first element, the level's transformations before the image's."""
    scale, shift = np.zeros(dims), np.zeros(dims)
    for number, holder in enumerate(holders):
        for transformation in holder.get("coordinateTransformations") or []:
            kind = transformation.get("type")
            values = np.asarray(transformation.get(kind, np.ones(dims)), dtype=float)
            if kind == "scale":
                scale, shift = (values if number == 0 and not scale.any() else scale * values), shift * values
            elif kind == "translation":
                shift = shift + values
    return scale, shift


def _channel_names(group: zarr.Group) -> tuple[str, ...]:
    attrs = dict(group.attrs)
    ome = attrs.get("ome")
    omero = (ome if isinstance(ome, Mapping) else attrs).get("omero")
    channels: Any = omero.get("channels") if isinstance(omero, Mapping) else None
    names = [str(channel.get("label") or "") for channel in channels or [] if isinstance(channel, Mapping)]
    return tuple(names) if names and all(names) else ()
