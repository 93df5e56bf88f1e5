"""Zarr 2 and 3: our store, OME-Zarr, xarray's groups, Minian's folders, plain arrays; in folders and zip files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._axis_names import axes_of, coordinate, letter_of
from niddl_xr.recordings.readers._chunked import lazy_chunked
from niddl_xr.recordings.readers._lazy import (
    LETTERS,
    choose_channel,
    damage_named,
    default_axes,
    require_axes,
)
from niddl_xr.recordings.readers._ome_zarr import (
    channel_names,
    chosen,
    coordinates,
    images_of,
    multiscales,
    stated_axes,
    wells_of,
)
from niddl_xr.recordings.readers._zarr_source import (
    DAMAGED,
    METADATA,
    Place,
    ZarrSource,
    decodable,
    has_metadata,
    make_source,
    open_node,
)
from niddl_xr.schema import VARIABLE, NiddlError
from niddl_xr.store import FULL_SIZE, is_store, require_finished

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
    import zarr

READER = Reader(
    "zarr 2 and 3: our store, OME-Zarr, xarray's, Minian's, plain arrays",
    suffixes=(".zarr",),
    needs=("zarr",),
    options=("variable", "series"),
)
_ZIP_SUFFIXES = (".zip", ".ozx")
_PACKED = ("scale_factor", "add_offset")
_OF_XARRAY = ("_ARRAY_DIMENSIONS", "coordinates", "_FillValue")


@dataclass(frozen=True)
class _Wanted:
    """What the caller says about a recording, whatever its layout."""

    axes: str | None
    channel: int | str | None
    chunks: Any
    variable: str | None
    series: int | str | None


def recognises_folder(folder: Path) -> bool:
    """Say whether a folder is a zarr group or array, or the folder of stores in which Minian keeps its variables."""
    return has_metadata(folder) or bool(_stores_in(folder))


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is a zip file with a zarr store in it."""
    if not head.startswith(b"PK\x03\x04") or path.suffix.lower() not in _ZIP_SUFFIXES:
        return False
    try:
        return _root_in_zip(path) is not None
    except DAMAGED:
        return True  # the reader says what is wrong


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    variable: str | None = None,
    series: int | str | None = None,
) -> Opened:
    """Open a zarr store lazily; blocks are made of whole shards along t.

    Parameters
    ----------
    path
        Folder of the store, or of a group or array in it; a zip file with a store; or a folder of Minian, in which
        every variable is a store.
    axes
        Letters of the dims of the array, in place of what the store states; needed for a plain array without
        named dims. Names of dims may be letters or words (frame, height, width, …). Dims of size 1 with other
        names, such as Minian's animal and session, are left out. OME-Zarr 0.1 and 0.2 is (t, c, z, y, x).
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    variable
        Name of the array within a group; by default the one that OME metadata name, or the only one that can be a
        recording.
    series
        Number or name of the image, in a store of several (the layout of bioformats2raw, a well of a plate, a group
        of several multiscales, whose first is the default).

    Returns
    -------
    Opened
        The level of full size. Coordinates of OME metadata (0.4 and 0.5: scales and translations with their
        units), and of the arrays along the dims that have a unit. Whole numbers along frame are numbers of frames.

    Raises
    ------
    NiddlError
        Where the choice is not clear; for a plate (the message names an image of it), for packed values, for codecs
        that are not known to be safe, for an unfinished store of niddl_xr, and for a damaged one.
    """
    import zarr

    wanted = _Wanted(axes, channel, chunks, variable, series)
    with damage_named(f"{path} is not a zarr store that can be read", DAMAGED):
        place = Place(str(path))
        if path.is_file():
            place = replace(place, inner=_root_in_zip(path) or "")
        elif not has_metadata(path):
            place, wanted = Place(str(_variable_of_minian(path, variable))), replace(wanted, variable=None)
        node = open_node(place)
        if isinstance(node, zarr.Array):
            return _read_array(place, node, wanted)
        for folder in (path, path.parent, path.parent.parent):  # the store, or a level of it, or its array
            if is_store(folder):
                require_finished(folder)
        return _read_node(place, node, wanted)


