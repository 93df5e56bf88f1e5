"""An image series of an NWB file, of any version of the schema and with any extension, read with h5py alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._chunked import lazy_chunked
from niddl_xr.recordings.readers._hdf5 import (
    MOST_LISTED,
    attribute,
    follow,
    holds_counts,
    is_hdf5,
    names_of,
    number,
    numbers,
    opened,
    root_has,
    small,
    source,
)
from niddl_xr.recordings.readers._lazy import choose_channel, require_axes
from niddl_xr.recordings.readers._nwb_metadata import PLANES, Stated, kind_of, leaf, of_channel, stated_of
from niddl_xr.schema import MissingMetadataWarning, NiddlError

if TYPE_CHECKING:
    import h5py

READER = Reader(
    "an image series of an NWB file, of any version of its schema",
    suffixes=(".nwb",),
    needs=("h5py",),
    options=("series",),
)
_IMAGES = ("ImageSeries", "PhotonSeries", "OpticalSeries", "MicroscopySeries", "ImageMaskSeries", "VolumeSeries")
_VOLUME = "MultiChannelVolume"  # a still volume of ndx-multichannel-volume, without time


@dataclass(frozen=True)
class _Series:
    """What may be a movie: a group with ``data``, or with the names of the files that hold its frames."""

    group: h5py.Group
    kind: str
    shape: tuple[int, ...] | None  # None where its data lie in another file
    external: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.group.name} ({self.kind}) {self.shape or 'in another file'}"


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is HDF5 and calls itself NWB, by its version (2.x or 1.0.x) or its suffix."""
    return (is_hdf5(head) and path.suffix.lower() == ".nwb") or root_has(path, head, "nwb_version")


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, series: str | None = None) -> Opened:
    """Open an image series of an NWB file lazily.

    Parameters
    ----------
    path
        The file. Only the HDF5 flavour of NWB; frames are read from this file alone.
    axes
        Letters of the dims of the series, in place of what follows. The schema defines ``data`` of TwoPhotonSeries,
        OnePhotonSeries and ImageSeries as (time, width, height[, depth]), which is ``"txy"`` or ``"txyz"``, and
        NeuroConv and the writers of NeuroPAL recordings of worms keep to it. Others store (time, height, width). So
        the number of pixels that the file states along x, y and z (``dimension``, or ``field_of_view`` over
        ``grid_spacing``) decides where it fits one order only; else the order of the schema is taken, with a
        warning. MicroscopySeries (ndx-microscopy) is (frame, height, width[, depth]) by definition,
        MultiChannelVolumeSeries (ndx-multichannel-volume) (frame, x, y, z[, channel]).
    channel, chunks
        See :func:`niddl_xr.open_recording`. Names of channels are those of ``order_optical_channels``.
    series
        Name of the series, or its path in the file; by default the only one that holds images.

    Returns
    -------
    Opened
        Counts as stored: ``conversion`` and ``offset`` of the series are not applied, and are in the attributes
        where they are not 1 and 0. Voxel size from ``grid_spacing`` of the imaging plane or volume, else from
        ``field_of_view`` or ``manifold``; times from ``timestamps``, or ``rate`` and ``starting_time``, in s since
        ``acquired``, the start of the session.

    Raises
    ------
    NiddlError
        Where the file holds no movie (the message lists what it holds), several of them, or one whose frames are
        in other files; for a damaged file.
    """
    with opened(path) as file:
        chosen = _choose(path, file, series)
        data = follow(chosen.group, "data", strict=True)
        found, notes = source(path, data)
        stated = stated_of(chosen.group, file)
        letters, warned = _axes(axes, chosen, found.shape, stated, path)
        frames = found.shape[letters.index("t")] if "t" in letters else 1
        dt_s, t_s, doubts = _times(chosen.group, frames, path)
    picked, label = choose_channel(channel, letters, found.shape, stated.channels, path)
    values, slow = lazy_chunked(found, found.chunk, letters, chunks, picked, f"{found.name} of {path}")
    return Opened(
        values,
        voxel_um=stated.voxel_um,
        dt_s=dt_s,
        t_s=t_s,
        channel=label,
        attrs=of_channel(stated.attrs, picked),
        notes=(*notes, *warned, *doubts, *slow),
    )


def _choose(path: Path, file: h5py.File, name: str | None) -> _Series:
    found = list(_image_series(file))
    listed = "; ".join(map(str, found[:MOST_LISTED])) or "none"
    if name is not None:
        named = [item for item in found if name.strip("/") in (item.group.name.strip("/"), leaf(item.group))]
        if len(named) != 1:
            raise NiddlError(f"{path} has {len(named)} image series {name!r}; its image series: {listed}")
        found = named
    movies = [item for item in found if item.kind != _VOLUME] or found
    movies = [item for item in movies if not item.external] or movies
    if not movies:
        raise NiddlError(f"{path} holds no movie, no series of images; its time series: {_time_series(file)}")
    if len(movies) > 1:
        raise NiddlError(f"{path} has {len(found)} image series; choose one with series=: {listed}")
    if movies[0].external:
        raise NiddlError(_elsewhere(path, movies[0]))
    return movies[0]


def _elsewhere(path: Path, series: _Series) -> str:
    names = [str(name) for name in series.external]
    beside = [path.parent / Path(name).name for name in names if (path.parent / Path(name).name).is_file()]
    where = f"open {', '.join(map(str, beside))}" if len(beside) == len(names) else "find and open these"
    return f"the frames of {series.group.name} of {path} are in other files, {', '.join(names)[:300]}: {where}"


