"""The store: a recording as zarr 3 with an OME-Zarr pyramid, written one region at a time.

::

    worm7.zarr/             OME-NGFF 0.5 metadata; what the store is made from
      s0/   t z y x F       the recording: an ordinary xarray Dataset
      s1/ …                 means of 2×2 pixels of the level above
      ledger/done           1 for every region that is completely written (2 if a level of it is all zero)

One shard holds one region (a block of frames with whole z, y, x), and the regions are the unit of work: a shard that
two tasks wrote to would lose planes in silence. Chunks that hold only zeros are not stored, so that their absence
says nothing: the ledger does. A region is complete if it is ticked and its shards are still there.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import REGION_BYTES, Region, frames_within, regions
from niddl_xr.schema import RECORDING_DIMS, VARIABLE, NiddlError, require_recording

if TYPE_CHECKING:
    import zarr

SMALLEST_LEVEL_PX = 256  # the pyramid ends where a plane fits a thumbnail of this edge
FEWEST_REGIONS = 8  # so that a short recording, too, can be resumed and spread over workers
INNER_CHUNK_BYTES = 2**20  # whole volumes become one chunk up to this size, else planes
FULL_SIZE = "s0"  # the group of the whole recording
_LEDGER = "ledger/done"
_ZEROS = 2  # the tick of a region of which zarr stored no shard, because all of it is zero
_JOB = "niddl_job"
_OME_UNITS = {"s": "second", "µm": "micrometer"}
_OME_TYPES = {"t": "time", "z": "space", "y": "space", "x": "space"}


def level_shapes(shape: tuple[int, ...], pyramid: bool) -> list[tuple[int, int, int, int]]:
    """Return the shape (t, z, y, x) of every pyramid level; planes halve until their edges are at most 256 px."""
    t, z, y, x = shape
    shapes = [(t, z, y, x)]
    while pyramid and max(y, x) > SMALLEST_LEVEL_PX and min(y, x) >= 2:
        y, x = y // 2, x // 2
        shapes.append((t, z, y, x))
    return shapes


def frames_per_region(shape: tuple[int, ...], itemsize: int) -> int:
    """Return the frames of a region of a store: 16 MiB of pixels, and at least eight regions where frames allow."""
    return min(frames_within(shape[1:], itemsize, REGION_BYTES), max(1, shape[0] // FEWEST_REGIONS))


def halved(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return means of 2×2 pixels of a block (t, z, y, x); an odd last row or column is dropped."""
    height, width = block.shape[2] // 2 * 2, block.shape[3] // 2 * 2
    even = block[:, :, :height, :width]
    wide = np.float64 if dtype.itemsize > 4 else np.float32
    mean: np.ndarray[Any, np.dtype[np.floating]] = even[:, :, ::2, ::2].astype(wide)
    for rows, columns in ((0, 1), (1, 0), (1, 1)):
        mean += even[:, :, rows::2, columns::2]
    mean /= 4
    return np.rint(mean).astype(dtype) if dtype.kind in "ui" else mean.astype(dtype)


def create_store(path: Path, like: xr.DataArray, dtype: np.dtype, job: Mapping[str, Any], *, pyramid: bool) -> None:
    """Lay out an empty store for a recording with the shape, coordinates and attributes of ``like``.

    ``job`` names what fills it; :func:`unfinished_regions` compares it before a store is continued.
    """
    import zarr
    from zarr.codecs import BloscCodec

    _require_coordinates(like)
    shapes = level_shapes(like.shape, pyramid)
    extra = _storable_coordinates(like)
    length = frames_per_region(like.shape, dtype.itemsize)
    root = zarr.create_group(path, attributes={"ome": _ome_metadata(like, len(shapes)), _JOB: dict(job)})
    codec = BloscCodec(typesize=dtype.itemsize, cname="zstd", clevel=3, shuffle="bitshuffle")
    for level, shape in enumerate(shapes):
        group = root.create_group(f"s{level}")
        for dim, size in zip(RECORDING_DIMS, shape, strict=True):
            values = _level_coordinate(like[dim], level, size)
            coordinate = group.create_array(
                dim, data=values, chunks=values.shape, dimension_names=[dim], compressors=None
            )
            coordinate.attrs.update(_json_attributes(like[dim].attrs))
        here = {name: c for name, c in extra.items() if level == 0 or not {"y", "x"} & set(c.dims)}
        for name, coord in here.items():
            written = group.create_array(
                name, data=coord.values, dimension_names=[str(dim) for dim in coord.dims], compressors=None
            )
            written.attrs.update(_json_attributes(coord.attrs))
        volume_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        chunk = (1, *shape[1:]) if volume_bytes <= INNER_CHUNK_BYTES else (1, 1, *shape[2:])
        group.create_array(
            VARIABLE,
            shape=shape,
            dtype=dtype,
            chunks=chunk,
            shards=(length, *shape[1:]),
            compressors=[codec],
            dimension_names=RECORDING_DIMS,
            attributes=_json_attributes(like.attrs) | ({"coordinates": " ".join(here)} if here else {}),
        )
    count = len(regions(like.sizes["t"], length))
    root.create_array(
        _LEDGER,
        shape=(count,),
        dtype="u1",
        chunks=(1,),
        compressors=None,
        config={"write_empty_chunks": True},
        dimension_names=["region"],
    )
    with warnings.catch_warnings():  # zarr warns that its format 3 has no consolidated metadata yet; xarray reads it
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        for group_path in (*(f"s{level}" for level in range(len(shapes))), ""):
            zarr.consolidate_metadata(str(path), path=group_path)