def _read_node(place: Place, group: zarr.Group, wanted: _Wanted) -> Opened:
    """Open what a group holds: an image of OME-Zarr, one of several images, or variables."""
    import zarr

    attrs = dict(group.attrs)
    found = group.get(FULL_SIZE)
    level = found if isinstance(found, zarr.Group) else None
    stored = level.get(VARIABLE) if level is not None else None
    if wanted.variable is None and isinstance(stored, zarr.Array):
        return _read_array(place.within(f"{FULL_SIZE}/{VARIABLE}"), stored, wanted, level)
    image = multiscales(attrs, wanted.series, str(place)) if wanted.variable is None else None
    if image is not None:
        return _read_ome(place, group, image, wanted)
    wells = wells_of(attrs)
    if wells is not None:
        raise NiddlError(
            f"{place} is a plate of {len(wells)} wells: open an image of one, such as {place}/{wells[0]}/0"
        )
    inner = group.get("OME")
    images = images_of(attrs, dict(inner.attrs) if inner is not None else {}, [name for name, _ in group.groups()])
    if images is not None and wanted.variable is None:
        below = place.within(images[chosen(wanted.series, images, str(place))])
        node = open_node(below)
        if isinstance(node, zarr.Array):
            return _read_array(below, node, wanted)
        image = multiscales(dict(node.attrs), None, str(below))
        if image is None:
            raise NiddlError(f"{below} has no OME metadata of an image; open the array in it")
        return _read_ome(below, node, image, wanted)
    return _read_group(place, group, wanted)


def _stores_in(folder: Path) -> list[Path]:
    return sorted(child for child in folder.glob("*.zarr") if child.is_dir() and has_metadata(child))


def _root_in_zip(path: Path) -> str | None:
    """Return the path of the outermost group or array in a zip file, or None where it holds no store."""
    with zipfile.ZipFile(path) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
    roots = sorted((name.parent for name in names if name.name in METADATA), key=lambda root: len(root.parts))
    return str(roots[0]).removeprefix(".") if roots else None


def _variable_of_minian(folder: Path, variable: str | None) -> Path:
    """Return the store of the wanted variable in a folder with one store a variable, as Minian saves them."""
    import zarr

    stores = {store.stem: store for store in _stores_in(folder)}
    movies = []
    for name, store in stores.items():
        node = open_node(Place(str(store)))
        arrays = dict(node.arrays()) if isinstance(node, zarr.Group) else {}
        if any(_known_dims(array) is not None and array.ndim >= 3 for array in arrays.values()):
            movies.append(name)
    found = [name for name in movies if variable in (None, name)] or [name for name in stores if name == variable]
    if len(found) != 1:
        raise NiddlError(
            f"expected one movie in the stores of {folder}, found {len(found)}; choose one with variable=: "
            f"{', '.join(movies) or 'none'}. Its stores: {', '.join(stores)}"
        )
    return stores[found[0]]