def _groups(file: h5py.File) -> Iterator[tuple[h5py.Group, str]]:
    import h5py

    for name in names_of(file, h5py.h5o.TYPE_GROUP):
        if name.startswith(b"specifications"):
            continue
        group = file[name]
        kind = kind_of(group)
        if kind:
            yield group, kind


def _image_series(file: h5py.File) -> Iterator[_Series]:
    import h5py

    for group, kind in _groups(file):
        if not (kind.endswith(_IMAGES) or kind == _VOLUME or any(name in group for name in PLANES)):
            continue
        names = small(follow(group, "external_file")) if "external_file" in group else None
        external = tuple(str(name) for name in np.atleast_1d(names)) if names is not None else ()
        link = group.get("data", getlink=True)
        if isinstance(link, h5py.ExternalLink):
            yield _Series(group, kind, None, (link.filename,))
            continue
        data = follow(group, "data") if link is not None else None
        shape = data.shape if isinstance(data, h5py.Dataset) and holds_counts(data) else ()
        if shape is not None and len(shape) >= 3 and 0 not in shape:
            yield _Series(group, kind, shape, ())
        elif external:
            yield _Series(group, kind, None, external)


def _time_series(file: h5py.File) -> str:
    """Return names, types and shapes of the time series and tables of a file for a message."""
    import h5py

    found = []
    for group, kind in _groups(file):
        item = follow(group, "data")
        if isinstance(item, h5py.Dataset):
            found.append((item.shape or (), f"{group.name} ({kind}) {item.shape}"))
        elif kind.endswith("Series"):
            found.append(((), f"{group.name} ({kind}) without data"))
    listed = [line for _, line in sorted(found, key=lambda item: -len(item[0]))]
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return ("; ".join(listed[:MOST_LISTED]) or "none") + more


def _axes(
    given: str | None, series: _Series, shape: tuple[int, ...], stated: Stated, path: Path
) -> tuple[str, tuple[UserWarning, ...]]:
    """Return the axes of a series, with a warning where the file leaves open which of x and y comes first."""
    where = f"the series {series.group.name} of {path} with shape {shape}"
    if given is not None:
        return require_axes(given, len(shape), where), ()
    if series.kind == _VOLUME:
        return require_axes("xyzc"[: len(shape)], len(shape), where), ()
    if series.kind.endswith("MicroscopySeries") and len(shape) in (3, 4):
        return "tyxz"[: len(shape)], ()
    space = "xyz"[: min(len(shape) - 1, 3)]
    schema = "t" + space + ("c" if len(shape) == 5 else "")
    if len(schema) != len(shape):
        raise NiddlError(f"{where} has {len(shape)} dims, expected 3 to 5: set axes=, such as axes='txyzc'")
    pixels = _pixels(series.group, stated)
    fitting = [
        order
        for order in itertools.permutations(space)
        if len(pixels) >= len(space) and all(shape[1 + at] == pixels["xyz".index(dim)] for at, dim in enumerate(order))
    ]
    if len(fitting) == 1:
        return "t" + "".join(fitting[0]) + schema[1 + len(space) :], ()
    swapped = schema.replace("xy", "yx")
    text_ = (
        f"{where} is taken as {schema!r}, the order of the NWB schema; many writers store {swapped!r}: set axes= if "
        "x and y are exchanged"
    )
    return schema, (MissingMetadataWarning(text_),)


def _pixels(group: h5py.Group, stated: Stated) -> list[int]:
    """Return the number of pixels along x, y (and z) that the file states; empty where it does not."""
    dimension = numbers(small(follow(group, "dimension")))
    if len(dimension) in (2, 3):
        return [*(round(size) for size in dimension), 1][:3]
    extent = numbers(small(follow(group, "field_of_view")))
    spacing = [stated.voxel_um.get(dim, 0.0) for dim in "xyz"]
    if len(extent) in (2, 3) and all(spacing[: len(extent)]):
        return [*(round(size * 1e6 / step) for size, step in zip(extent, spacing, strict=False)), 1][:3]
    return []


def _times(
    group: h5py.Group, frames: int, path: Path
) -> tuple[float | None, np.ndarray | None, tuple[UserWarning, ...]]:
    """Return the time step in s, or the time of every frame in s, or neither, and what is wrong with them."""
    import h5py

    stamps = follow(group, "timestamps")
    if isinstance(stamps, h5py.Dataset):
        if stamps.size != frames or max(stamps.shape, default=0) != frames:  # MATLAB may write a row or a column
            text_ = f"{group.name} of {path} has {frames} frames, but timestamps of shape {stamps.shape}: set dt_s="
            return None, None, (MissingMetadataWarning(text_),)
        source(path, stamps)
        times = np.asarray(stamps[()], dtype=float).ravel()
        if not np.all(np.isfinite(times)):
            text_ = f"{group.name} of {path} has timestamps that are no numbers: set dt_s="
            return None, None, (MissingMetadataWarning(text_),)
        return None, times, ()
    start = follow(group, "starting_time")
    if not isinstance(start, h5py.Dataset):
        return None, None, ()
    rate, began = number(attribute(start, "rate")), number(small(start)) or 0.0
    if rate is None or rate <= 0:
        return None, None, ()
    return (1 / rate, None, ()) if began == 0 else (None, began + np.arange(frames) / rate, ())