def _require_coordinates(recording: xr.DataArray) -> None:
    """OME metadata and the store hold coordinates that are numbers and increase."""
    for dim in RECORDING_DIMS:
        values = recording[dim].values
        if values.dtype.kind not in "uif" or not np.all(np.isfinite(values)):
            raise NiddlError(
                f"expected finite numbers as the coordinate {dim}, got {values.dtype}; set it with assign_coords"
            )
        if dim != "t" and np.any(np.diff(values) <= 0):  # joined recordings may begin their time anew
            raise NiddlError(f"expected the coordinate {dim} to increase, as OME-Zarr needs; see DataArray.sortby")


def _storable_coordinates(recording: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the coordinates beside t, z, y, x that a store can hold; what it cannot hold is said."""
    extra = {str(name): coord for name, coord in recording.coords.items() if name not in RECORDING_DIMS}
    kept = {name: coord for name, coord in extra.items() if coord.dtype.kind in "uifb"}
    if lost := sorted(set(extra) - set(kept)):
        warnings.warn(f"the coordinates {', '.join(lost)} are no numbers and are not stored", stacklevel=2)
    return kept


def _level_coordinate(coordinate: xr.DataArray, level: int, size: int) -> np.ndarray:
    values = np.asarray(coordinate.values)
    if level and coordinate.dims[0] in ("y", "x"):
        # The centre of the pixels that were averaged.
        values = values[: size * 2**level].reshape(size, 2**level).mean(axis=1)
    return values


def _json_attributes(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return value.tolist()
        return str(value)

    result: dict[str, Any] = json.loads(json.dumps({str(key): value for key, value in attrs.items()}, default=plain))
    return result


def _ome_metadata(recording: xr.DataArray, levels: int) -> dict[str, Any]:
    """Return OME-NGFF 0.5 metadata (ngff.openmicroscopy.org/0.5) for a recording and its pyramid."""
    axes, scale, origin = [], [], []
    for dim in RECORDING_DIMS:
        values = recording[dim].values
        unit = _OME_UNITS.get(recording[dim].attrs.get("units", ""))
        axes.append({"name": dim, "type": _OME_TYPES[dim], **({"unit": unit} if unit else {})})
        scale.append(_step(values))
        origin.append(float(values[0]))
    datasets = []
    for level in range(levels):
        factor = [1, 1, 2**level, 2**level]
        shift = [(f - 1) / 2 * s for f, s in zip(factor, scale, strict=True)]
        datasets.append(
            {
                "path": f"s{level}/{VARIABLE}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [s * f for s, f in zip(scale, factor, strict=True)]},
                    {"type": "translation", "translation": [o + d for o, d in zip(origin, shift, strict=True)]},
                ],
            }
        )
    name = str(recording.attrs.get("source", VARIABLE))
    return {"version": "0.5", "multiscales": [{"name": Path(name).name, "axes": axes, "datasets": datasets}]}


def _step(values: np.ndarray) -> float:
    """Return the spacing of a coordinate: of the whole where it is even, else the median; 1 for a single value."""
    if len(values) < 2:
        return 1.0
    even = (values[-1] - values[0]) / (len(values) - 1)  # free of the rounding that neighbours have
    steps = np.diff(values)
    step = float(even if np.allclose(steps, even, rtol=1e-6) else np.median(steps))
    return step if step > 0 else 1.0


def is_store(path: Path) -> bool:
    """Whether a folder is a store of niddl_xr, finished or not."""
    parts = ("", f"{FULL_SIZE}/{VARIABLE}", _LEDGER)
    return all((path / part / "zarr.json").is_file() for part in parts)


def unfinished_regions(path: Path, job: Mapping[str, Any]) -> list[Region]:
    """Return the regions of an existing store that are still to be written by ``job``.

    Raises
    ------
    FileExistsError
        If the folder is no store, or was made by another job; nothing is changed.
    """
    if not is_store(path):
        raise FileExistsError(f"{path} exists and is no recording of niddl_xr; choose another path")
    import zarr

    root = zarr.open_group(str(path), mode="r")
    made_by = dict(root.attrs).get(_JOB)
    if made_by != dict(job):
        before: Mapping[str, Any] = made_by if isinstance(made_by, dict) else {}
        differing = sorted(key for key in {*before, *job} if before.get(key) != job.get(key))
        raise FileExistsError(
            f"{path} exists and was made from something else ({', '.join(differing)} differ); "
            "choose another path, or remove it yourself"
        )
    done = _complete(path)
    return [region for region in all_regions(path) if not done[region.index]]


def all_regions(path: Path) -> list[Region]:
    """Return every region of a store."""
    array = _array(path, f"{FULL_SIZE}/{VARIABLE}")
    assert array.shards is not None  # create_store always shards
    return regions(array.shape[0], array.shards[0])


def _array(path: Path, name: str, *, write: bool = False) -> zarr.Array[Any]:
    import zarr

    array: zarr.Array[Any] = zarr.open_array(str(path), path=name, mode="r+" if write else "r")
    return array


def _levels(path: Path) -> list[str]:
    """Return the groups of all levels, as the OME metadata name them."""
    import zarr

    ome: Any = zarr.open_group(str(path), mode="r").attrs["ome"]
    return [dataset["path"].split("/")[0] for dataset in ome["multiscales"][0]["datasets"]]


@lru_cache(maxsize=4)
def _for_writing(path: Path, made_ns: int) -> tuple[list[str], list[zarr.Array[Any]], zarr.Array[Any]]:
    """Return the names and arrays of all levels, and the ledger; kept, because opening them costs 2 ms a region."""
    levels = _levels(path)
    arrays = [_array(path, f"{level}/{VARIABLE}", write=True) for level in levels]
    return levels, arrays, _array(path, _LEDGER, write=True)


def _shards_exist(path: Path, levels: list[str], index: int) -> bool:
    return all((path / level / VARIABLE / "c" / str(index) / "0" / "0" / "0").is_file() for level in levels)


def _complete(path: Path) -> np.ndarray:
    """Return for every region whether it is ticked, and its shards are still there at every level."""
    ledger, levels = np.asarray(_array(path, _LEDGER)[:]), _levels(path)
    return np.array([tick == _ZEROS or (tick == 1 and _shards_exist(path, levels, i)) for i, tick in enumerate(ledger)])


def write_region(path: Path, region: Region, block: np.ndarray) -> None:
    """Write one region (t, z, y, x) at every level, then tick the ledger.

    Raises
    ------
    NiddlError
        If the block is not exactly the region: a partial shard would lose what the rest of it holds.
    OSError
        If the disk is full or read-only; the region is then not ticked and will be written again.
    """
    levels, arrays, ledger = _for_writing(path, (path / "zarr.json").stat().st_mtime_ns)
    base = arrays[0]
    expected = (len(region), *base.shape[1:])
    aligned = base.shards is not None and region.start == region.index * base.shards[0]
    if block.shape != expected or not aligned:
        raise NiddlError(
            f"expected a block {expected} that starts on a shard of {base.shards} for region {region.index}, "
            f"got {block.shape} at frame {region.start}"
        )
    try:
        for array in arrays:
            if array is not base:
                block = halved(block, array.dtype)
            array[region.start : region.stop] = block
        whole = _shards_exist(path, levels, region.index)
        ledger[region.index] = 1 if whole else _ZEROS
    except OSError as error:
        done = int(_complete(path).sum())
        raise OSError(
            error.errno,
            f"region {region.index} of {path} could not be written ({error.strerror}); {done} regions are complete "
            "and stay: make room or mend the disk, then make the same call again to do the rest",
        ) from error


def require_finished(path: Path) -> None:
    """Raise an error that counts the regions if a store is not complete."""
    done = _complete(path)
    if not done.all():
        raise NiddlError(
            f"{path} is unfinished: {int(done.sum())} of {done.size} regions are written; "
            "make the call that began it (denoise, save) again to finish it"
        )


def open_store(path: str | os.PathLike[str]) -> xr.DataArray:
    """Open a finished store as a lazy recording, one dask block a region.

    Raises
    ------
    NiddlError
        If regions are missing.
    """
    folder = Path(path)
    require_finished(folder)
    array = _array(folder, f"{FULL_SIZE}/{VARIABLE}")
    assert array.shards is not None
    chunks = dict(zip(RECORDING_DIMS, array.shards, strict=True))
    stored = xr.open_zarr(str(folder), group=FULL_SIZE, chunks=None)[VARIABLE]
    recording = stored.copy(data=stored.variable.chunk(chunks).data)  # the coordinates stay as they are
    # The file's chunking is the file's affair: kept, it would make the next writer fail or lose planes.
    recording.encoding = {}
    return require_recording(recording.assign_attrs(source=str(folder.absolute())))
