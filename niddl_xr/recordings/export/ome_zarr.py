"""OME-Zarr 0.4, for tools that do not read 0.5 yet."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._blocks import Cast, display_window, frame_blocks
from niddl_xr.recordings.export._calibration import Calibration, calibration_of
from niddl_xr.schema import NiddlError
from niddl_xr.store import INNER_CHUNK_BYTES, halved, level_shapes

if TYPE_CHECKING:
    import zarr

WRITER = Writer(
    "OME-Zarr 0.4",
    suffixes=(".ome.zarr",),
    takes=("recording",),
    needs=("zarr",),
    options=("dtype", "pyramid", "image_name"),
    folder=True,
)
_DTYPES = (*(f"{kind}int{bits}" for kind in ("u", "") for bits in (8, 16, 32, 64)), "float32", "float64")
_AXES = "tczyx"
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")  # of channels, in turn
_GREY = "FFFFFF"


def write(
    channels: Mapping[str, xr.DataArray],
    path: Path,
    *,
    progress: bool,
    dtype: Any = None,
    pyramid: bool = True,
    image_name: str | None = None,
) -> None:
    """Write channels as OME-Zarr 0.4: zarr format 2, five dims (t, c, z, y, x), one file a chunk.

    All five dims are there even where their size is 1, because MoBIE, BigDataViewer and several web viewers expect
    them. Levels are means of 2×2 pixels, as in the store of niddl_xr. A step of t that is not even is the median, and
    the times are kept in the attributes; a warning says so. NaN pixels are kept.

    Parameters
    ----------
    channels
        Recordings (t, z, y, x) by channel name.
    path
        Folder to make.
    progress
        Show a progress bar.
    dtype
        Integers of 8 to 64 bits, float32 or float64; default as it is.
    pyramid
        Add levels of half the size in y and x until a plane is at most 256 px wide.
    image_name
        Name of the image; default the name of the file that the recording came from.
    """
    import zarr

    cast = Cast(list(channels.values()), dtype, _DTYPES, "OME-Zarr")
    first = next(iter(channels.values()))
    calibration = calibration_of(first)
    odd = calibration.uneven + calibration.falling
    if odd:
        warnings.warn(
            f"OME-Zarr has one positive step a dim: that of {', '.join(odd)} is the median size of the steps; the "
            "coordinates are in the attributes of the group, under niddl_xr",
            stacklevel=4,
        )
    shapes = level_shapes(first.shape, pyramid)
    name = image_name or Path(str(first.attrs.get("source", "recording"))).name
    attributes = {
        "multiscales": [_multiscale(first, calibration, len(shapes), name)],
        "omero": _omero(channels, name, cast.dtype),
        "niddl_xr": _attributes(channels, calibration),
    }
    root = zarr.create_group(path, zarr_format=2, attributes=attributes)
    arrays = [_level(root, level, shape, len(channels), cast.dtype) for level, shape in enumerate(shapes)]
    for region, blocks in frame_blocks(list(channels.values()), progress=progress, description="export"):
        for number, block in enumerate(blocks):
            values = cast(block)
            for level, array in enumerate(arrays):
                if level:
                    values = halved(values, cast.dtype)
                array[region.start : region.stop, number] = values
    cast.say()


def _level(root: zarr.Group, level: int, shape: tuple[int, ...], channels: int, dtype: np.dtype[Any]) -> Any:
    from numcodecs import Blosc

    t, z, y, x = shape
    depth = z if z * y * x * dtype.itemsize <= INNER_CHUNK_BYTES else 1
    shuffle = Blosc.BITSHUFFLE if dtype.kind in "ui" else Blosc.SHUFFLE
    return root.create_array(
        str(level),
        shape=(t, channels, z, y, x),
        chunks=(1, 1, depth, y, x),
        dtype=dtype,
        compressors=Blosc("zstd", 3, shuffle),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        fill_value=0,
        attributes={"_ARRAY_DIMENSIONS": list(_AXES)},
    )


def _multiscale(first: xr.DataArray, calibration: Calibration, levels: int, name: str) -> dict[str, Any]:
    """Return ``multiscales`` of ngff.openmicroscopy.org/0.4; dims without unit have steps of 1."""
    axes: list[dict[str, Any]] = []
    scale, origin = [], []
    for dim in _AXES:
        unit = None
        step, start = 1.0, 0.0
        if dim == "t" and calibration.t_s is not None:
            unit, start = "second", float(calibration.t_s[0])
            step = calibration.dt_s or _median_step(calibration.t_s)
        elif dim in calibration.origin_um:
            unit, start = "micrometer", calibration.origin_um[dim]
            step = calibration.voxel_um.get(dim) or _median_step(np.asarray(first[dim].values, dtype=float))
        axes.append({"name": dim, "type": _TYPES[dim], **({"unit": unit} if unit else {})})
        scale.append(step)
        origin.append(start)
    datasets = []
    for level in range(levels):
        factors = [2.0**level if dim in "yx" else 1.0 for dim in _AXES]
        # The centre of the first pixel moves by half of what its width grows.
        shift = [start + (factor - 1) / 2 * step for start, factor, step in zip(origin, factors, scale, strict=True)]
        transformations = [
            {"type": "scale", "scale": [step * factor for step, factor in zip(scale, factors, strict=True)]},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    return {
        "version": "0.4",
        "name": name,
        "axes": axes,
        "datasets": datasets,
        "type": "mean",
        "metadata": {"description": "means of 2×2 pixels of the level above", "method": "niddl_xr.store.halved"},
    }


def _median_step(values: np.ndarray) -> float:
    step = float(np.median(np.abs(np.diff(values)))) if values.size > 1 else 1.0
    if not math.isfinite(step):
        raise NiddlError("expected finite coordinates; set them with assign_coords")
    return step if step > 0 else 1.0


def _omero(channels: Mapping[str, xr.DataArray], name: str, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return how viewers show the channels: the window is taken from a sample of planes."""
    shown = []
    for number, (label, channel) in enumerate(channels.items()):
        start, end = display_window(channel)
        low, high = (start, end) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        shown.append(
            {
                "label": label or f"channel {number}",
                "color": _COLOURS[number % len(_COLOURS)] if len(channels) > 1 else _GREY,
                "window": {"min": float(low), "max": float(high), "start": start, "end": end},
                "active": True,
                "coefficient": 1,
                "family": "linear",
                "inverted": False,
            }
        )
    first = next(iter(channels.values()))
    model = "color" if len(channels) > 1 else "greyscale"
    return {
        "version": "0.4",
        "name": name,
        "channels": shown,
        "rdefs": {"defaultT": 0, "defaultZ": first.sizes["z"] // 2, "model": model},
    }


def _attributes(channels: Mapping[str, xr.DataArray], calibration: Calibration) -> dict[str, Any]:
    """Return what has no other place: attributes by channel, and coordinates that are uneven."""
    first = next(iter(channels.values()))
    by_channel = {label or str(number): dict(item.attrs) for number, (label, item) in enumerate(channels.items())}
    odd = {dim: first[dim].values.tolist() for dim in calibration.uneven + calibration.falling}
    text = json.dumps({"attributes": by_channel, "coordinates": odd}, default=_plain)
    # NaN and infinity, which JSON does not have, as text.
    kept: dict[str, Any] = json.loads(text, parse_constant=str)
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else str(value)