def _dim_names(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return the names of the dims of an array of zarr 3, or as xarray writes them in zarr 2."""
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    known = isinstance(names, (list, tuple)) and len(names) == array.ndim and all(names)
    return tuple(str(name) for name in names) if known else None


def _kept(array: zarr.Array[Any], axes: str | None) -> tuple[int, ...]:
    """Return the dims of an array without those of size 1 that have a name which is none of ours."""
    names = _dim_names(array)
    if names is None or (axes is not None and len(axes) == array.ndim):
        return tuple(range(array.ndim))
    return tuple(dim for dim, name in enumerate(names) if array.shape[dim] > 1 or letter_of(name) in tuple(LETTERS))


def _known_dims(array: zarr.Array[Any]) -> str | None:
    names = _dim_names(array)
    return axes_of([names[dim] for dim in _kept(array, None)]) if names is not None else None


def _read_group(place: Place, group: zarr.Group, wanted: _Wanted) -> Opened:
    arrays = dict(group.arrays())
    listed = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in list(arrays.items())[:24]) or "none"
    images = [name for name, array in arrays.items() if array.ndim >= 3 and array.dtype.kind in "uif"]
    if wanted.variable is not None:
        if wanted.variable not in arrays:
            raise NiddlError(f"{place} has no array {wanted.variable!r}; its arrays: {listed}")
        images = [wanted.variable]
    else:  # what is named, but not as a movie is, such as the footprints of neurons, is none
        images = [name for name in images if _dim_names(arrays[name]) is None or _known_dims(arrays[name]) is not None]
    if len(images) != 1:
        groups = ", ".join(sorted(name for name, _ in group.groups())[:24]) or "none"
        raise NiddlError(
            f"expected one array of numbers with 3 dims or more in {place}, found {len(images)}; choose one with "
            f"variable=, or open a group in it. Its arrays: {listed}; its groups: {groups}"
        )
    return _read_array(place.within(images[0]), arrays[images[0]], wanted, group)


def _read_array(place: Place, array: zarr.Array[Any], wanted: _Wanted, group: zarr.Group | None = None) -> Opened:
    """Open an array, with its attributes, and the coordinates in its group."""
    attrs = {str(name): value for name, value in dict(array.attrs).items() if name not in _OF_XARRAY}
    packed = [name for name in _PACKED if name in attrs]
    if packed:
        raise NiddlError(f"{place} is packed with {packed}: decode it with xarray, then use from_numpy")
    kept = _kept(array, wanted.axes)
    source, names = make_source(place, array, kept), _dim_names(array)
    named = [names[dim] for dim in kept] if names is not None else None
    letters, notes = default_axes(wanted.axes or axes_of(named), source.shape, str(place))
    coords: dict[str, xr.Variable] = {}
    channels: tuple[str, ...] = ()
    if group is not None and named is not None:
        for letter, name, size in zip(letters, named, source.shape, strict=True):
            values, unit = _values_along(place, group, name, size)
            if values is not None and letter == "c":
                channels = tuple(str(value) for value in values)
            elif values is not None and (made := coordinate(letter, name, values, unit)) is not None:
                coords[letter] = made
    data, label, slow = _one_channel(source, array, letters, channels, wanted)
    return Opened(data, channel=label, coords=coords, attrs=attrs if group is not None else {}, notes=(*notes, *slow))


def _values_along(place: Place, group: zarr.Group, name: str, size: int) -> tuple[np.ndarray | None, Any]:
    """Return the coordinates along a dim that its group stores under the name of the dim, and their unit."""
    import zarr

    array = group.get(name)
    if not isinstance(array, zarr.Array) or array.shape != (size,):
        return None, None
    return np.asarray(decodable(array, place)[:]), array.attrs.get("units")


def _one_channel(
    source: ZarrSource, array: zarr.Array[Any], letters: str, names: tuple[str, ...], wanted: _Wanted
) -> tuple[da.Array, int | str | None, tuple[UserWarning, ...]]:
    """Return the channel that the caller wants, lazily, in blocks of whole shards along t, and what it is called."""
    place = Place(source.root, source.inner)
    number, label = choose_channel(wanted.channel, letters, source.shape, names, place)
    stored = [(array.shards or array.chunks)[dim] for dim in source.kept]
    data, slow = lazy_chunked(source, stored, letters, wanted.chunks, number, str(place))
    return data, label, slow


def _read_ome(place: Place, group: zarr.Group, image: Mapping[str, Any], wanted: _Wanted) -> Opened:
    """Open the first level, of full size, of an image that OME metadata describe."""
    import zarr

    name = str(image["datasets"][0]["path"])
    below = place.within(name)
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise NiddlError(f"the OME metadata of {place} name the array {name!r}, which is not in the store")
    source = make_source(below, decodable(array, below), range(array.ndim))
    letters, stated = stated_axes(image, array.ndim)
    notes: tuple[UserWarning, ...] = ()
    coords: dict[str, xr.Variable] = {}
    if wanted.axes is not None:
        letters = require_axes(wanted.axes, array.ndim, str(below))
    elif letters is None:
        letters, notes = default_axes(None, array.shape, str(below))
    else:
        coords = coordinates(image, letters, stated, array.shape)
    names = channel_names(dict(group.attrs))
    data, label, slow = _one_channel(source, array, letters, names, wanted)
    attrs = {"channels": list(names)} if names else {}
    return Opened(data, channel=label, coords=coords, attrs=attrs, notes=(*notes, *slow))
